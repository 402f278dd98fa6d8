"""One training step, a pure function: samples of one or more datasets in, one update, figures out.

A step's loss is the mean over all its samples, whichever dataset and head they belong to.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from omnivore_jax.core.memory import in_order
from omnivore_jax.core.types import Batch
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.params import abstract_model, merge
from omnivore_jax.tasks.base import Sums, heads
from omnivore_jax.train import optimizer as opt
from omnivore_jax.train.accumulate import accumulate
from omnivore_jax.train.groups import active_groups, join_groups, split_groups
from omnivore_jax.train.inputs import Inputs, make_supply, micro_batch
from omnivore_jax.train.keys import dataset_key
from omnivore_jax.train.mesh import batch_shards, shardings
from omnivore_jax.train.microbatch import split_batch
from omnivore_jax.train.mix import MixConfig
from omnivore_jax.train.optimizer import OptimizerConfig
from omnivore_jax.train.recipe import TrainDataset
from omnivore_jax.train.schedule import learning_rate
from omnivore_jax.train.state import TrainState, abstract_state

Metrics = dict[str, Any]


class Trainer(NamedTuple):
    """What stays the same over all steps of a run."""

    model: ModelConfig
    compute: Compute
    datasets: Mapping[str, TrainDataset]
    optimizer: OptimizerConfig
    mix: MixConfig
    mesh: Mesh
    total_steps: int
    seed: int

    @property
    def heads(self) -> dict[str, Any]:
        """What each head is made of."""
        return heads({name: dataset.task for name, dataset in self.datasets.items()})


def make_train_step(trainer: Trainer) -> jax.stages.Wrapped:
    """Compiles (state, batches by dataset) -> (state, metrics), once for every set of shapes.

    The state is donated. Metrics, small arrays on the device: `loss` (mean of the step),
    `grad_norm` (before clipping, over the parameters that the step trains), `learning_rate`,
    `finite`, and under `datasets` the sums of each (`Task.sums`).
    """
    rule = trainer.optimizer.rule
    state = abstract_state(trainer.model, trainer.heads, trainer.mesh, rule)
    placed = (
        jax.tree.map(lambda leaf: leaf.sharding, state),
        NamedSharding(trainer.mesh, PartitionSpec()),
    )

    def step(state: TrainState, batches: dict[str, Batch]) -> tuple[TrainState, Metrics]:
        # Where the model looks for the batch axes.
        with jax.sharding.use_abstract_mesh(trainer.mesh.abstract_mesh):
            return train_step(trainer, state, batches)

    order = dict(in_order(trainer.mesh.devices.flat[0].platform))
    return jax.jit(step, donate_argnums=0, out_shardings=placed, compiler_options=order)


def train_step(
    trainer: Trainer, state: TrainState, batches: dict[str, Batch]
) -> tuple[TrainState, Metrics]:
    """Computes one update; see `make_train_step`."""
    groups = split_groups(state.params)
    active = _active(trainer, batches)
    grads, sums = _gradients(trainer, state.step, groups, active, batches)
    count = sum(figures["count"] for figures in sums.values())
    grads = jax.tree.map(lambda g: g / jnp.maximum(count, 1), grads)
    loss = sum(figures["loss"] for figures in sums.values()) / jnp.maximum(count, 1)
    norm = optax.tree.norm(grads)
    rate = learning_rate(trainer.optimizer, state.step, trainer.total_steps)

    grads = opt.clip_by_norm(grads, norm, trainer.optimizer.clip)
    with jax.named_scope("optimizer"):
        groups, opt_state = opt.update(trainer.optimizer, rate, groups, grads, state.opt_state)
        params = join_groups(groups.values())
        ema = opt.average(trainer.optimizer, state.ema, params)
    metrics = {
        "loss": loss,
        "grad_norm": norm,
        "learning_rate": rate,
        "finite": jnp.isfinite(loss) & jnp.isfinite(norm),
        "datasets": sums,
    }
    return TrainState(state.step + 1, params, opt_state, ema), metrics


def _active(trainer: Trainer, batches: Mapping[str, Batch]) -> frozenset[str]:
    depths = [batch.disparity is not None for batch in batches.values()]
    used = [trainer.datasets[name].task.head for name in batches]
    return active_groups(trainer.model.depth_embed, used, depths)


def _gradients(
    trainer: Trainer,
    step: Int[Array, ""],
    groups: dict[str, PyTree],
    active: frozenset[str],
    batches: Mapping[str, Batch],
) -> tuple[dict[str, PyTree], dict[str, Sums]]:
    """Gradient of the summed loss by the active groups, and each dataset's sums."""
    trained = {name: tree for name, tree in groups.items() if name in active}
    fixed = {name: tree for name, tree in groups.items() if name not in active}
    place = shardings(trained, trainer.mesh)  # sums of gradients lie where their parameters lie
    total, sums = {}, {}
    for name, batch in batches.items():
        grads, sums[name] = _accumulate(trainer, name, batch, step, (trained, fixed))
        grads = jax.lax.with_sharding_constraint(grads, place)
        total = jax.tree.map(jnp.add, total, grads) if total else grads
    return total, sums


def _accumulate(
    trainer: Trainer,
    name: str,
    batch: Batch,
    step: Int[Array, ""],
    params: tuple[dict[str, PyTree], dict[str, PyTree]],
) -> tuple[dict[str, PyTree], Sums]:
    """Adds up gradients and sums over the micro-batches of one dataset's batch.

    `params` are the groups that are trained, and the others.
    """
    dataset, mesh = trainer.datasets[name], trainer.mesh
    split = split_batch(batch.mask.shape[0], batch_shards(mesh.shape), dataset)
    key = dataset_key(trainer.seed, step, name)
    supply = make_supply(batch, split, dataset, key, trainer.mix.group, mesh)
    gradient = jax.grad(_loss(trainer, dataset), has_aux=True)

    def sums(params: PyTree, inputs: Inputs) -> PyTree:
        return gradient(*params, inputs)

    return accumulate(sums, params, lambda n: micro_batch(supply, n), split.count, mesh)


def _loss(trainer: Trainer, dataset: TrainDataset) -> Callable:
    """Makes (trained groups, other groups, inputs) -> (summed loss, sums) of a dataset."""
    graphdef, _ = abstract_model(trainer.model, trainer.heads)
    task, recipe = dataset.task, dataset.recipe
    compute = replace(trainer.compute, remat=recipe.remat, head_dropout=task.head_dropout)

    def loss(
        trained: dict[str, PyTree], fixed: dict[str, PyTree], inputs: Inputs
    ) -> tuple[Array, Sums]:
        model = merge(graphdef, join_groups([*trained.values(), *fixed.values()]))
        output = model(inputs.x, task.head, keys=inputs.keys, compute=compute)
        sums = task.sums(output, inputs.targets, inputs.label, inputs.mask)
        return sums["loss"], sums

    return loss
