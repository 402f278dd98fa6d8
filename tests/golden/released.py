"""The golden model.

The tiny variant as the released code builds it, with the weights of golden.py.
"""

import json
from pathlib import Path

import jax
import numpy as np

from omnivore_jax.core.tree import flatten, unflatten
from omnivore_jax.model.params import abstract_model
from omnivore_jax.model.variants import model_config
from omnivore_jax.weights.torch.names import from_torch, to_torch
from tests.golden import golden

CONFIG = model_config("tiny", position_bias="joint", window_index="released")
FILES = {"n02": "tiny.npz", "fanin": "tiny_fanin.npz"}


def arrays(fill: str) -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / FILES[fill]) as file:
        return {key: file[key] for key in file.files if key != "__meta__"}


def meta(file: str) -> dict:
    with np.load(Path(__file__).parent / file) as arrays:
        return json.loads(str(arrays["__meta__"]))


def weights(fill: str) -> dict:
    """Parameters of the golden model with the heads of the released files."""
    shapes = flatten(abstract_model(CONFIG, golden.HEADS)[1])
    named = (
        to_torch(path, np.broadcast_to(np.float32(0), leaf.shape)) for path, leaf in shapes.items()
    )
    return unflatten(
        dict(from_torch(name, golden.fill_array(name, zero.shape, fill)) for name, zero in named)
    )


def channels_last(x: np.ndarray) -> jax.Array:
    return jax.numpy.asarray(np.moveaxis(x, 1, -1))
