"""Which samples a training step takes.

A pure function of the global step, whoever asks and whenever.

Nothing is stored that a resume would have to restore. Every dataset is one endless stream: seeded
permutations of its samples, pass after pass, so that every sample of a pass comes exactly once and
a batch may span two passes. A step takes the next batch of one dataset's stream (`separate`) or the
next samples of all of them (`mixed`): in whole pairs where samples are mixed, now one more and now
one less, so that over a run the shares are exact. The number of devices has no part in it: who puts
a step on them pads it. Source: the paper, section 4 and Appendix A (ratios), section 4.3 (mixed).
The released loader drops what is left of a pass; ours does not.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt64

from omnivore_jax.data.shuffle import hashed, key_of, permute


@dataclass(frozen=True)
class Source:
    """A dataset's part in the mixture."""

    name: str
    size: int
    """Samples of one pass."""
    batch_size: int
    """Samples of one of its steps, over all hosts.

    Mixed batching shares out a batch size of its own.
    """
    ratio: float = 1.0
    """Passes in one epoch, read as it is written: 0.1 is a tenth."""

    def __post_init__(self):
        where = f"data.{self.name}"
        if self.size < 1:
            raise ValueError(
                f"{where} has {self.size} samples; prepare it, or take it out of the config"
            )
        if self.batch_size < 1:
            raise ValueError(
                f"{where}.batch_size={self.batch_size}; use a positive number of samples"
            )
        if not 0 < self.ratio < math.inf:
            raise ValueError(
                f"{where}.ratio={self.ratio}; use a positive number, or take the dataset out"
            )

    @property
    def samples_per_epoch(self) -> Fraction:
        return Fraction(str(self.ratio)) * self.size


class Draw(NamedTuple):
    """The samples of one dataset in a step.

    Of every slot the pass, the sample and the seed to load it with.
    """

    dataset: str
    passes: Int64[np.ndarray, " b"]
    indices: Int64[np.ndarray, " b"]
    seeds: UInt64[np.ndarray, " b"]

    def rows(self, rows: Int64[np.ndarray, " r"]) -> "Draw":
        """Some of the slots, those that one host reads."""
        return Draw(self.dataset, self.passes[rows], self.indices[rows], self.seeds[rows])


