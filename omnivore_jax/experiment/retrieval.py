"""Neighbours across modalities.

Pictures look for depth maps and clips of the same thing (paper, section 5).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from omnivore_jax.core.types import Mode
from omnivore_jax.data.datasets import open_dataset
from omnivore_jax.data.demo import digit_of
from omnivore_jax.data.sample import Dataset, Sample
from omnivore_jax.data.shuffle import permute
from omnivore_jax.eval.evaluator import Features
from omnivore_jax.eval.knn import TAU, K, Knn, answerable, knn_accuracy, nearest
from omnivore_jax.experiment.evaluation import RunEvaluator
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.splits import Readable, RunData, eval_transform


@dataclass(frozen=True)
class Part:
    """So many samples of a dataset, drawn once for all.

    A fixed stride could hit one class alone (sample.Dataset).
    """

    whole: Dataset
    most: int

    def __len__(self) -> int:
        return min(len(self.whole), self.most)

    def load(self, index: int, seed: int) -> Sample:
        size = len(self.whole)
        if size > self.most:
            index = int(permute(np.array([index]), size, np.zeros(1, np.uint64))[0])
        return self.whole.load(index, seed)


class Pair(NamedTuple):
    """Pictures that ask and a gallery that answers, of another modality."""

    query: str
    gallery: str
    mode: Mode
    shows: str
    """What a gallery sample is, in words."""


class Neighbours(NamedTuple):
    """What was found for a pair."""

    pair: Pair
    queries: Part
    gallery: Part
    indices: np.ndarray
    """int [q k]: the nearest of the gallery, nearest first."""
    similarities: np.ndarray
    query_concepts: np.ndarray
    gallery_concepts: np.ndarray
    """What a sample shows, comparable between datasets: class names."""
    knn: Knn | None
    """None where the two have no class in common."""


def pairs(settings: Settings, data: RunData) -> Iterator[Pair]:
    """Lists what can be looked for.

    The first picture dataset asks every dataset with depth and every one of clips.
    """
    whole = [name for name, task in settings.tasks.items() if task.labels == "class"]
    asking = [name for name in data.val if name in whole]
    asking = [name for name in asking if settings.datasets[name].kind == "image"][:1]
    for query in asking:
        for name in whole:
            config = settings.datasets[name]
            if config.kind == "rgbd":
                yield Pair(query, name, "depth", "depth maps")
            elif config.kind == "video":
                yield Pair(query, name, "all", "clips")


def find_neighbours(
    pair: Pair, settings: Settings, data: RunData, evaluator: RunEvaluator, params: Any
) -> Neighbours:
    """Extracts features of both sides and compares them.

    Validation pictures against training samples.
    """
    queries = Part(data.val[pair.query], settings.eval.retrieval)
    config, transform = settings.datasets[pair.gallery], eval_transform(pair.gallery, settings)
    unchanged = open_dataset(pair.gallery, config, settings.store.root, "train", transform)
    gallery = Part(Readable(unchanged), settings.eval.retrieval)
    asked = evaluator.features(pair.query, queries, params)
    found = evaluator.features(pair.gallery, gallery, params, pair.mode)
    query_concepts = concepts(pair.query, data.val[pair.query].classes, asked)
    gallery_concepts = concepts(pair.gallery, unchanged.classes, found)
    knn = _knn(asked, found, query_concepts, gallery_concepts)
    indices, similarities = nearest(asked.feature, found.feature, min(5, len(gallery)))
    return Neighbours(
        pair, queries, gallery, indices, similarities, query_concepts, gallery_concepts, knn
    )


def _knn(
    asked: Features, found: Features, query_concepts: np.ndarray, gallery_concepts: np.ndarray
) -> Knn | None:
    """Scores the queries whose concept the gallery has.

    None where there is none, or nothing to confuse it with.
    """
    numbers = {
        concept: number
        for number, concept in enumerate(np.unique([*query_concepts, *gallery_concepts]))
    }
    queries = np.array([numbers[concept] for concept in query_concepts])
    gallery = np.array([numbers[concept] for concept in gallery_concepts])
    can = answerable(queries, gallery)
    if not can.any() or len(np.unique(gallery)) < 2:
        return None
    return knn_accuracy(
        asked.feature[can], queries[can], found.feature, gallery, min(K, len(gallery)), TAU
    )


def concepts(name: str, classes: Sequence[str], features: Features) -> np.ndarray:
    """What each sample shows, as text: its class name; for the demo's clips, which digit moves."""
    if name.startswith("demo_"):
        return digit_of(name, features.label).astype(str)
    return np.asarray(classes)[features.label]
