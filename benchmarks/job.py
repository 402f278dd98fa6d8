"""What the processes of a benchmark are told: which model, which inputs, and how it is run."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.tree import flatten
from omnivore_jax.core.types import Batch
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.params import abstract_model
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.model.variants import VARIANTS, model_config
from omnivore_jax.weights.card import make_card
from omnivore_jax.weights.lazy import lazy
from omnivore_jax.weights.request import Request
from omnivore_jax.weights.safetensors import write_safetensors
from omnivore_jax.weights.torch.released import write_hub_folder

CLASSES = {"image": 1000, "video": 400, "rgbd": 19}
"""Of the head of every kind of input, which has its name."""
SPEC = Preprocessing()
RATE, DECAY, SMOOTHING, EMA = 1e-4, 0.05, 0.1, 0.9999
"""Of training: a constant learning rate, AdamW's decay, label smoothing, and the average."""
PASSES = {"forward": 1, "train": 3}
"""Of a call, in forward passes."""
WEIGHTS, HUB = "weights.safetensors", "hub"


@dataclass(frozen=True)
class Job:
    """One side of a comparison; JSON on the command line of its process."""

    side: str
    folder: str
    """Holds `WEIGHTS` and `HUB`: the same parameters, ours and as PyTorch has them."""
    cache: str
    """Folder of compiled programs."""
    mode: Literal["forward", "train"]
    kind: Literal["image", "video", "rgbd"]
    batch: int
    frames: int
    size: int
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int = 1
    attention: str = "auto"
    """Backend of ours."""

    def json(self) -> dict[str, str | int]:
        return asdict(self)

    @property
    def channels(self) -> int:
        return 4 if self.kind == "rgbd" else 3


def config_of(name: str) -> ModelConfig:
    """Looks a variant up, with or without omnivore_ before its name."""
    try:
        known = f"omnivore_{name}" if f"omnivore_{name}" in VARIANTS else name
        return model_config(known, position_bias="joint")
    except ValueError as error:
        raise UserError(f"--model: {error}") from error


def write_models(folder: Path, config: ModelConfig, kind: str) -> None:
    """Draws parameters that all count, writes them as ours and converts them for PyTorch."""
    heads = {kind: CLASSES[kind]}
    rng = np.random.default_rng(0)
    arrays = {}
    for path, leaf in flatten(abstract_model(config, heads)[1]).items():
        noise = rng.standard_normal(leaf.shape, np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if path.endswith("kernel") else 100
        array = np.float32(path.endswith("scale")) + noise / np.float32(np.sqrt(fan_in))
        arrays[path] = lazy(array)
    write_safetensors(folder / WEIGHTS, arrays, make_card(config, heads, {kind: SPEC}))
    write_hub_folder(folder / WEIGHTS, folder / HUB, Request(certificate=False))


def draw_batch(job: Job) -> Batch:
    """Draws samples as training gets them."""
    rng = np.random.default_rng(1)
    pixels = (job.batch, job.frames, job.size, job.size)
    rgb = rng.integers(0, 256, (*pixels, 3), np.uint8)
    disparity = None
    if job.kind == "rgbd":
        disparity = rng.uniform(1, SPEC.disparity_max, (*pixels, 1)).astype(np.float32)
    label = rng.integers(0, CLASSES[job.kind], job.batch).astype(np.int32)
    return Batch(rgb, disparity, label, np.ones(job.batch, bool))


def statistics_of(job: Job) -> tuple[list[float], list[float]]:
    """Mean and deviation of every channel."""
    mean, std = [*SPEC.mean, SPEC.disparity_mean], [*SPEC.std, SPEC.disparity_std]
    return mean[: job.channels], std[: job.channels]


def standardised(job: Job) -> np.ndarray:
    """The same samples as a model takes them, float32 [b, t, h, w, c]."""
    batch = draw_batch(job)
    x = batch.rgb.astype(np.float32) / 255
    if batch.disparity is not None:
        x = np.concatenate([x, batch.disparity / np.float32(SPEC.disparity_max)], -1)
    mean, std = (np.float32(row) for row in statistics_of(job))
    return (x - mean) / std
