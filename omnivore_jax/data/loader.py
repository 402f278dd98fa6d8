"""Brings samples to the device before it asks for them.

Grain reads whole steps ahead of time, in threads or in worker processes; one more thread puts the
next steps on the device. None of it decides anything: the plan (mixture.py) does, so a run may
resume with any number of threads, workers and hosts.
"""

import collections
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import psutil
from jaxtyping import Int64

from omnivore_jax.core.types import Batch, PlacedStep
from omnivore_jax.data.bad_records import BadRecords
from omnivore_jax.data.batches import EvalSource, HostStep, StepSource
from omnivore_jax.data.mixture import Mixture
from omnivore_jax.data.sample import Dataset
from omnivore_jax.data.workers import explain

Place = Callable[[dict[str, Batch]], dict[str, Batch]]
"""Puts a host's part of a step (numpy) on its devices."""

ON_DEVICE = 1
"""Steps that wait on the device when the run asks for the next one."""
BATCHES_ON_DEVICE = ON_DEVICE + 2
"""Most steps whose samples a device holds: one in use, those that wait, one that is being put."""
EVAL_AHEAD = 2
"""Batches of an evaluation that are read ahead."""
HOST_SHARE = 0.5
"""Share of the memory that is free at the start that samples may take, if nothing else is said."""
MAX_THREADS = 64
"""Threads that one process reads with by itself; beyond, worker processes read faster."""
GIB = 2**30


