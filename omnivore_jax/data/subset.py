"""Low-shot subsets of a training split: a share of every class, by seed (paper, Table 10)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.manifest import Shard
from omnivore_jax.data.sample import Dataset, Sample
from omnivore_jax.data.shuffle import hashed, key_of


@dataclass(frozen=True)
class Subset:
    """The samples of a dataset at these indices (sample.Dataset)."""

    whole: Dataset
    indices: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int, seed: int) -> Sample:
        return self.whole.load(int(self.indices[index]), seed)


def size_of(count: int, share: float) -> int:
    """Counts the samples of a subset; one at least."""
    return max(round(count * share), 1)


def stratified(
    labels: Int64[np.ndarray, " n"], share: float, seed: int
) -> Int64[np.ndarray, " size"]:
    """Chooses a share of the samples of every class, in the order of the dataset.

    The classes get their parts of the whole by largest remainder, and one sample each as long as
    there are enough; which samples of a class come first depends on the seed alone, so that those
    of a smaller share are among those of a larger one.
    """
    order = np.lexsort((hashed(key_of("subset", seed), np.arange(len(labels))), labels))
    counts = np.bincount(labels)
    total = size_of(len(labels), share)
    taken = _shares(counts, total)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - starts[labels[order]]
    return np.sort(order[rank < taken[labels[order]]])


def _shares(counts: Int64[np.ndarray, " k"], total: int) -> Int64[np.ndarray, " k"]:
    """How many of each class: in proportion, at least one where `total` allows it."""
    exact = counts * total / counts.sum()
    taken = np.floor(exact).astype(np.int64)
    if np.count_nonzero(counts) <= total:
        taken = np.maximum(taken, counts > 0)
    by_remainder = np.argsort(taken - exact, kind="stable")  # those that lack most come first
    while taken.sum() < total:
        more = by_remainder[: total - taken.sum()]
        taken[more] = np.minimum(taken[more] + 1, counts[more])
    for label in by_remainder[::-1]:  # what rounding up to one gave too much
        excess = taken.sum() - total
        if excess <= 0:
            break
        taken[label] -= min(excess, max(taken[label] - 1, 0))
    return taken


def read_labels(folder: Path, shards: Sequence[Shard]) -> Int64[np.ndarray, " n"]:
    """Reads the label of every record of a split from the rows beside its shards.

    Raises:
        UserError: the rows are not there, or are fewer than the records.

    """
    labels: list[int] = []
    for shard in shards:
        path = (folder / shard.file).with_suffix(".jsonl")
        try:
            here = [json.loads(row)["label"] for row in path.read_bytes().splitlines()]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} cannot be read ({error}), and a subset needs its labels; prepare the "
                "dataset again"
            ) from error
        if len(here) != shard.count:
            raise UserError(
                f"{path} has {len(here)} rows for {shard.count} records; prepare the dataset again"
            )
        labels += here
    return np.array(labels, np.int64)
