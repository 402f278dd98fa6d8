"""What a run compiles, compiled ahead of time for a machine that is not there.

Programs are the run's own: its state as it is born, its training steps and its evaluations. No data
is read and nothing is computed.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch
from omnivore_jax.data.datasets import count_samples
from omnivore_jax.data.loader import BATCHES_ON_DEVICE
from omnivore_jax.data.mixture import Mixture
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.eval.predictor import Predictor
from omnivore_jax.experiment.evaluation import ONE_VIEW, batch_size
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.splits import last_protocol
from omnivore_jax.experiment.training import batch_splits
from omnivore_jax.inference.trained import feed_of
from omnivore_jax.train.collectives import Collective, collectives
from omnivore_jax.train.mesh import batch_sharding, batch_shards, make_mesh
from omnivore_jax.train.microbatch import Split
from omnivore_jax.train.state import TrainState, abstract_state, make_begin, make_draws
from omnivore_jax.train.step import make_train_step

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
NEEDED = re.compile(r"(Used |temporaries \()([\d.]+)([KMGT]?)")
"""What the compiler of a TPU says of a program that takes more memory than there is.

Either all that is used, arguments included, or the temporaries alone.
"""


class Program(NamedTuple):
    """Something that a run compiles."""

    name: str
    lower: Callable[[], jax.stages.Lowered]
    splits: Mapping[str, Split]
    """Of the batches of a training step, by dataset."""
    given: int
    """Bytes of a device that its arguments take, without the padding of tiles."""
    beside: int
    """Bytes of a device that the run holds beside what the program is given."""


class Figures(NamedTuple):
    """What the compiler says of a program: bytes and operations of one device."""

    name: str
    splits: Mapping[str, Split]
    arguments: int
    outputs: int
    """Without those that take the place of arguments."""
    temporaries: int
    """With the program itself."""
    beside: int
    total: int
    """Where the program does not fit, what the compiler names."""
    fits: bool
    flops: float
    """Those of a loop once."""
    accessed: float
    """Bytes read and written, those of a loop once."""
    collectives: Sequence[Collective]
    seconds: float
    """Of compilation."""


@dataclass(frozen=True)
class Plan:
    """A run on a machine that is not there."""

    settings: Settings
    mixture: Mixture
    mesh: Mesh

    @property
    def splits(self) -> dict[str, Split]:
        """How the batch of every dataset is divided."""
        return batch_splits(self.settings, self.mixture, batch_shards(self.mesh.shape))


def make_plan(settings: Settings, devices: Sequence[Any]) -> Plan:
    """Lays a run out on devices.

    Raises:
        UserError: it does not go with so many.

    """
    sizes = {name: dataset.num_train for name, dataset in settings.datasets.items()}
    try:
        return Plan(settings, settings.mixture(sizes), make_mesh(settings.mesh, devices))
    except ValueError as error:
        raise UserError(str(error)) from error


def programs(plan: Plan) -> list[Program]:
    """Lists what a run compiles, in the order in which it does.

    Left out are whole pictures, which have any size, and features for the search of neighbours.
    """
    state = _state(plan)
    names = list(plan.settings.datasets)
    steps = [names] if plan.mixture.mixed else [[name] for name in names]
    return [
        *_birth(plan, state),
        *(train_program(plan, step, state) for step in steps),
        *(program for name in names for program in _evaluations(plan, name, state)),
    ]


def train_program(plan: Plan, names: Sequence[str], state: TrainState | None = None) -> Program:
    """Makes the training step that carries these datasets."""
    state = _state(plan) if state is None else state
    splits = {name: plan.splits[name] for name in names}
    batches = {
        name: _batch(plan, name, (split.slots,), plan.settings.datasets[name].frames)
        for name, split in splits.items()
    }
    step = make_train_step(plan.settings.trainer(plan.mesh, plan.mixture.total_steps))
    given, waiting = _bytes((state, batches)), (BATCHES_ON_DEVICE - 1) * _bytes(batches)
    name = f"train {names[0]}" if len(names) == 1 else "train mixed"
    return Program(name, lambda: step.lower(state, batches), splits, given, waiting)


def _birth(plan: Plan, state: TrainState) -> list[Program]:
    """How the parameters are drawn, in parts, and what makes a state of them."""
    settings = plan.settings
    shape = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct((), shape.dtype, sharding=NamedSharding(plan.mesh, PartitionSpec()))
    draws = make_draws(settings.model, settings.heads, plan.mesh)
    begin, params = make_begin(state, settings.optimizer.rule), _bytes(state.params)
    return [
        *(
            Program(f"init {number}", partial(draw.lower, key), {}, 0, params)
            for number, draw in enumerate(draws, 1)
        ),
        Program("init state", partial(begin.lower, state.params), {}, params, 0),
    ]


def _evaluations(plan: Plan, name: str, state: TrainState) -> list[Program]:
    """How the EMA is scored: in passing, and at the end where that has other views."""
    if not _validates(name, plan.settings):
        return []
    last = last_protocol(name, plan.settings)
    protocols = {f"eval {name}": ONE_VIEW}
    if last.views > 1:
        protocols[f"eval {name} {last.clips}x{last.crops}"] = last
    return [_evaluation(plan, title, name, one, state) for title, one in protocols.items()]


def _validates(name: str, settings: Settings) -> bool:
    """Tells whether a dataset has samples to validate on, where it is not there as planned."""
    dataset = settings.datasets[name]
    try:
        return count_samples(name, dataset, settings.store.root, "val") > 0
    except UserError:
        return dataset.num_val > 0


def _evaluation(
    plan: Plan, title: str, name: str, protocol: Protocol, state: TrainState
) -> Program:
    settings = plan.settings
    predictor = Predictor(settings.model, settings.heads, settings.compute, plan.mesh)
    dataset = settings.training[name]
    feed = feed_of(dataset.preprocessing, protocol)
    size = batch_size(settings, name, protocol, plan.mesh)
    leading = (size,) if protocol.views == 1 else (size, protocol.views)
    batch = _batch(plan, name, leading, settings.datasets[name].frames)
    return Program(
        title,
        lambda: predictor.lower(state.ema, batch, dataset.task, feed),
        {},
        _bytes((state.ema, batch)),
        _bytes(state) - _bytes(state.ema),
    )


def _state(plan: Plan) -> TrainState:
    settings = plan.settings
    return abstract_state(settings.model, settings.heads, plan.mesh, settings.optimizer.rule)


def _batch(plan: Plan, name: str, leading: tuple[int, ...], frames: int) -> Batch:
    """Shapes of a batch of a dataset; `leading` counts its samples, and their views."""
    dataset, sharding = plan.settings.datasets[name], batch_sharding(plan.mesh)
    pixels = (*leading, frames, dataset.size, dataset.size)

    def array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    maps = plan.settings.tasks[name].labels == "map"
    label = (*leading[:1], dataset.size, dataset.size) if maps else leading[:1]
    return Batch(
        array((*pixels, 3), jnp.uint8),
        array((*pixels, 1), jnp.float32) if dataset.kind == "rgbd" else None,
        array(label, jnp.uint8 if maps else jnp.int32),
        array(leading[:1], jnp.bool_),
    )


def _bytes(tree: Any) -> int:
    """Bytes of a device, without the padding of tiles."""
    return sum(
        prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def compile_program(
    program: Program, usable: int, options: Mapping[str, Any] | None = None
) -> Figures:
    """Compiles a program; `usable` are the bytes that a device has, `options` the compiler's."""
    began = time.perf_counter()
    lowered = program.lower()
    try:
        compiled = lowered.compile(compiler_options=dict(options or {}))
    except jax.errors.JaxRuntimeError as error:
        seconds = time.perf_counter() - began
        figures = too_large(program, str(error), seconds)
        if figures is None:
            raise
    else:
        figures = _figures(program, compiled, usable, time.perf_counter() - began)
    logging.info("%s: compiled in %.0f s", program.name, figures.seconds)
    return figures


