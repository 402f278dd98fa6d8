"""Where samples are seen: devices of one or several processes, and the order in which they come."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from omnivore_jax.core import dist
from omnivore_jax.core.types import Batch
from omnivore_jax.data.loader import eval_batches
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.sample import Dataset
from omnivore_jax.eval.evaluator import Evaluator
from omnivore_jax.eval.predictor import Predictor
from omnivore_jax.inference.trained import TrainedModel
from omnivore_jax.train.mesh import batch_sharding, batch_shards

DEVICE_FRAMES = 64
"""Frames of all views that a device takes at once where no batch size is asked for."""


class Hall(NamedTuple):
    """Where samples are seen: devices, and how many threads read for them."""

    mesh: Mesh
    batch_size: int = 0
    """Samples at once over all devices; 0: by the frames of their views."""
    threads: int = 0
    advance: Callable[[], None] = lambda: None
    """Called for every sample."""

    def size(self, samples: Dataset, protocol: Protocol) -> int:
        """Counts the samples of a batch, which divides over the devices."""
        shards = batch_shards(self.mesh.shape)
        fits = max(1, DEVICE_FRAMES // (protocol.views * protocol.frames)) * shards
        fits = shards if protocol.whole else fits  # large, and of any size
        return -(-(self.batch_size or min(fits, len(samples))) // shards) * shards

    @property
    def part(self) -> tuple[int, int]:
        """Which part of every batch this process reads, and how many parts there are: (i, n)."""
        return dist.batch_part(batch_sharding(self.mesh), batch_shards(self.mesh.shape))

    def batches(self, samples: Dataset, size: int) -> Iterator[tuple[Batch, list[str]]]:
        """Gives every sample once, in batches of a size, of which this process reads its part."""
        part = self.part
        for batch, ids in eval_batches(samples, size // part[1], part, threads=self.threads):
            yield batch, ids
            self.skip(len(ids) * part[1])

    def in_order(
        self, rows: PyTree[np.ndarray], ids: list[str], count: int, size: int
    ) -> tuple[Any, list[str]]:
        """Puts what was found of `count` samples, batch by batch, into the order of the dataset.

        `ids` are those of this process's part; every process gets those of all.
        """
        number, parts = self.part
        if parts == 1:
            return rows, ids
        place = np.argsort(_reading_order(count, size, parts))
        named = dict(dist.gather([number, ids]))  # who reads the same part has the same
        columns = [named[k] for k in range(parts)]
        in_turn = [columns[k % parts][k // parts] for k in range(count)]
        return jax.tree.map(lambda array: array[place], rows), in_turn

    def skip(self, count: int) -> None:
        """Counts samples as done that were seen before."""
        for _ in range(count):
            self.advance()

    def place(self, batch: Batch) -> Batch:
        """Divides a batch, of which every process has its part, over the devices."""
        sharding = batch_sharding(self.mesh)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    def replicated(self, params: Any) -> Any:
        """Puts parameters on every device, those of other processes too, which hold the same."""
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        if jax.process_count() == 1:
            return jax.device_put(params, everywhere)
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(everywhere, np.asarray(x)), params
        )

    def evaluator(self, trained: TrainedModel) -> Evaluator:
        """Makes what runs splits through the model."""
        model = trained.model
        return Evaluator(Predictor(model.config, model.heads, model.compute, self.mesh), self.place)


def _reading_order(count: int, size: int, parts: int) -> Int[np.ndarray, " n"]:
    """Lists samples as batches have them, where part i takes every n-th from the i-th on."""
    each = size // parts
    columns = [np.arange(part, count, parts) for part in range(parts)]
    batches = range(-(-count // size))
    return np.concatenate(
        [column[k * each : (k + 1) * each] for k in batches for column in columns]
    )