@dataclass(frozen=True)
class Mixture:
    """The plan of a run.

    Whatever it answers depends on these fields alone, and not on the order of the sources.
    """

    sources: tuple[Source, ...]
    epochs: float = 0.0
    """The run ends with this epoch, which may be a part of one.

    The steps of a last, partial epoch are its own plan.
    """
    steps: int = 0
    """Above 0 it wins: the endless sequence of epochs is cut after exactly this many steps."""
    seed: int = 0
    batching: Literal["separate", "mixed"] = "separate"
    batch_size: int = 0
    """Samples of a mixed step over all datasets, on average; 0: the largest batch size."""
    quantum: int = 1
    """A mixed step takes multiples of this many samples of every dataset (2 for whole pairs)."""

    def __post_init__(self):
        object.__setattr__(
            self, "sources", tuple(sorted(self.sources, key=lambda source: source.name))
        )
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"data names the datasets {names}; name at least one, and each once")
        if (
            not 0 <= self.epochs < math.inf
            or self.steps < 0
            or (self.epochs == 0 and self.steps == 0)
        ):
            raise ValueError(
                f"train.epochs={self.epochs}, train.steps={self.steps}; make one of them positive"
            )
        if self.mixed:
            self._check_shares()
        if self.total_steps == 0:
            raise ValueError(
                f"train.epochs={self.epochs} is not one step; raise it, lower the batch sizes or "
                "set train.steps"
            )

    @property
    def mixed(self) -> bool:
        return self.batching == "mixed"

    @cached_property
    def batch_sizes(self) -> dict[str, int]:
        """Most samples that a step takes of every dataset that it takes at all, over all hosts.

        A mixed step may take one quantum less.
        """
        if not self.mixed:
            return {source.name: source.batch_size for source in self.sources}
        most = [self.quantum * math.ceil(share) for share in self._shares]
        return {source.name: n for source, n in zip(self.sources, most, strict=True)}

    @cached_property
    def total_steps(self) -> int:
        return self.steps or self._steps_before(Fraction(str(self.epochs)))

    @cached_property
    def steps_per_epoch(self) -> float:
        return float(sum(self._rates))

    def epoch_at(self, step: int) -> float:
        """Epochs that are done before this step."""
        if self.mixed:
            return float(step / self._rates[0])
        epoch, first, last = self._epoch_of(step)
        if step == last:  # the end of the run
            return float(self._end(epoch + 1))
        return epoch + float(self._end(epoch + 1) - epoch) * (step - first) / (last - first)

    def batches_before(self, step: int) -> dict[str, int]:
        """Batches that every dataset has given before this step.

        At `total_steps` those of the whole run.
        """
        if self.mixed:
            return dict.fromkeys(self.batch_sizes, step)
        epoch, first, _ = self._epoch_of(step)
        order, _ = self._slots(epoch)
        here = np.bincount(order[: step - first], minlength=len(self.sources))
        return {
            s.name: n + int(m)
            for s, n, m in zip(self.sources, self._counts(Fraction(epoch)), here, strict=True)
        }

    def samples_before(self, step: int) -> dict[str, int]:
        """Samples that every dataset has given before this step."""
        if self.mixed:
            given = [self.quantum * math.floor(step * share) for share in self._shares]
            return {source.name: n for source, n in zip(self.sources, given, strict=True)}
        return {name: n * self.batch_sizes[name] for name, n in self.batches_before(step).items()}

    def passes_before(self, step: int) -> dict[str, float]:
        """Passes over every dataset that are done before this step."""
        samples = self.samples_before(step)
        return {source.name: samples[source.name] / source.size for source in self.sources}

    def step(self, step: int) -> tuple[Draw, ...]:
        """Tells the samples of a step: one draw, or one of every dataset.

        Raises:
            IndexError: the run has no such step.

        """
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} of a run of {self.total_steps} steps")
        if self.mixed:
            first, end = self.samples_before(step), self.samples_before(step + 1)
            return tuple(self._draw(s, first[s.name], end[s.name]) for s in self.sources)
        epoch, first, _ = self._epoch_of(step)
        order, ranks = self._slots(epoch)
        source = self.sources[order[step - first]]
        before = self._counts(Fraction(epoch))[order[step - first]]
        batch = before + int(ranks[step - first])
        return (self._draw(source, batch * source.batch_size, (batch + 1) * source.batch_size),)

    def replacement(self, draw: Draw, slot: int, attempt: int) -> int:
        """Another sample of the dataset for a slot whose record is damaged.

        `attempt` counts from 0.
        """
        size = next(source.size for source in self.sources if source.name == draw.dataset)
        return int(hashed(draw.seeds[slot : slot + 1], np.array([attempt]))[0] % np.uint64(size))

    def _draw(self, source: Source, first: int, end: int) -> Draw:
        """The samples of a dataset's stream from `first` to before `end`."""
        positions = np.arange(first, end)
        passes, offsets = positions // source.size, positions % source.size
        keys = hashed(key_of(self.seed, source.name, "order"), passes)
        seeds = hashed(key_of(self.seed, source.name, "augmentation"), positions)
        return Draw(source.name, passes, permute(offsets, source.size, keys), seeds)

    @cached_property
    def _total(self) -> int:
        """Samples of a mixed step, on average."""
        return self.batch_size or max(source.batch_size for source in self.sources)

    @cached_property
    def _shares(self) -> list[Fraction]:
        """Quanta of every dataset in a mixed step, on average."""
        samples = [source.samples_per_epoch for source in self.sources]
        return [Fraction(self._total, self.quantum) * n / sum(samples) for n in samples]

    def _check_shares(self) -> None:
        share, name = min((n, s.name) for n, s in zip(self._shares, self.sources, strict=True))
        if share < 1:  # a step without samples of a dataset would still move its head
            least = math.ceil(self._total / share)
            raise ValueError(
                f"train.batch_size={self._total} of mixed steps has "
                f"{float(share * self.quantum):.2g} samples of data.{name}; "
                f"use {least} or more, or raise data.{name}.ratio"
            )

    @cached_property
    def _rates(self) -> list[Fraction]:
        """Steps of an epoch, of every dataset or (mixed) of all together."""
        if self.mixed:
            samples = sum((source.samples_per_epoch for source in self.sources), Fraction(0))
            return [samples / self._total]
        return [source.samples_per_epoch / source.batch_size for source in self.sources]

    def _end(self, epoch: int) -> Fraction:
        """Where the epoch before `epoch` ends: with the run, if that comes first."""
        return Fraction(epoch) if self.steps else min(Fraction(epoch), Fraction(str(self.epochs)))

    def _counts(self, epochs: Fraction) -> list[int]:
        return [math.floor(epochs * rate) for rate in self._rates]

    def _steps_before(self, epochs: Fraction) -> int:
        return sum(self._counts(epochs))

    def _epoch_of(self, step: int) -> tuple[int, int, int]:
        """The epoch that a step lies in, its first step and the next one's.

        The run's end lies in its last epoch.
        """
        # no epoch from here on starts before step
        most = math.ceil((step + len(self._rates)) / sum(self._rates)) + 1
        if not self.steps:
            most = min(most, math.ceil(Fraction(str(self.epochs))))
        epoch = bisect_right(range(most), step, key=lambda e: self._steps_before(Fraction(e))) - 1
        return epoch, self._steps_before(Fraction(epoch)), self._steps_before(self._end(epoch + 1))

    def _slots(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        counts = np.subtract(self._counts(self._end(epoch + 1)), self._counts(Fraction(epoch)))
        return _permuted_slots(tuple(counts.tolist()), key_of(self.seed, epoch, "slots"))


@lru_cache(maxsize=8)
def _permuted_slots(counts: tuple[int, ...], key: int) -> tuple[np.ndarray, np.ndarray]:
    """The order in which an epoch's steps visit the datasets.

    And the number of each step among those of its dataset.
    """
    total = sum(counts)
    at = permute(np.arange(total), total, np.full(total, key, np.uint64))
    order = np.searchsorted(np.cumsum(counts), at, side="right")
    ranks = np.empty(total, np.int64)
    for dataset, count in enumerate(counts):
        ranks[order == dataset] = np.arange(count)
    return order, ranks
