"""Trains a run from start, or from where it stopped, to its last step."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
from absl import logging

from omnivore_jax.checkpoint.manager import CheckpointManager
from omnivore_jax.core import dist
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.log import MetricsWriter
from omnivore_jax.core.mirror import Mirror
from omnivore_jax.core.progress import Progress
from omnivore_jax.core.signals import Preemption
from omnivore_jax.data.bad_records import BadRecords
from omnivore_jax.data.loader import TrainLoader, host_rows, on_devices
from omnivore_jax.data.mixture import Mixture
from omnivore_jax.eval.metrics import mean_score
from omnivore_jax.experiment.evaluation import RunEvaluator
from omnivore_jax.experiment.operations import Watch
from omnivore_jax.experiment.pictures import show_samples
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.splits import RunData, last_protocol
from omnivore_jax.model.heads import class_count
from omnivore_jax.train.loop import train
from omnivore_jax.train.mesh import batch_sharding, batch_shards
from omnivore_jax.train.microbatch import Split, split_batch
from omnivore_jax.train.state import TrainState, abstract_state, init_state, state_from
from omnivore_jax.train.step import make_train_step
from omnivore_jax.weights.card import make_card


@dataclass(frozen=True)
class Run:
    """What a run works on and where."""

    settings: Settings
    data: RunData
    mesh: jax.sharding.Mesh
    mirror: Mirror

    @property
    def workdir(self) -> Path:
        """Where this process reads and writes the small files of the run."""
        return self.mirror.folder


@dataclass
class RunCallback:
    """What happens around the steps of a run (train.loop.Callback).

    Records, evaluations, checkpoints, signals.
    """

    settings: Settings
    mixture: Mixture
    manager: CheckpointManager
    writer: MetricsWriter
    progress: Progress
    evaluator: RunEvaluator
    loader: TrainLoader
    preemption: Preemption
    metadata: Mapping[str, Any]
    watch: Watch
    stopping: bool = field(default=False, init=False)

    def record(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the figures of a step."""
        epoch = self.mixture.epoch_at(step)
        row = {
            "epoch": epoch,
            "train": {name: self._means(name, sums) for name, sums in metrics["datasets"].items()},
            "learning_rate": metrics["learning_rate"],
            "grad_norm": metrics["grad_norm"],
        }
        self.writer.write(step, row)
        self.progress.update(step, metrics, epoch, self.loader.waited)
        if step % self.settings.log.every == 0:
            self.write_times(step)

    def pauses_at(self, step: int) -> bool:
        """Tells whether to evaluate, save or stop after this step.

        Also where an earlier save has failed.
        """
        self.manager.check()
        self.watch.step_done(step)
        self.stopping = self.preemption.requested(step)
        return self.stopping or self.evaluates(step) or self._saves(step)

    def pause(self, step: int, state: TrainState) -> None:
        """Saves, then evaluates the EMA, or ends the run where it was asked to stop.

        The rows of training are on the disk before the checkpoint is. A fault of the evaluation
        loses no step: a run that resumes at a step without its scores evaluates first.
        """
        self.writer.flush()
        stops = self.stopping and step < self.mixture.total_steps
        with self.preemption.saving(), self.watch.wall.spent_on("checkpoint"):
            self.manager.save(step, state, self.metadata)
            if stops or self.evaluates(step):
                with self.progress.paused():
                    self.manager.wait()
        self.write_times(step)
        if stops:
            raise self.preemption.stop(f"at step {step}, which is saved", together=True)
        if self.evaluates(step):
            with self.preemption.at_once():
                self.evaluate(step, state)

    def evaluate(self, step: int, state: TrainState) -> None:
        """Scores the EMA on every validation split."""
        with self.progress.paused(), self.watch.wall.spent_on("evaluation"):
            results = self.evaluator.evaluate_all(state.ema)
        if results:
            scores = {name: result.score for name, result in results.items()}
            shown = {name: f"{name} {scores[name]:.1%}" for name in results}
            for kind in dict.fromkeys(result.score_name for result in results.values()):
                of_kind = [shown[n] for n, r in results.items() if r.score_name == kind]
                logging.info("step %d: %s %s", step, kind, ", ".join(of_kind))
            # Before the row, which tells a run that resumes that nothing is missing.
            self.manager.record_best(step, mean_score(results), scores)
            row = {name: result.row() for name, result in results.items()}
            self.writer.write(step, {"epoch": self.mixture.epoch_at(step), "eval": row})
            self.writer.flush()

    def write_times(self, step: int) -> None:
        """Adds rates, and where the time of this process went, to timing.jsonl."""
        row = self.progress.times()
        used = self.watch.use(row["samples_per_second"])
        wall = {"wall": self.watch.wall.row(self.loader.waited)}
        self.writer.write_times(step, row | used | wall)

    def _means(self, name: str, sums: Mapping[str, Any]) -> dict[str, float | int]:
        return self.settings.training[name].task.means(sums)

    def evaluates(self, step: int) -> bool:
        """Tells whether an evaluation is due after this step."""
        return step == self.mixture.total_steps or (
            self.settings.eval.every > 0 and step % self.settings.eval.every == 0
        )

    def _saves(self, step: int) -> bool:
        return step % self.settings.checkpoint.every == 0


