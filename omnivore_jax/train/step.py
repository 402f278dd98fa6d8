"""One training step, a pure function: samples of one or more datasets in, one update, figures out.

A step's loss is the mean over all its samples, whichever dataset and head they belong to.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from omnivore_jax.core.types import Batch
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.params import abstract_model, merge
from omnivore_jax.train import optimizer as opt
from omnivore_jax.train.accumulate import accumulate
from omnivore_jax.train.inputs import divide, micro_batch
from omnivore_jax.train.keys import dataset_key
from omnivore_jax.train.losses import correct_count, cross_entropy_sum
from omnivore_jax.train.mesh import batch_shards, shardings
from omnivore_jax.train.microbatch import split_batch
from omnivore_jax.train.mix import MixConfig
from omnivore_jax.train.optimizer import OptimizerConfig
from omnivore_jax.train.state import TrainState, abstract_state
from omnivore_jax.train.task import TaskConfig, heads

Metrics = dict[str, Any]
StepFunction = Callable[[TrainState, dict[str, Batch]], tuple[TrainState, Metrics]]


class Tally(NamedTuple):
    """Figures of the samples of one dataset; they add up over micro-batches."""

    loss: Float[Array, ""]
    """Sum, not mean."""
    count: Int[Array, ""]
    correct: Int[Array, ""]
    """Samples, mixed or not, whose own label came out on top."""


class Trainer(NamedTuple):
    """What stays the same over all steps of a run."""

    model: ModelConfig
    tasks: Mapping[str, TaskConfig]
    optimizer: OptimizerConfig
    mix: MixConfig
    mesh: Mesh
    total_steps: int
    seed: int


def make_train_step(trainer: Trainer) -> StepFunction:
    """Compiles the step: (state, batches by dataset) -> (state, metrics).

    Once for every set of datasets and shapes.

    The state is donated. Metrics, small arrays on the device: `loss` (mean of the step),
    `grad_norm` (before clipping, over the parameters that the step trains), `learning_rate`,
    `finite`, and under `datasets` each `Tally` as a dict.
    """
    state = abstract_state(trainer.model, heads(trainer.tasks), trainer.mesh)
    placed = (
        jax.tree.map(lambda leaf: leaf.sharding, state),
        NamedSharding(trainer.mesh, PartitionSpec()),
    )

    def step(state: TrainState, batches: dict[str, Batch]) -> tuple[TrainState, Metrics]:
        with jax.sharding.use_abstract_mesh(
            trainer.mesh.abstract_mesh
        ):  # where the model looks for the batch axes
            return train_step(trainer, state, batches)

    return jax.jit(step, donate_argnums=0, out_shardings=placed)


def train_step(
    trainer: Trainer, state: TrainState, batches: dict[str, Batch]
) -> tuple[TrainState, Metrics]:
    """Computes one update; see `make_train_step`."""
    groups = opt.split_groups(state.params)
    active = _active(trainer, batches)
    grads, tallies = _gradients(trainer, state.step, groups, active, batches)
    count = sum(tally.count for tally in tallies.values())
    grads = jax.tree.map(lambda g: g / jnp.maximum(count, 1), grads)
    loss = sum(tally.loss for tally in tallies.values()) / jnp.maximum(count, 1)
    norm = optax.tree.norm(grads)
    rate = opt.learning_rate(trainer.optimizer, state.step, trainer.total_steps)

    grads = opt.clip_by_norm(grads, norm, trainer.optimizer.clip)
    groups, opt_state = opt.update(trainer.optimizer, rate, groups, grads, state.opt_state)
    params = opt.join_groups(groups.values())
    ema = opt.average(trainer.optimizer, state.ema, params)
    metrics = {
        "loss": loss,
        "grad_norm": norm,
        "learning_rate": rate,
        "finite": jnp.isfinite(loss) & jnp.isfinite(norm),
        "datasets": {name: tally._asdict() for name, tally in tallies.items()},
    }
    return TrainState(state.step + 1, params, opt_state, ema), metrics


def _active(trainer: Trainer, batches: Mapping[str, Batch]) -> frozenset[str]:
    depths = [batch.disparity is not None for batch in batches.values()]
    return opt.active_groups(
        trainer.model.depth_embed, [trainer.tasks[name].head for name in batches], depths
    )


def _gradients(
    trainer: Trainer,
    step: Int[Array, ""],
    groups: dict[str, PyTree],
    active: frozenset[str],
    batches: Mapping[str, Batch],
) -> tuple[dict[str, PyTree], dict[str, Tally]]:
    """Gradient of the summed loss by the active groups, and each dataset's figures."""
    trained = {name: tree for name, tree in groups.items() if name in active}
    fixed = {name: tree for name, tree in groups.items() if name not in active}
    place = shardings(trained, trainer.mesh)  # sums of gradients lie where their parameters lie
    total, tallies = None, {}
    for name, batch in batches.items():
        grads, tallies[name] = _accumulate(trainer, name, batch, step, trained, fixed)
        grads = jax.lax.with_sharding_constraint(grads, place)
        total = grads if total is None else jax.tree.map(jnp.add, total, grads)
    return total, tallies  # pyright: ignore[reportReturnType]


def _accumulate(
    trainer: Trainer,
    name: str,
    batch: Batch,
    step: Int[Array, ""],
    trained: dict[str, PyTree],
    fixed: dict[str, PyTree],
) -> tuple[dict[str, PyTree], Tally]:
    """Adds up gradients and figures over the micro-batches of one dataset's batch."""
    task, mesh = trainer.tasks[name], trainer.mesh
    split = split_batch(
        name, batch.label.shape[0], batch_shards(mesh.shape), task, trainer.mix.group
    )
    graphdef, _ = abstract_model(trainer.model, heads(trainer.tasks))
    key = dataset_key(trainer.seed, step, name)
    divided = divide(batch, split, mesh)

    def loss(trained, fixed, inputs):
        model = merge(graphdef, opt.join_groups([*trained.values(), *fixed.values()]))
        logits = model(
            inputs.x,
            head=task.head,
            keys=inputs.keys,
            head_dropout=task.head_dropout,
            remat=task.remat,
        )
        loss = cross_entropy_sum(logits, inputs.targets, inputs.mask)
        return loss, Tally(
            loss, inputs.mask.sum(), correct_count(logits, inputs.label, inputs.mask)
        )

    def gradient(params, inputs):
        return jax.grad(loss, has_aux=True)(*params, inputs)

    def inputs(number):
        return micro_batch(divided, split, number, task, key, mesh)

    return accumulate(gradient, (trained, fixed), inputs, split.count, mesh)