def too_large(program: Program, message: str, seconds: float) -> Figures | None:
    """What the compiler says of a program that does not fit; None: it fails otherwise."""
    said = NEEDED.search(message)
    if "RESOURCE_EXHAUSTED" not in message or said is None:
        return None
    named = int(float(said[2]) * UNITS[said[3]])
    temporaries = named - program.given if said[1] == "Used " else named
    return Figures(
        program.name,
        program.splits,
        arguments=program.given,
        outputs=0,
        temporaries=temporaries,
        beside=program.beside,
        total=program.given + temporaries + program.beside,
        fits=False,
        flops=0,
        accessed=0,
        collectives=(),
        seconds=seconds,
    )


def _figures(
    program: Program, compiled: jax.stages.Compiled, usable: int, seconds: float
) -> Figures:
    memory: Any = compiled.memory_analysis()
    costs: Any = compiled.cost_analysis() or {}
    arguments = memory.argument_size_in_bytes
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    temporaries = memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    total = arguments + outputs + temporaries + program.beside
    return Figures(
        program.name,
        program.splits,
        arguments,
        outputs,
        temporaries,
        program.beside,
        total,
        total <= usable,
        costs.get("flops", 0.0),
        costs.get("bytes accessed", 0.0),
        collectives(compiled.as_text() or ""),
        seconds,
    )