def run_training(
    run: Run,
    manager: CheckpointManager,
    evaluator: RunEvaluator,
    preemption: Preemption,
    params: Any = None,
) -> bool:
    """Trains to the last step, resuming from the newest undamaged checkpoint.

    Tells whether it began at step 0.

    `params` are the weights to begin with (numpy); None: drawn from the seed.

    Raises:
        Stopped: a signal came; the state is saved.
        UserError: damaged data or checkpoints, a full disk, a loss that is not finite.

    """
    settings, data, mesh = run.settings, run.data, run.mesh
    mixture, step_fn = plan(settings, data, mesh)
    metadata = {"card": _card(settings, data), "sizes": data.sizes}
    with ExitStack() as stack:
        state, start = _begin(settings, mesh, manager, metadata, params)
        tensorboard = settings.log.tensorboard
        writer = stack.enter_context(MetricsWriter(run.workdir, tensorboard=tensorboard))
        writer.cut_back(start)
        loader = stack.enter_context(make_loader(settings, data, mesh, mixture, run.workdir, start))
        progress = stack.enter_context(
            Progress(mixture.total_steps, start=start, every=settings.log.every)
        )
        watch = stack.enter_context(Watch(settings, run.workdir, start))
        callback = RunCallback(
            settings,
            mixture,
            manager,
            writer,
            progress,
            evaluator,
            loader,
            preemption,
            metadata,
            watch,
        )
        if not start:
            show_samples(settings, data, mesh, run.mirror)
        with jax.transfer_guard("disallow"):
            if start and callback.evaluates(start) and not _has_scores(run.workdir, start):
                callback.evaluate(start, state)
            if start == mixture.total_steps:
                logging.info("the run in %s is finished: %d steps", run.mirror.workdir, start)
                return False
            with preemption.deferred():
                with watch.wall.spent_on("step"):
                    train(state, loader, step_fn, callback)
                manager.wait()
            callback.write_times(mixture.total_steps)
    return start == 0


def _has_scores(workdir: Path, step: int) -> bool:
    """Tells whether metrics.jsonl, cut back to its whole rows, has the evaluation of a step."""
    path = workdir / "metrics.jsonl"
    found = False
    if dist.is_primary() and path.exists():
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        found = any(row["step"] == step and "eval" in row for row in rows)
    return dist.broadcast(found)


def plan(settings: Settings, data: RunData, mesh: jax.sharding.Mesh):
    """The order of the data and the compiled step."""
    try:
        mixture = settings.mixture(data.sizes)
    except ValueError as error:
        raise UserError(str(error)) from error
    return mixture, make_train_step(settings.trainer(mesh, mixture.total_steps))


def _card(settings: Settings, data: RunData) -> dict[str, Any]:
    """What a checkpoint says of its model.

    Class names where the dataset has a name for every class of its head.
    """
    names = {n: d.classes for n, d in data.train.items()}
    tasks, training = settings.tasks, settings.training
    classes = {tasks[n].head: c for n, c in names.items() if len(c) == class_count(tasks[n].spec)}
    inputs = {
        tasks[name].head: {
            "modality": dataset.kind,
            "protocol": last_protocol(name, settings).to_json(),
        }
        for name, dataset in settings.datasets.items()
    }
    preprocessing = {tasks[n].head: training[n].preprocessing for n in training}
    return make_card(settings.model, settings.heads, preprocessing, classes=classes, inputs=inputs)


def batch_splits(settings: Settings, mixture: Mixture, shards: int) -> dict[str, Split]:
    """How every dataset's batch is divided over devices and micro-batches, with its padding."""
    return {
        name: split_batch(size, shards, settings.training[name])
        for name, size in mixture.batch_sizes.items()
    }


def _begin(
    settings: Settings,
    mesh: jax.sharding.Mesh,
    manager: CheckpointManager,
    metadata: Mapping[str, Any],
    params: Any,
) -> tuple[TrainState, int]:
    """The state to go on from: the newest good checkpoint's, else a new one."""
    rule, model, heads = settings.optimizer.rule, settings.model, settings.heads
    if manager.latest_good_step() is None:
        if params is not None:
            return state_from(params, mesh, rule), 0
        return init_state(model, heads, settings.train.seed, mesh, rule), 0
    step, state, saved = manager.restore(abstract_state(model, heads, mesh, rule))
    if saved["sizes"] != metadata["sizes"]:
        raise UserError(
            f"the datasets have changed since the run was started ({saved['sizes']} samples then, "
            f"{metadata['sizes']} "
            "now), which would change the order of the data; put them back, or use another "
            "--workdir"
        )
    logging.info("resuming from step %d", step)
    return state, step


def make_loader(
    settings: Settings,
    data: RunData,
    mesh: jax.sharding.Mesh,
    mixture: Mixture,
    workdir: Path,
    start: int,
) -> TrainLoader:
    """Makes what brings the samples of every step from `start` on to the devices.

    Damaged records are noted in `workdir`.
    """
    sharding = batch_sharding(mesh)
    splits = batch_splits(settings, mixture, batch_shards(mesh.shape))
    slots = {name: split.slots for name, split in splits.items()}
    for name, size in mixture.batch_sizes.items():
        if slots[name] > size:
            logging.info("data.%s: %d samples, padded to %d slots", name, size, slots[name])
    return TrainLoader(
        mixture,
        data.train,
        settings.loader,
        start=start,
        place=on_devices(sharding, slots),
        rows={name: host_rows(sharding, size) for name, size in slots.items()},
        bad_records=BadRecords(
            workdir / f"bad_records{_suffix()}.jsonl", data.sizes, settings.store.bad_budget
        ),
    )


def _suffix() -> str:
    """Every host notes the records that it met itself."""
    return "" if dist.is_primary() else f".{jax.process_index()}"
