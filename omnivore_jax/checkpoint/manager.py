"""Training checkpoints.

Orbax writes and reads the arrays, we decide which steps can be trusted and which stay.

<directory>/400/state/       the leaves of the train state by dotted path; each process writes its
                             own shards
<directory>/400/metadata/    a small JSON object of the caller's
<directory>/400/digests/     the seal: the step counts only once every process has written its file
                             here
<directory>/scores.json      what the EMA of each step scored
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jaxtyping import PyTree

from omnivore_jax.checkpoint import seal as digests
from omnivore_jax.checkpoint.retention import list_steps, open_folder, remove_step, superfluous
from omnivore_jax.checkpoint.scores import Scores
from omnivore_jax.checkpoint.steps import Search, Steps, none_undamaged
from omnivore_jax.core import dist, tree
from omnivore_jax.core.buckets import check_run, place
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.patience import Patience

STATE, METADATA = "state", "metadata"


@dataclass(frozen=True)
class CheckpointConfig:
    """When to save and what to keep; none of it changes what is trained."""

    every: int = 1000
    """Steps between two checkpoints."""
    keep_last: int = 2
    """How many of the newest finished ones stay; the second is for when the first is damaged."""
    keep_best: bool = True
    """Whether the checkpoint with the best EMA stays as well."""

    def __post_init__(self) -> None:
        for key in ("every", "keep_last"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)}; use at least 1")


class Restored(NamedTuple):
    """What a checkpoint held; unpacks as (step, state, metadata)."""

    step: int
    state: Any
    metadata: dict[str, Any]


class CheckpointManager:
    """Saves and restores the state of a run in one folder.

    Every process must make the same calls in the same order.
    """

    def __init__(
        self,
        directory: str | Path,
        config: CheckpointConfig = CheckpointConfig(),
        read_only: bool = False,
        visible: Patience = digests.VISIBLE,
        before_seal: Callable[[], None] = lambda: None,
    ):
        """Opens the folder, of a disk or of a bucket.

        `read_only` leaves alone what a run that is still training is writing there. `visible`: how
        long to wait for files that another host wrote. `before_seal` runs in the background before
        a step counts; its UserError is one of the save.

        Raises UserError where the folder cannot be made, or is not the same one on all hosts.
        """
        self.directory = place(directory).absolute()
        check_run(self.directory)
        self._before_seal = before_seal
        self._config = config
        self._read_only = read_only
        if not read_only:
            open_folder(self.directory)
        self._steps = Steps(self.directory, visible)
        self._scores = Scores(self.directory)
        # Compressed, weights are 7 % smaller, but every process holds its shards once more while it
        # writes them.
        arrays = ocp.PyTreeCheckpointHandler(use_compression=False)
        items = {STATE: arrays, METADATA: ocp.JsonCheckpointHandler()}
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(**items))
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._pending: tuple[int, Future] | None = None
        self._good: set[int] = set()
        """Steps that this manager sealed or found to be undamaged: they need not be saved again."""
        self._damaged: set[int] = set()

    def save(self, step: int, state: PyTree, metadata: Mapping[str, Any]) -> None:
        """Starts to save a state and returns as soon as its arrays may be overwritten.

        A step that is there already, whole, is left as it is; one that was never finished or is
        damaged is replaced. Raises UserError where the save before this one failed.
        """
        if self._read_only:
            raise ValueError(
                f"read_only=True of the checkpoints in {self.directory}; open them for writing to "
                "save"
            )
        self._finish_pending()
        if step in self._good:
            logging.info("checkpoint of step %d is already there", step)
            return
        if dist.is_primary():
            remove_step(self.directory, step)
        with self._explained(step), jax.transfer_guard("allow"):
            items = {
                STATE: ocp.args.PyTreeSave(tree.flatten(state)),
                METADATA: ocp.args.JsonSave(dict(metadata)),
            }
            self._orbax.save(self._files(step), args=ocp.args.Composite(**items))
        self._pending = step, self._sealer.submit(self._seal, step)

    def check(self) -> None:
        """Raises the error of a save that failed in the background since.

        Costs nothing, so ask after every step.
        """
        if self._pending and self._pending[1].done():
            self._finish_pending()

    def wait(self) -> None:
        """Waits until all processes have sealed what was saved; deletes what is superfluous."""
        self._finish_pending()
        dist.barrier("checkpoint sealed")
        self._prune()

    def close(self) -> None:
        """Waits, then lets go of threads and files."""
        try:
            self.wait()
        finally:
            self._release()

    def __enter__(self) -> "CheckpointManager":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._release()  # no barrier: the other processes may be gone

    def latest_good_step(self) -> int | None:
        """Finds the newest step whose files are all as they were written; None where none was.

        Unfinished and damaged steps are named in the log. Raises UserError where all finished steps
        are damaged.
        """
        self.wait()
        result = Search(*dist.broadcast(self._steps.search() if dist.is_primary() else None))
        self._damaged = set(result.damaged)
        self._good -= self._damaged
        if result.step is not None:
            self._good.add(result.step)
        elif result.damaged:
            raise none_undamaged(self.directory, result.damaged)
        return result.step

    def choose(self, step: int | None) -> int:
        """Finds the newest undamaged step, or checks the one given.

        Raises UserError where there is none, or where the one given is damaged.
        """
        if step is None:
            step = self.latest_good_step()
            if step is None:
                raise UserError(
                    f"{self.directory} has no finished checkpoint; train first, or name another "
                    "workdir"
                )
            return step
        self.wait()
        fault = dist.broadcast(self._steps.fault(step) if dist.is_primary() else None)
        if fault is not None:
            raise UserError(f"checkpoint of step {step} in {self.directory} {fault}")
        self._good.add(step)
        return step

    def restore(self, abstract_state: PyTree, step: int | None = None) -> Restored:
        """Reads a whole state into the shardings of `abstract_state` (ShapeDtypeStructs).

        Takes the newest undamaged step, or the one given. The devices need not be those that saved
        it. Raises UserError where there is none, where the step asked for is damaged, or where a
        leaf differs in path, shape or dtype.
        """
        step = self.choose(step)
        self._compare(step, self.saved_shapes(step), abstract_state)
        return self._read(step, abstract_state)

    def restore_part(self, abstract_part: PyTree, step: int | None = None) -> Restored:
        """Reads the leaves that `abstract_part` has, say {"ema": ...}; else as `restore`.

        Leaves without a sharding come back as numpy arrays: with `saved_shapes`, a checkpoint can
        be read by anyone.
        """
        step = self.choose(step)
        wanted = tree.flatten(abstract_part)
        saved = {path: leaf for path, leaf in self.saved_shapes(step).items() if path in wanted}
        self._compare(step, saved, abstract_part)
        return self._read(step, abstract_part)

    def saved_shapes(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Lists shape and dtype of every leaf that a step holds, by dotted path; reads no array."""
        saved = ocp.PyTreeCheckpointHandler().metadata(self._files(step) / STATE).tree
        return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in saved.items()}

    def metadata(self, step: int) -> dict[str, Any]:
        """Reads what the caller said about a step when it was saved."""
        item = ocp.args.Composite(**{METADATA: ocp.args.JsonRestore()})
        return self._orbax.restore(self._files(step), args=item)[METADATA]

    def record_best(
        self, step: int, score: float, per_dataset: Mapping[str, float] | None = None
    ) -> None:
        """Notes the mean score of a step's EMA (and its parts); of the saved steps the best stays.

        Raises UserError where the disk does not take it.
        """
        self._scores.add(step, score, per_dataset or {})
        if dist.is_primary():
            self._scores.save()

    def best_step(self) -> int | None:
        """Finds the finished checkpoint whose EMA scored highest; None where none was scored."""
        self.wait()
        return dist.broadcast(
            self._scores.best(self._steps.sealed()) if dist.is_primary() else None
        )

    def _files(self, step: int) -> epath.Path:
        """The folder of a step, as Orbax takes it."""
        return epath.Path(str(self._steps.path(step)))

    def _seal(self, step: int) -> None:
        """Waits for Orbax on all processes, then digests our files; runs in the background."""
        self._orbax.wait_until_finished()
        self._before_seal()
        digests.seal(self._steps.path(step), jax.process_index(), jax.process_count())
        self._prune()

    def _finish_pending(self) -> None:
        if self._pending is None:
            return
        (step, sealing), self._pending = self._pending, None
        with self._explained(step):
            sealing.result()
        self._good.add(step)
        self._damaged.discard(step)

    def _prune(self) -> None:
        """Deletes superfluous steps, those that are damaged or were never finished included."""
        if self._read_only or not dist.is_primary():
            return
        good = set(self._steps.sealed()) - self._damaged
        best = self._scores.best(good) if self._config.keep_best else None
        for step in superfluous(list_steps(self.directory), good, best, self._config.keep_last):
            remove_step(self.directory, step)

    def _compare(self, step: int, saved: PyTree, asked: PyTree) -> None:
        """Refuses what Orbax would cast or pad without a word."""
        difference = tree.first_difference(saved, asked)
        if difference is not None:
            path, there, wanted = difference
            raise UserError(
                f"checkpoint of step {step} in {self.directory} has {there} at {path}, the config "
                f"asks for {wanted}; use the config that the run was trained with"
            )

    def _read(self, step: int, abstract: PyTree) -> Restored:
        flat = tree.flatten(abstract)
        arrays = ocp.args.PyTreeRestore(
            flat,
            restore_args=ocp.checkpoint_utils.construct_restore_args(flat),
            partial_restore=True,
        )
        items = ocp.args.Composite(**{STATE: arrays, METADATA: ocp.args.JsonRestore()})
        read = self._orbax.restore(self._files(step), args=items)
        state = tree.refill(abstract, read[STATE])
        # Orbax casts and pads without a word: what came back is held against what was asked for.
        chex.assert_trees_all_equal_shapes_and_dtypes(state, abstract)
        return Restored(step, state, read[METADATA])

    def _release(self) -> None:
        self._sealer.shutdown()
        error = self._pending[1].exception() if self._pending else None
        if self._pending and error:  # while another error is on its way up
            logging.error("%s", self._steps.failure(self._pending[0], error))
        self._orbax.close()

    @contextmanager
    def _explained(self, step: int) -> Iterator[None]:
        """Turns a fault of the disk into one line, and clears away what was half written."""
        try:
            yield
        except (OSError, ValueError, RuntimeError, UserError) as error:
            if dist.is_primary():
                self._steps.clear(step)
            failure = self._steps.failure(step, error)
            raise failure from (None if failure is error else error)
