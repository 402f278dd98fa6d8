"""Evaluates a run: hands the validation splits of its datasets to the evaluator."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from omnivore_jax.core import dist
from omnivore_jax.core.types import Batch, Mode
from omnivore_jax.data.loader import eval_batches
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.sample import Dataset
from omnivore_jax.eval.evaluator import Evaluator, Features
from omnivore_jax.eval.predictor import Feed, Predictor
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.splits import RunData, last_protocol
from omnivore_jax.inference.trained import feed_of
from omnivore_jax.model.params import Params
from omnivore_jax.tasks.base import Result, Task
from omnivore_jax.train.mesh import batch_sharding, batch_shards

ONE_VIEW = Protocol()


class RunEvaluator:
    """Knows of every dataset of a run how its samples are fed, batched and judged."""

    def __init__(self, settings: Settings, data: RunData, mesh: jax.sharding.Mesh):
        self._settings, self._data, self._mesh = settings, data, mesh
        self._sharding = batch_sharding(mesh)
        self._predictor = Predictor(settings.model, settings.heads, settings.compute, mesh)
        self._evaluator = Evaluator(self._predictor, self._place)

    def evaluate_all(self, params: Params) -> dict[str, Result]:
        """Scores every validation split."""
        return {name: self.evaluate(name, params) for name in self._data.val}

    def evaluate(self, name: str, params: Params, mode: Mode = "all") -> Result:
        """Scores one validation split; `mode` "depth" hides the colours of RGB-D."""
        batches = self._batches(name, self._data.val[name])
        task = self._task(name)
        return self._evaluator.evaluate(params, batches, task, self._feed(name, mode))

    def evaluate_last(self, name: str, params: Params, mode: Mode = "all") -> Result:
        """Scores one validation split as the last evaluation does, with all its views."""
        protocol = last_protocol(name, self._settings)
        dataset = self._data.last[name]
        batches = self._batches(name, dataset, protocol)
        feed = feed_of(self._settings.training[name].preprocessing, protocol, mode)
        return self._evaluator.evaluate(params, batches, self._task(name), feed)

    def outputs(self, name: str, batch: Batch, params: Params) -> Any:
        """Gives what the head of a dataset says of a batch that all processes hold, to all."""
        task, feed = self._settings.training[name].task, self._feed(name, "all")
        placed = jax.tree.map(
            lambda x: jax.make_array_from_callback(x.shape, self._sharding, lambda i: x[i]), batch
        )
        whole = NamedSharding(self._mesh, PartitionSpec())
        output = self._predictor.outputs(params, placed, task, feed)
        return jax.device_get(jax.jit(lambda x: x, out_shardings=whole)(output))

    def features(self, name: str, dataset: Dataset, params: Params, mode: Mode = "all") -> Features:
        """Extracts features of samples that are fed as those of the dataset `name`."""
        batches = self._batches(name, dataset)
        return self._evaluator.features(params, batches, self._feed(name, mode))

    def _task(self, name: str) -> Task:
        return self._settings.training[name].task.named(self._data.val[name].classes)

    def _feed(self, name: str, mode: Mode) -> Feed:
        return Feed(self._settings.training[name].preprocessing, mode)

    def _batches(
        self, name: str, dataset: Dataset, protocol: Protocol = ONE_VIEW
    ) -> Iterator[tuple[Batch, list[str]]]:
        # With a tensor axis over processes, several of them hold the same rows.
        shard = dist.batch_part(self._sharding, batch_shards(self._mesh.shape))
        size = batch_size(self._settings, name, protocol, self._mesh) // shard[1]
        return eval_batches(dataset, size, shard, self._settings.loader.threads)

    def _place(self, batch: Batch) -> Batch:
        def put(local: np.ndarray) -> jax.Array:
            return jax.make_array_from_process_local_data(self._sharding, local)

        return jax.tree.map(put, batch)


def batch_size(settings: Settings, name: str, protocol: Protocol, mesh: jax.sharding.Mesh) -> int:
    """Samples over all devices; a device takes one, or as many views as in training."""
    shards, limit = batch_shards(mesh.shape), settings.eval.batch_size
    if protocol.whole:  # large, and of any size
        return shards
    micro = settings.training[name].recipe.microbatch
    size = min(limit, micro * shards) if micro else limit
    return -(-max(size // protocol.views, 1) // shards) * shards