@dataclass(frozen=True)
class LoaderConfig:
    """How the host reads ahead; nothing here changes the result. Keys of the section `data`."""

    workers: int = 0
    """Worker processes; 0: threads of this process alone."""
    threads: int = 0
    """Reading threads, of this process or of every worker; 0: as many as the host has cores."""
    prefetch: int = 2
    """Steps held ready, by this process or by every worker, as far as memory allows."""
    max_host_gib: float = 0.0
    """Memory that samples ready on this host may take; 0: half of what is free at the start.

    One part more, the rows of one device, may be on its way to that device.
    """

    def __post_init__(self):
        for key, least in (("workers", 0), ("threads", 0), ("prefetch", 1), ("max_host_gib", 0)):
            if getattr(self, key) < least:
                raise ValueError(f"{key}={getattr(self, key)}; use {least} or more")

    def reading_threads(self) -> int:
        """Threads of every reading process: the host's cores are shared by its workers."""
        return self.threads or min(max(host_cores() // max(self.workers, 1), 1), MAX_THREADS)

    def parts_ahead(self, parts: int, part_bytes: int) -> int:
        """Parts that every reading process may hold, where a step has `parts` of this size."""
        free = HOST_SHARE * psutil.virtual_memory().available
        budget = self.max_host_gib * GIB or free
        processes = max(self.workers, 1)
        room = int(budget // max(part_bytes * processes, 1))
        if self.workers:
            room -= 1  # each has one more in the queue to this process
        return max(min(self.prefetch * parts, room), 1)


def host_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
        """`rows`: the slots of every dataset's batch that this host reads (see `host_rows`).

        By default all of them. A place that knows its devices (`on_devices`) gets them one by one.
        """
        if rows is None:
            rows = {name: np.arange(size) for name, size in mixture.batch_sizes.items()}
        self.waited = 0.0
        """Seconds that the run has waited for its steps so far."""
        self._step, self._end = start, mixture.total_steps
        self._place = place
        self._bad_records = bad_records
        parts = place.parts if isinstance(place, DevicePlace) else [rows]
        self._parts = len(parts)
        source = StepSource(mixture, datasets, parts, config.reading_threads())
        ahead = config.parts_ahead(len(parts), source.part_bytes())
        self._workers = config.workers
        self._elements = _read_ahead(source, config.workers, ahead, start * len(parts))
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
        if not isinstance(self._place, DevicePlace):
            read = self._next()
            return read, self._place(read.batches)
        whole, pieces = NOTHING, []
        for number in range(self._parts):
            part = self._next()
            if number and part.step != whole.step:  # a reader has failed: `__next__` says so
                return NOTHING, {}
            pieces.append(self._place.put(part.batches, number))
            ids = {name: whole.ids.get(name, []) + part.ids[name] for name in part.ids}
            whole = HostStep(part.step, {}, ids, whole.bad + part.bad)
            del part  # before the next one is asked for
        return whole, self._place.join(pieces)

    def _next(self) -> HostStep:
        try:
            return next(self._elements, NOTHING)
        except RuntimeError as error:
            mistake = explain(error, self._workers)
            if mistake is None:
                raise
            raise mistake from error

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        _close(self._elements)

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def eval_batches(
    dataset: Dataset, batch_size: int, shard: tuple[int, int] = (0, 1), threads: int = 0
) -> Iterator[tuple[Batch, list[str]]]:
    """Yields a split's batches (numpy) with the ids of their samples.

    Every sample once, in one of n shards (i, n).

    `threads`: 0 for as many as the host has cores.

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
        EvalSource(dataset, batch_size, shard, threads or host_cores()), 0, EVAL_AHEAD, 0
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


class DevicePlace:
    """Puts this process's rows of a step where they belong in the global batch.

    All at once, or one of `parts` at a time: the rows of one device, or of several that hold the
    same ones.
    """

    def __init__(self, sharding: jax.sharding.Sharding, batch_sizes: Mapping[str, int]):
        self._sharding, self._sizes = sharding, dict(batch_sizes)
        self._rows = {name: host_rows(sharding, size) for name, size in batch_sizes.items()}
        self._devices: list[list[Any]] = []
        """Of every part."""
        self.parts: list[dict[str, Int64[np.ndarray, " rows"]]] = []
        by_name = {name: self._ranges(size) for name, size in self._sizes.items()}
        for devices in next(iter(by_name.values())).values():
            self._devices.append(devices)
            starts = {
                name: next(key for key, there in ranges.items() if there == devices)
                for name, ranges in by_name.items()
            }
            self.parts.append({name: np.arange(*starts[name]) for name in self._sizes})

    def __call__(self, batches: dict[str, Batch]) -> dict[str, Batch]:
        """Places a step that was read as a whole."""
        pieces = [
            self.put(
                {name: self._cut(name, batch, rows[name]) for name, batch in batches.items()}, k
            )
            for k, rows in enumerate(self.parts)
        ]
        return self.join(pieces)

    def put(self, batches: dict[str, Batch], part: int) -> list[dict[str, Batch]]:
        """Copies the rows of one part to each of its devices; returns when they are there."""
        placed = [jax.device_put(batches, device) for device in self._devices[part]]
        return jax.block_until_ready(placed)  # then the host's copy may go

    def join(self, pieces: list[list[dict[str, Batch]]]) -> dict[str, Batch]:
        """Makes global batches of what lies on the devices."""
        leaves = [piece for part in pieces for piece in part]
        return {
            name: jax.tree.map(
                lambda *arrays, size=self._sizes[name]: jax.make_array_from_single_device_arrays(
                    (size, *arrays[0].shape[1:]), self._sharding, list(arrays)
                ),
                *(leaf[name] for leaf in leaves),
            )
            for name in leaves[0]
        }

    def _ranges(self, batch_size: int) -> dict[tuple[int, int], list[Any]]:
        """First and last row, and the local devices that hold them, in the order of the rows."""
        ranges: dict[tuple[int, int], list[Any]] = {}
        for device, index in self._sharding.addressable_devices_indices_map((batch_size,)).items():
            start, stop, _ = (index or (slice(None),))[0].indices(batch_size)
            ranges.setdefault((start, stop), []).append(device)
        return dict(sorted(ranges.items()))

    def _cut(self, name: str, batch: Batch, rows: np.ndarray) -> Batch:
        first = int(np.searchsorted(self._rows[name], rows[0]))
        return jax.tree.map(lambda x: x[first : first + len(rows)], batch)


NOTHING = HostStep(-1, {}, {}, [])
"""What comes instead of a step that is missing."""


def on_devices(sharding: jax.sharding.Sharding, batch_sizes: Mapping[str, int]) -> DevicePlace:
    """Makes what puts this process's rows of a step where they belong in the global batch."""
    return DevicePlace(sharding, batch_sizes)


def _read_ahead(source: Any, workers: int, ahead: int, start: int) -> Iterator[Any]:
    """Reads elements in order from `start` on; every process holds at most `ahead` of them."""
    import grain  # takes a second to import
    from absl import flags

    # grain 0.2.18 asks for the flags of a program that may have parsed none
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    elements = grain.MapDataset.source(source)[start:].to_iter_dataset(
        grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
    )
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        elements = elements.mp_prefetch(options)
    return iter(elements)


def _close(iterator: Iterator[Any]) -> None:
    # Grain's; without it worker processes live on.
    iterator.close()  # pyright: ignore[reportAttributeAccessIssue]
