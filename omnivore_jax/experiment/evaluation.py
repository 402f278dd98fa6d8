"""Evaluates a run.

Every validation sample once on its dataset's head, depth alone, features for retrieval.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from omnivore_jax.core.types import Batch
from omnivore_jax.data.loader import eval_batches
from omnivore_jax.data.sample import Dataset
from omnivore_jax.eval import evaluator
from omnivore_jax.eval.evaluator import Classification, Features, Mode
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.splits import RunData
from omnivore_jax.train.mesh import batch_sharding, batch_shards

Params = Any


class Evaluator:
    """Runs splits through the model of a run; compiles once for every dataset and mode."""

    def __init__(self, settings: Settings, data: RunData, mesh: jax.sharding.Mesh):
        self._settings, self._data, self._mesh = settings, data, mesh
        self._functions: dict[tuple[str, ...], Any] = {}
        self._sharding = batch_sharding(mesh)

    def classify_all(self, params: Params) -> dict[str, Classification]:
        """Classifies every validation split."""
        return {name: self.classify(name, params) for name in self._data.val}

    def classify(self, name: str, params: Params, mode: Mode = "all") -> Classification:
        """Classifies one validation split; `mode` "depth" hides the colours of RGB-D."""
        task = self._settings.tasks[name]
        key = "logits", name, mode
        if key not in self._functions:
            model, heads = self._settings.model, self._settings.heads
            made = evaluator.make_predict(
                model, heads, task.head, task.preprocessing, mode, self._mesh
            )
            self._functions[key] = made
        return evaluator.classify(
            self._functions[key],
            params,
            self._batches(name, self._data.val[name]),
            task.classes,
            self._place,
        )

    def features(self, name: str, dataset: Dataset, params: Params, mode: Mode = "all") -> Features:
        """Pooled, L2-normalised features of a split.

        `name` says how its samples are standardised.
        """
        key = "features", name, mode
        if key not in self._functions:
            model, heads = self._settings.model, self._settings.heads
            preprocessing = self._settings.tasks[name].preprocessing
            self._functions[key] = evaluator.make_features(
                model, heads, preprocessing, mode, self._mesh
            )
        return evaluator.extract_features(
            self._functions[key], params, self._batches(name, dataset), self._place
        )

    def _batches(self, name: str, dataset: Dataset) -> Iterator[tuple[Batch, list[str]]]:
        shard = jax.process_index(), jax.process_count()
        return eval_batches(
            dataset, self._batch_size(name) // shard[1], shard, self._settings.loader.threads
        )

    def _batch_size(self, name: str) -> int:
        """Samples of a batch over all devices; no device takes more at once than in training."""
        shards, most = batch_shards(self._mesh.shape), self._settings.eval.batch_size
        micro = self._settings.tasks[name].microbatch
        return -(-min(most, micro * shards if micro else most) // shards) * shards

    def _place(self, batch: Batch) -> Batch:
        def put(local: np.ndarray) -> jax.Array:
            return jax.make_array_from_process_local_data(self._sharding, local)

        return jax.tree.map(put, batch)
