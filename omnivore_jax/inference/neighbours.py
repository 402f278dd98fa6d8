"""What is nearest to what between two sets of features, whatever modality they are of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int

from omnivore_jax.core.buckets import local_copy
from omnivore_jax.core.errors import UserError
from omnivore_jax.eval.knn import Knn, answerable, nearest, vote
from omnivore_jax.eval.knn import Search as Engine
from omnivore_jax.inference.feature_set import NO_LABEL, FeatureSet


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

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> "Retrieval":
        """Undoes `json`; raises KeyError, TypeError or ValueError where it is something else."""
        rows, knn = data["queries"], data["knn"]
        answers = [tuple(Neighbour(**answer) for answer in row["neighbours"]) for row in rows]
        return cls(tuple(row["id"] for row in rows), answers, None if knn is None else Knn(**knn))


class Search(NamedTuple):
    """The files of a search, and what it found."""

    queries: str
    gallery: str
    found: Retrieval

    def json(self) -> dict[str, Any]:
        """Gives all of it as plain JSON."""
        files = {"queries": self.queries, "gallery": self.gallery}
        return {"files": files, **self.found.json()}


def read_search(path: Path) -> Search:
    """Reads what `retrieve query --json` printed.

    Raises:
        UserError: the file cannot be read, or is something else.

    """
    try:
        data = json.loads(local_copy(path).read_text(encoding="utf-8"))
        return Search(**data["files"], found=Retrieval.of_json(data))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no search ({error!r}); make it with retrieve query ... --json > {path.name}"
        ) from error


def find(
    queries: FeatureSet,
    gallery: FeatureSet,
    k: int,
    tau: float,
    listed: int,
    search: Engine = nearest,
) -> Retrieval:
    """Searches the whole gallery for every query.

    Raises:
        UserError: features of two models, which have nothing to do with each other, or maps.

    """
    _check_pair(queries, gallery)
    count = min(max(k, listed), len(gallery.feature))
    indices, similarities = search(np.asarray(queries.feature), gallery.feature, count)
    names = gallery.names
    answers = [
        tuple(
            Neighbour(gallery.ids[i], names[i], float(similarity))
            for i, similarity in zip(row, near, strict=True)
        )
        for row, near in zip(indices[:, :listed].tolist(), similarities[:, :listed], strict=True)
    ]
    knn = _knn(queries, gallery, indices[:, :k], similarities[:, :k], tau)
    return Retrieval(queries.ids, answers, knn)


def _check_pair(queries: FeatureSet, gallery: FeatureSet) -> None:
    for name, features in (("queries", queries), ("gallery", gallery)):
        if features.feature.ndim > 2:
            raise UserError(
                f"the {name} are maps of stage {features.origin.get('stage')}; search takes pooled "
                "features: extract them without --stage"
            )
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


def _knn(
    queries: FeatureSet,
    gallery: FeatureSet,
    indices: Int[np.ndarray, "q k"],
    similarities: Float32[np.ndarray, "q k"],
    tau: float,
) -> Knn | None:
    """Classifies the queries whose class the gallery has, by class names.

    None where samples of the gallery have no class, or it has one alone.
    """
    numbers = {name: number for number, name in enumerate(gallery.classes)}
    label = np.array([numbers.get(name or "", NO_LABEL) for name in queries.names])
    can = answerable(label, gallery.label) & (label != NO_LABEL)
    classes = len(np.unique(gallery.label))
    if not can.any() or classes < 2 or (gallery.label == NO_LABEL).any():
        return None
    predicted = vote(indices[can], similarities[can], gallery.label, tau)
    return Knn(int(can.sum()), float(np.mean(predicted == label[can])), 1 / classes)
