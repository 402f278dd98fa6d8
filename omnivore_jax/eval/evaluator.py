"""What a model gets right on a split, every sample counted once, and the features it sees there.

Devices give figures of single samples; they are added up on the host, so that neither padding nor
the number of devices can change a result.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Bool, Float32, PyTree, Shaped

from omnivore_jax.core.types import Batch
from omnivore_jax.eval.predictor import Feed, Predictor
from omnivore_jax.model.params import Params
from omnivore_jax.tasks.base import Result, Task

Batches = Iterable[tuple[Batch, list[str]]]
"""Host batches, padded with mask False, and the ids of their real samples."""

Place = Callable[[Batch], Batch]
"""Puts this process's part of a batch (numpy) on its devices."""


class Features(NamedTuple):
    """Pooled features of the samples of a split, in the order of the batches."""

    feature: Float32[np.ndarray, "n ..."]
    """Of length 1 [n c], or maps [n t h w c]."""
    label: Shaped[np.ndarray, "n ..."]
    ids: list[str]
    """Of this process's part of the batches."""


class Evaluator(NamedTuple):
    """Runs whole splits through a predictor."""

    predictor: Predictor
    place: Place = jax.device_put

    def evaluate(self, params: Params, batches: Batches, task: Task, feed: Feed) -> Result:
        """Scores a split on the head of its task.

        Raises:
            ValueError: there are no samples, or a label that the head does not have.

        """
        judged, ids = self.judge(params, batches, task, feed)
        return task.result(judged, ids if jax.process_count() == 1 else [])

    def judge(
        self, params: Params, batches: Batches, task: Task, feed: Feed
    ) -> tuple[PyTree[np.ndarray], list[str]]:
        """Judges every sample by itself (`Task.judge`); also gives the ids of this process's."""

        def judge(batch: Batch) -> PyTree:
            return self.predictor.judge(params, batch, task, feed)

        return _collect(judge, batches, self.place)

    def features(self, params: Params, batches: Batches, feed: Feed, stage: str = "") -> Features:
        """Extracts the features of a split, or the maps of a stage."""

        def see(batch: Batch) -> PyTree:
            return self.predictor.features(params, batch, feed, stage), batch.label

        (feature, label), ids = _collect(see, batches, self.place)
        return Features(feature, label, ids)


def _collect(
    run: Callable[[Batch], PyTree], batches: Batches, place: Place
) -> tuple[Any, list[str]]:
    """Concatenates what `run` gives for real samples; fetches one batch while the next one runs."""
    parts, ids, pending = [], [], None
    for batch, names in batches:
        # JAX counts making a global array of parts as a transfer in passing.
        with jax.transfer_guard_host_to_device("allow"):
            placed = place(batch)
        ahead = run(placed), placed.mask
        if pending is not None:
            parts.append(_fetch(*pending))
        pending = ahead
        ids += names
    if pending is None:
        raise ValueError(
            "there is nothing to evaluate: the split gave no batches; prepare it or leave its "
            "dataset out"
        )
    parts.append(_fetch(*pending))
    joined = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    return joined, ids


def _fetch(results: PyTree, mask: Bool[jax.Array, " b"]) -> PyTree:
    """Brings the rows of the real samples to the host, on every process those of all."""
    if not mask.is_fully_addressable:
        results, mask = _gather(mask.sharding)((results, mask))
    results, mask = jax.device_get((results, mask))
    return jax.tree.map(lambda array: array[mask], results)


@cache
def _gather(sharding: NamedSharding) -> Callable[[PyTree], PyTree]:
    return jax.jit(lambda arrays: arrays, out_shardings=NamedSharding(sharding.mesh, P()))
