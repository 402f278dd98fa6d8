"""Brings samples to the device before it asks for them.

Grain reads whole steps ahead of time, in threads or in worker processes; one more thread puts the
next steps on the device. None of it decides anything: the plan (mixture.py) does, so a run may
resume with any number of threads, workers and hosts.
"""

import collections
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Int64

from omnivore_jax.core.types import Batch, PlacedStep
from omnivore_jax.data.bad_records import BadRecords
from omnivore_jax.data.batches import EvalSource, HostStep, StepSource
from omnivore_jax.data.mixture import Mixture
from omnivore_jax.data.sample import Dataset

Place = Callable[[dict[str, Batch]], dict[str, Batch]]
"""Puts a host's part of a step (numpy) on its devices."""

ON_DEVICE = 2
"""Steps that wait on the device or on their way to it."""


@dataclass(frozen=True)
class LoaderConfig:
    """How the host reads ahead; nothing here changes the result. Keys of the section `data`."""

    workers: int = 0
    """Worker processes; 0: threads of this process alone."""
    threads: int = 2
    """Reading threads, of this process or of every worker."""
    prefetch: int = 2
    """Steps held ready, by this process or by every worker."""

    def __post_init__(self):
        for key, least in (("workers", 0), ("threads", 1), ("prefetch", 1)):
            if getattr(self, key) < least:
                raise ValueError(f"{key}={getattr(self, key)}; use {least} or more")


class TrainLoader:
    """Iterates over the steps of a run from `start` on. Close it, or use it as a context manager.

    After an error every further `next` raises it again: a run cannot go on without the samples that
    are missing.
    """

    def __init__(
        self,
        mixture: Mixture,
        datasets: Mapping[str, Dataset],
        config: LoaderConfig,
        *,
        start: int = 0,
        place: Place = lambda batches: batches,
        rows: Mapping[str, Int64[np.ndarray, " rows"]] | None = None,
        bad_records: BadRecords | None = None,
    ):
        """`rows`.

        The slots of every dataset's batch that this host reads, all of them by default (see
        `host_rows`).
        """
        if rows is None:
            rows = {name: np.arange(size) for name, size in mixture.batch_sizes.items()}
        self.waited = 0.0
        """Seconds that the run has waited for its steps so far."""
        self._step, self._end = start, mixture.total_steps
        self._place = place
        self._bad_records = bad_records
        self._steps = _read_ahead(
            StepSource(mixture, datasets, rows, config.threads), config, start
        )
        self._thread = ThreadPoolExecutor(1, "place")
        self._ahead: collections.deque[Future] = collections.deque()

    def __iter__(self) -> "TrainLoader":
        return self

    def __next__(self) -> PlacedStep:
        if self._step == self._end:
            raise StopIteration
        began = time.perf_counter()
        while len(self._ahead) <= ON_DEVICE:
            self._ahead.append(self._thread.submit(self._take))
        read, placed = self._ahead[0].result()
        self.waited += time.perf_counter() - began
        if read.step != self._step:
            raise RuntimeError(
                f"step {self._step} is missing: a reader of the data has failed and gave "
                f"{read.step}"
            )
        if self._bad_records is not None:
            self._bad_records.add(read.bad)
        self._ahead.popleft()  # not before: an error stays first in line
        self._step += 1
        return PlacedStep(read.step, placed, read.ids)

    def _take(self) -> tuple[HostStep, dict[str, Batch]]:
        read = next(self._steps, None)
        if read is None:
            return HostStep(-1, {}, {}, []), {}
        return read, self._place(read.batches)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        _close(self._steps)

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def eval_batches(
    dataset: Dataset, batch_size: int, shard: tuple[int, int] = (0, 1), threads: int = 2
) -> Iterator[tuple[Batch, list[str]]]:
    """Yields a split's batches (numpy) with the ids of their samples.

    Every sample once, in one of n shards (i, n).

    The last batches are padded to `batch_size`, this shard's; every shard has equally many.

    Raises:
        UserError: a record is damaged; no sample is replaced here.

    """
    if len(dataset) < 1:
        raise ValueError(
            "the validation split is empty; prepare it, or leave its dataset out of the evaluation"
        )
    if batch_size < 1:
        raise ValueError(f"eval.batch_size={batch_size}; use a positive number of samples")
    batches = _read_ahead(
        EvalSource(dataset, batch_size, shard, threads), LoaderConfig(threads=threads), 0
    )
    try:
        yield from batches
    finally:
        _close(batches)


def host_rows(sharding: jax.sharding.Sharding, batch_size: int) -> Int64[np.ndarray, " rows"]:
    """The slots of a batch that lie on this process's devices.

    They need not be neighbours on a pod.
    """
    try:
        parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    except ValueError as error:
        raise ValueError(
            f"batch_size={batch_size} does not divide over the mesh; use a multiple of its devices"
        ) from error
    return np.unique(
        np.concatenate([np.arange(batch_size)[index] for index in parts if index is not None])
    )


def on_devices(sharding: jax.sharding.Sharding, batch_sizes: Mapping[str, int]) -> Place:
    """Makes the function that puts this process's rows of a step where they belong in the global batch."""
    rows = {name: host_rows(sharding, size) for name, size in batch_sizes.items()}

    def place(batches: dict[str, Batch]) -> dict[str, Batch]:
        return {
            name: jax.tree.map(
                lambda x, name=name: _global(x, rows[name], batch_sizes[name], sharding), batch
            )
            for name, batch in batches.items()
        }

    return place


def _global(
    local: np.ndarray, rows: np.ndarray, batch_size: int, sharding: jax.sharding.Sharding
) -> jax.Array:
    def part(index) -> np.ndarray:
        start, stop, _ = index[0].indices(batch_size)
        first = int(np.searchsorted(rows, start))
        return local[first : first + stop - start]

    return jax.make_array_from_callback((batch_size, *local.shape[1:]), sharding, part)


def _read_ahead(source: Any, config: LoaderConfig, start: int) -> Iterator[Any]:
    import grain  # takes a second to import
    from absl import flags

    if (
        not flags.FLAGS.is_parsed()
    ):  # grain 0.2.18 asks for the flags of a program that may have parsed none
        flags.FLAGS.mark_as_parsed()
    elements = grain.MapDataset.source(source)[start:].to_iter_dataset(
        grain.ReadOptions(num_threads=config.prefetch, prefetch_buffer_size=config.prefetch)
    )
    if config.workers:
        options = grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=1)
        elements = elements.mp_prefetch(options)
    return iter(elements)


def _close(iterator: Iterator[Any]) -> None:
    # Grain's; without it worker processes live on.
    iterator.close()  # pyright: ignore[reportAttributeAccessIssue]
