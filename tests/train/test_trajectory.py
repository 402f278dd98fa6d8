"""Thirty steps of the released PyTorch model (golden.py, tiny_trajectory) through our own step."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from omnivore_jax.core.tree import flatten, unflatten
from omnivore_jax.core.types import Batch
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.params import abstract_model
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.model.variants import model_config
from omnivore_jax.tasks.classification import ClassificationTask
from omnivore_jax.train.mesh import MeshConfig, make_mesh
from omnivore_jax.train.mix import MixConfig
from omnivore_jax.train.optimizer import OptimizerConfig
from omnivore_jax.train.recipe import Recipe, TrainDataset
from omnivore_jax.train.state import state_from
from omnivore_jax.train.step import Trainer, make_train_step
from tests.golden.golden import HEADS, fill_array

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "tiny_trajectory.npz")
META = json.loads(str(GOLDEN["__meta__"]))
LEAVES = {"kernel": "weight", "scale": "weight"}
OFFSET, RANGE = 8.0, 16.0
"""Disparity is clamped to above 0.

The golden inputs are moved there, and standardising moves them back.
"""


def torch_name(path: str) -> str:
    *owner, leaf = path.split(".")
    name = ".".join([*owner, LEAVES.get(leaf, leaf)])
    name = name.replace("heads.video.", "heads.video.1.")
    return name.removesuffix(".joint")


def to_jax(array: np.ndarray) -> np.ndarray:
    """Torch's (out, in) and (out, in, t, h, w) to (in, out) and (t, h, w, in, out)."""
    return array.T if array.ndim == 2 else np.moveaxis(array, (0, 1), (-1, -2))


def fill(path: str, shape: tuple[int, ...]) -> np.ndarray:
    if not path.endswith("kernel"):
        return fill_array(torch_name(path), shape, "fanin")
    torch_shape = shape[::-1] if len(shape) == 2 else (shape[-1], shape[-2], *shape[:-2])
    return to_jax(fill_array(torch_name(path), torch_shape, "fanin"))


def batches():
    """The golden inputs as batches that standardising turns back into them."""
    rng = np.random.default_rng(META["seed"])
    for step in range(META["total"]):
        name = META["order"][step % len(META["order"])]
        x = rng.standard_normal(META["shapes"][name]).astype(np.float32)
        label = rng.integers(0, HEADS[name], len(x)).astype(np.int32)
        x = np.moveaxis(x, 1, -1)
        disparity = x[..., 3:] + np.float32(OFFSET) if name == "rgbd" else None
        yield {name: Batch(x[..., :3] * np.float32(255), disparity, label, np.ones(len(x), bool))}


@pytest.fixture(scope="module")
def trajectory():
    identity = Preprocessing((0.0,) * 3, (1.0,) * 3, RANGE, OFFSET / RANGE, 1 / RANGE)
    smoothing = META["label_smoothing"]
    datasets = {
        name: TrainDataset(
            ClassificationTask(name, HEADS[name], smoothing),
            Recipe(mixup=0.0, cutmix=0.0),
            identity,
        )
        for name in META["order"]
    }
    model = model_config("tiny", position_bias="joint", window_index="released")
    optimizer = OptimizerConfig(
        peak=META["peak"],
        betas=tuple(META["betas"]),
        eps=META["eps"],
        decay=META["weight_decay"],
        ema=META["ema_decay"],
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    trainer = Trainer(
        model, Compute(), datasets, optimizer, MixConfig(), mesh, META["total"], seed=0
    )
    step = make_train_step(trainer)
    shapes = flatten(abstract_model(model, trainer.heads)[1])
    params = unflatten({path: fill(path, leaf.shape) for path, leaf in shapes.items()})
    state, rows = state_from(params, mesh), []
    for given in batches():
        state, metrics = step(state, given)
        rows.append(jax.device_get(metrics))
    return rows, jax.device_get(state)


def test_every_step_has_the_released_models_loss_gradient_and_learning_rate(trajectory):
    rows, _ = trajectory
    assert len(rows) == 30 and all(row["finite"] for row in rows)
    np.testing.assert_allclose([row["learning_rate"] for row in rows], GOLDEN["lr"], rtol=1e-5)
    np.testing.assert_allclose([row["loss"] for row in rows], GOLDEN["losses"], rtol=1e-5)
    np.testing.assert_allclose([row["grad_norm"] for row in rows], GOLDEN["grad_norm"], rtol=1e-4)


@pytest.mark.parametrize("part", ["params", "ema"])
def test_parameters_and_their_average_end_with_the_norms_of_the_released_model(trajectory, part):
    norms = {
        torch_name(path): np.linalg.norm(leaf)
        for path, leaf in flatten(getattr(trajectory[1], part)).items()
    }
    assert set(norms) == set(META["names"])
    key = {"params": "param_norm", "ema": "ema_norm"}[part]
    np.testing.assert_allclose([norms[name] for name in META["names"]], GOLDEN[key], rtol=1e-3)


def test_each_head_counts_its_own_steps(trajectory):
    counts = {name: int(moments.count) for name, moments in trajectory[1].opt_state.items()}
    assert counts == {
        "trunk": 30,
        "patch_embed": 30,
        "depth_patch_embed": 10,
        "heads.image": 10,
        "heads.rgbd": 10,
        "heads.video": 10,
    }
