"""Reads samples and stacks them.

Those of a whole training step, or of a batch of a validation split.

These are the elements that the loader has made ahead of time, in threads or in worker processes, to
which both sources travel. A damaged record is replaced in training and an error in evaluation.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch
from omnivore_jax.data.mixture import Draw, Mixture
from omnivore_jax.data.sample import BadRecord, Dataset, Sample

MAX_REPLACEMENTS = 20
"""Damaged records that one slot may meet before the dataset counts as unreadable."""


class BadRow(NamedTuple):
    """A damaged record and the first step that met it."""

    dataset: str
    id: str
    reason: str
    step: int


class HostStep(NamedTuple):
    """What one host reads at once for one step: all its rows, or those of one device."""

    step: int
    batches: dict[str, Batch]
    ids: dict[str, list[str]]
    bad: list[BadRow]


Rows = Mapping[str, Int64[np.ndarray, " rows"]]
"""Slots of every dataset's batch, in order."""


class StepSource:
    """The steps of a run, as far as one host reads them, in `parts` that are read one by one.

    Element `step * len(parts) + k` is part k of a step, so that a host need not hold a whole one.
    """

    def __init__(
        self,
        mixture: Mixture,
        datasets: Mapping[str, Dataset],
        parts: Sequence[Rows],
        threads: int,
    ):
        """`parts`: the slots of every part; those beyond the samples of a step are padding."""
        self.mixture = mixture
        self.datasets = dict(datasets)
        self.parts = [dict(rows) for rows in parts]
        self.threads = threads

    def __len__(self) -> int:
        return self.mixture.total_steps * len(self.parts)

    def __getitem__(self, element: int) -> HostStep:
        step, number = divmod(element, len(self.parts))
        batches, ids, bad = {}, {}, []
        for whole in self.mixture.step(step):
            rows = self.parts[number][whole.dataset]
            draw = whole.rows(rows[rows < len(whole.indices)])

            def read(slot: int, draw: Draw = draw) -> tuple[Sample, list[BadRow]]:
                return self._read(step, draw, slot)

            results = _in_threads(read, len(draw.indices), self.threads)
            samples = [sample for sample, _ in results]
            # padding alone still needs the shape of a sample; its own host tells of its damage
            shown = samples or [self._read(step, whole, 0)[0]]
            batches[draw.dataset] = _padded(stack(shown), len(rows), valid=len(samples))
            ids[draw.dataset] = [sample.id for sample in samples]
            bad += [row for _, damaged in results for row in damaged]
        return HostStep(step, batches, ids, bad)

    def part_bytes(self) -> int:
        """Bytes of the largest part, by the size of the first sample that can be read."""
        sizes = {name: _first_bytes(dataset) for name, dataset in self.datasets.items()}
        parts = [{name: len(rows[name]) * sizes[name] for name in rows} for rows in self.parts]
        total = sum if self.mixture.mixed else max
        return max(total(part.values()) for part in parts)

    def _read(self, step: int, draw: Draw, slot: int) -> tuple[Sample, list[BadRow]]:
        """A slot's sample, or the first readable one of those that may take its place.

        With the damaged records that were met on the way.
        """
        index, bad = int(draw.indices[slot]), []
        for attempt in range(MAX_REPLACEMENTS):
            try:
                return self.datasets[draw.dataset].load(index, int(draw.seeds[slot])), bad
            except BadRecord as record:
                bad.append(BadRow(draw.dataset, record.id, record.reason, step))
                index = self.mixture.replacement(draw, slot, attempt)
        raise UserError(
            f"data.{draw.dataset}: {len(bad)} records one after another cannot be read, the last "
            f"is {bad[-1].id} "
            f"({bad[-1].reason}); prepare the dataset again"
        )


def _first_bytes(dataset: Dataset) -> int:
    """Bytes of a sample; 0 where none can be read, which the first step will tell."""
    for index in range(min(len(dataset), MAX_REPLACEMENTS)):
        try:
            rgb, disparity, label, _ = dataset.load(index, 0)
        except BadRecord:
            continue
        return rgb.nbytes + (0 if disparity is None else disparity.nbytes) + np.size(label)
    return 0


class EvalSource:
    """The batches of a split, every sample once.

    Shard i of n takes every n-th sample from the i-th on.
    """

    def __init__(self, dataset: Dataset, batch_size: int, shard: tuple[int, int], threads: int):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shard = shard
        self.threads = threads

    def __len__(self) -> int:
        # the same for every shard
        return -(-len(self.dataset) // (self.batch_size * self.shard[1]))

    def __getitem__(self, number: int) -> tuple[Batch, list[str]]:
        mine = range(self.shard[0], len(self.dataset), self.shard[1])
        indices = mine[number * self.batch_size : (number + 1) * self.batch_size]
        if not indices:  # padding alone still needs the shape of a sample
            return _padded(stack([self._read(0)]), self.batch_size, valid=0), []
        samples = _in_threads(lambda slot: self._read(indices[slot]), len(indices), self.threads)
        return _padded(stack(samples), self.batch_size, valid=len(samples)), [
            sample.id for sample in samples
        ]

    def _read(self, index: int) -> Sample:
        try:
            return self.dataset.load(index, 0)
        except BadRecord as record:
            raise UserError(
                f"{record.id} cannot be read ({record.reason}) and evaluation replaces no sample; "
                "mend the record or take it out, and prepare the split again"
            ) from record


def stack(samples: Iterable[Sample]) -> Batch:
    """Makes a batch of samples of one dataset; none of it is padding."""
    rgb, disparity, label, _ = zip(*samples, strict=True)
    _check_sizes(rgb)
    depth = None if disparity[0] is None else np.stack(disparity)
    labels = np.stack(label) if np.ndim(label[0]) else np.asarray(label, np.int32)
    return Batch(np.stack(rgb), depth, labels, np.ones(len(rgb), bool))


def _check_sizes(rgb: Sequence[np.ndarray]) -> None:
    sizes = sorted({frames.shape for frames in rgb})
    if len(sizes) > 1:
        first, second = (f"{shape[-2]} x {shape[-3]}" for shape in sizes[:2])
        raise UserError(
            f"samples of one batch have {first} and {second} pixels; score whole pictures of "
            "several sizes one by one, on one device"
        )


def _padded(batch: Batch, size: int, valid: int) -> Batch:
    """The first `valid` samples and zeros up to `size`."""
    if valid == size:
        return batch

    def pad(x: np.ndarray) -> np.ndarray:
        padded = np.zeros((size, *x.shape[1:]), x.dtype)
        padded[:valid] = x[:valid]
        return padded

    return Batch(*(None if x is None else pad(x) for x in batch))


def _in_threads(read, slots: int, threads: int) -> list:
    """Calls `read` with every slot.

    Several slots a call of the pool, as a sample may cost less than a switch.
    """
    if threads <= 1:
        return [read(slot) for slot in range(slots)]
    chunks = [range(slots)[i :: 4 * threads] for i in range(4 * threads)]
    done = list(_pool(threads).map(lambda chunk: [read(slot) for slot in chunk], chunks))
    results: list = [None] * slots
    for chunk, part in zip(chunks, done, strict=True):
        results[chunk.start :: 4 * threads] = part
    return results


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """One pool a process, shared by the steps that are being read at once."""
    from omnivore_jax.data.decode import use_one_thread

    use_one_thread()  # the samples themselves are read in many
    return ThreadPoolExecutor(threads, "read")
