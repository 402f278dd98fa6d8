"""Evaluates a run: hands the validation splits of its datasets to the evaluator."""

from collections.abc import Iterator

import jax
import numpy as np

from omnivore_jax.core import dist
from omnivore_jax.core.types import Batch, Mode
from omnivore_jax.data.loader import eval_batches
from omnivore_jax.data.sample import Dataset
from omnivore_jax.eval.evaluator import Evaluator, Features
from omnivore_jax.eval.predictor import Feed, Predictor
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.splits import RunData, last_protocol
from omnivore_jax.model.params import Params
from omnivore_jax.tasks.base import Result
from omnivore_jax.train.mesh import batch_sharding, batch_shards


class RunEvaluator:
    """Knows of every dataset of a run how its samples are fed, batched and judged."""

    def __init__(self, settings: Settings, data: RunData, mesh: jax.sharding.Mesh):
        self._settings, self._data, self._mesh = settings, data, mesh
        self._sharding = batch_sharding(mesh)
        predictor = Predictor(settings.model, settings.heads, settings.compute, mesh)
        self._evaluator = Evaluator(predictor, self._place)

    def evaluate_all(self, params: Params) -> dict[str, Result]:
        """Scores every validation split."""
        return {name: self.evaluate(name, params) for name in self._data.val}

    def evaluate(self, name: str, params: Params, mode: Mode = "all") -> Result:
        """Scores one validation split; `mode` "depth" hides the colours of RGB-D."""
        batches = self._batches(name, self._data.val[name])
        task = self._settings.training[name].task
        return self._evaluator.evaluate(params, batches, task, self._feed(name, mode))

    def evaluate_last(self, name: str, params: Params, mode: Mode = "all") -> Result:
        """Scores one validation split as the last evaluation does, with all its views."""
        protocol = last_protocol(name, self._settings)
        dataset = self._data.last[name]
        batches = self._batches(name, dataset, protocol.views)
        feed = self._feed(name, mode)._replace(views=protocol.views, fusion=protocol.fusion)
        task = self._settings.training[name].task
        return self._evaluator.evaluate(params, batches, task, feed)

    def features(self, name: str, dataset: Dataset, params: Params, mode: Mode = "all") -> Features:
        """Extracts features of samples that are fed as those of the dataset `name`."""
        batches = self._batches(name, dataset)
        return self._evaluator.features(params, batches, self._feed(name, mode))

    def _feed(self, name: str, mode: Mode) -> Feed:
        return Feed(self._settings.training[name].preprocessing, mode)

    def _batches(
        self, name: str, dataset: Dataset, views: int = 1
    ) -> Iterator[tuple[Batch, list[str]]]:
        # With a tensor axis over processes, several of them hold the same rows.
        shard = dist.batch_part(self._sharding, batch_shards(self._mesh.shape))
        size = self._batch_size(name, views) // shard[1]
        return eval_batches(dataset, size, shard, self._settings.loader.threads)

    def _batch_size(self, name: str, views: int) -> int:
        """Samples over all devices; a device takes one, or as many views as in training."""
        shards, limit = batch_shards(self._mesh.shape), self._settings.eval.batch_size
        micro = self._settings.training[name].recipe.microbatch
        size = min(limit, micro * shards) if micro else limit
        return -(-max(size // views, 1) // shards) * shards

    def _place(self, batch: Batch) -> Batch:
        def put(local: np.ndarray) -> jax.Array:
            return jax.make_array_from_process_local_data(self._sharding, local)

        return jax.tree.map(put, batch)
