"""A small model, three small tasks and batches cut from photographs, for the tests of the step."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
from sklearn.datasets import load_sample_image

from omnivore_jax.core.types import Batch
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.tasks.classification import ClassificationTask
from omnivore_jax.train.mesh import MeshConfig, batch_sharding, make_mesh
from omnivore_jax.train.mix import MixConfig
from omnivore_jax.train.optimizer import OptimizerConfig
from omnivore_jax.train.recipe import Recipe, TrainDataset
from omnivore_jax.train.state import abstract_state, init_state
from omnivore_jax.train.step import Trainer, make_train_step

MODEL = ModelConfig(
    name="miniature",
    embed_dim=32,
    depths=(1, 1),
    num_heads=(2, 4),
    window=(2, 2, 2),
    position_bias="joint",
    init_std=0.15,
)
FRAMES = {"pictures": 1, "clips": 4, "reliefs": 1}
CLASSES = {"pictures": 6, "clips": 4, "reliefs": 5}
SAMPLES, SIDE = 16, 16


def datasets(microbatch: int = 0, **settings) -> dict[str, TrainDataset]:
    recipe = Recipe(microbatch=microbatch, **settings)
    task = {name: ClassificationTask(name, CLASSES[name]) for name in CLASSES}
    return {
        "pictures": TrainDataset(task["pictures"], recipe),
        "clips": TrainDataset(replace(task["clips"], head_dropout=0.5), recipe),
        "reliefs": TrainDataset(task["reliefs"], replace(recipe, rgb_drop=0.5, erase=0.25)),
    }


def trainer(mesh: MeshConfig | None = None, **settings) -> Trainer:
    """On one device, unless a mesh is given."""
    placed = make_mesh(MeshConfig(), jax.devices()[:1]) if mesh is None else make_mesh(mesh)
    optimizer = OptimizerConfig(warmup=0.0, clip=1.0, ema=0.9)
    return Trainer(
        MODEL,
        Compute(drop_path=0.1),
        datasets(**settings),
        optimizer,
        MixConfig(group=6),
        placed,
        total_steps=20,
        seed=3,
    )


@cache
def step_of(mesh: MeshConfig | None = None, microbatch: int = 0):
    return make_train_step(trainer(mesh, microbatch=microbatch))


@cache
def initial():
    """The initial state, on the host."""
    ours = trainer()
    return jax.device_get(init_state(MODEL, ours.heads, ours.seed, ours.mesh))


def state_of(mesh: MeshConfig | None = None):
    """A copy of the initial state on the devices of a mesh, for a step to consume."""
    ours = trainer(mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(MODEL, ours.heads, ours.mesh))
    return jax.device_put(initial(), places)


def batch(name: str, mesh: MeshConfig | None = None, number: int = 0) -> Batch:
    """Crops of a photograph at random places; the luminance stands in for disparity."""
    rng = np.random.default_rng(number)
    photo = load_sample_image("flower.jpg")[::2, ::2]
    corners = rng.integers(0, (photo.shape[0] - 24, photo.shape[1] - 24), (SAMPLES, 2))
    crops = [
        [photo[y + t : y + t + SIDE, x + t : x + t + SIDE] for t in range(FRAMES[name])]
        for y, x in corners.tolist()
    ]
    rgb = np.array(crops)
    disparity = rgb.mean(-1, keepdims=True, dtype=np.float32) / 50 if name == "reliefs" else None
    label = rng.integers(0, CLASSES[name], SAMPLES).astype(np.int32)
    mask = np.arange(SAMPLES) < SAMPLES - 3  # the last three are padding
    return jax.device_put(Batch(rgb, disparity, label, mask), batch_sharding(trainer(mesh).mesh))


def norm(tree) -> float:
    squares = [
        np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(jax.device_get(tree))
    ]
    return float(np.sqrt(sum(squares)))
