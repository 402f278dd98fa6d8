"""What is nearest to what between two sets of features, whatever modality they are of."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from omnivore_jax.core.errors import UserError
from omnivore_jax.eval.knn import Knn, answerable, knn_accuracy, nearest
from omnivore_jax.inference.feature_set import FeatureSet


class Neighbour(NamedTuple):
    """A sample of the gallery."""

    id: str
    name: str | None
    """Its class, where it has one."""
    similarity: float
    """Cosine."""


@dataclass(frozen=True)
class Retrieval:
    """What was found for every query, nearest first."""

    ids: tuple[str, ...]
    answers: list[tuple[Neighbour, ...]]
    knn: Knn | None
    """None where the two have no class in common, or the gallery has one alone."""

    def json(self) -> dict[str, Any]:
        """Gives neighbours and figures as plain JSON."""
        rows = [
            {"id": id, "neighbours": [answer._asdict() for answer in answers]}
            for id, answers in zip(self.ids, self.answers, strict=True)
        ]
        return {"knn": None if self.knn is None else self.knn.row(), "queries": rows}


def find(queries: FeatureSet, gallery: FeatureSet, k: int, tau: float, listed: int) -> Retrieval:
    """Searches the whole gallery for every query.

    Raises:
        UserError: features of two models, which have nothing to do with each other.

    """
    widths = queries.feature.shape[1], gallery.feature.shape[1]
    if widths[0] != widths[1]:
        raise UserError(
            f"the queries have {widths[0]} numbers, the gallery {widths[1]}: they are of two "
            "models; extract both with the same weights"
        )
    said = queries.origin.get("weights"), gallery.origin.get("weights")
    if said[0] != said[1]:
        raise UserError(
            f"the queries are of {said[0]}, the gallery of {said[1]}; extract both with the same "
            "weights"
        )
    indices, similarities = nearest(
        queries.feature, gallery.feature, min(listed, len(gallery.feature))
    )
    names = gallery.names
    answers = [
        tuple(
            Neighbour(gallery.ids[i], names[i], float(similarity))
            for i, similarity in zip(row, near, strict=True)
        )
        for row, near in zip(indices.tolist(), similarities, strict=True)
    ]
    return Retrieval(queries.ids, answers, _knn(queries, gallery, k, tau))


def _knn(queries: FeatureSet, gallery: FeatureSet, k: int, tau: float) -> Knn | None:
    """Classifies the queries whose class the gallery has, by class names."""
    numbers = {name: number for number, name in enumerate(gallery.classes)}
    label = np.array([numbers.get(name or "", -1) for name in queries.names])
    there = gallery.label >= 0
    can = answerable(label, gallery.label[there])
    if not can.any() or len(np.unique(gallery.label[there])) < 2:
        return None
    known = gallery.feature[there]
    return knn_accuracy(
        queries.feature[can], label[can], known, gallery.label[there], min(k, len(known)), tau
    )
