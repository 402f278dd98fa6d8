"""Nearest neighbours across modalities.

A picture is classified by the depth maps or clips whose features are closest.

Protocol of the paper (section 5, App. B.4), FACTS 5: features of length 1, k = 20, tau = .07;
queries are always RGB, only what the gallery shows changes.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Shaped

K, TAU = 20, 0.07
BLOCK = 8192
"""Rows compared at once, of queries and of gallery.

256 MiB of similarities, however long the two are.
"""


@dataclass(frozen=True)
class Knn:
    """Result of classifying by neighbours."""

    n: int
    """Queries."""
    top1: float
    chance: float
    """One over the number of classes in the gallery."""

    def row(self) -> dict[str, float | int]:
        """The figures of a line of metrics.jsonl."""
        return {"n": self.n, "top1": self.top1, "chance": self.chance}


def nearest(
    query: Float32[np.ndarray, "q c"],
    gallery: Float32[np.ndarray, "n c"],
    k: int = K,
    block: int = BLOCK,
) -> tuple[Int32[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
    """Finds the k rows of the gallery closest to every query, and their similarities (cosines).

    Of equally close rows the first in the gallery wins, however the work is cut.

    Raises:
        ValueError: the gallery is shorter than k, or a feature does not have length 1.

    """
    if not 1 <= k <= len(gallery):
        raise ValueError(
            f"k={k} neighbours of a gallery with {len(gallery)} samples; use 1 to {len(gallery)}"
        )
    for name, features in (("query", query), ("gallery", gallery)):
        if not np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-3):
            raise ValueError(f"a {name} feature does not have length 1; divide each by its norm")
    found = [
        _nearest_in_blocks(query[at : at + block], gallery, k, block)
        for at in range(0, len(query), block)
    ]
    if not found:
        return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
    indices, similarities = zip(*found, strict=True)
    return np.concatenate(indices), np.concatenate(similarities)


def knn_predict(
    query: Float32[np.ndarray, "q c"],
    gallery: Float32[np.ndarray, "n c"],
    gallery_labels: Int[np.ndarray, " n"],
    k: int = K,
    tau: float = TAU,
) -> Int[np.ndarray, " q"]:
    """Gives every query the label whose neighbours weigh most: sum of exp(similarity / tau)."""
    if tau <= 0:
        raise ValueError(f"tau={tau}; use a number above 0")
    labels, class_of_row = np.unique(gallery_labels, return_inverse=True)
    indices, similarities = nearest(query, gallery, k)
    winners = [
        _vote(
            class_of_row[indices[at : at + BLOCK]], similarities[at : at + BLOCK], len(labels), tau
        )
        for at in range(0, len(query), BLOCK)
    ]
    return labels[np.concatenate([np.empty(0, int), *winners])]


def knn_accuracy(
    query: Float32[np.ndarray, "q c"],
    query_labels: Int[np.ndarray, " q"],
    gallery: Float32[np.ndarray, "n c"],
    gallery_labels: Int[np.ndarray, " n"],
    k: int = K,
    tau: float = TAU,
) -> Knn:
    """Scores all queries; leave out those that cannot be answered first (`answerable`)."""
    if not len(query):
        raise ValueError("there are no queries; give at least one whose class the gallery has")
    predicted = knn_predict(query, gallery, gallery_labels, k, tau)
    return Knn(
        len(query), float(np.mean(predicted == query_labels)), 1 / len(np.unique(gallery_labels))
    )


def answerable(
    query_labels: Int[np.ndarray, " q"], gallery_labels: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " q"]:
    """Tells which queries have a class that the gallery has too."""
    return np.isin(query_labels, gallery_labels)


def _vote(
    neighbours: Int[np.ndarray, "q k"],
    similarities: Float32[np.ndarray, "q k"],
    classes: int,
    tau: float,
) -> Int[np.ndarray, " q"]:
    """Class with the largest sum of weights, which are scaled so that the largest is 1.

    Nothing overflows.
    """
    weights = np.exp((similarities.astype(np.float64) - similarities.max(1, keepdims=True)) / tau)
    scores = np.zeros((len(neighbours), classes))
    np.add.at(scores, (np.arange(len(neighbours))[:, None], neighbours), weights)
    return scores.argmax(1)


class _Best(NamedTuple):
    """The nearest rows so far, nearest first."""

    similarity: Float[Array, "q k"]
    index: Int[Array, "q k"]


def _nearest_in_blocks(
    query: Shaped[np.ndarray, "q c"], gallery: Shaped[np.ndarray, "n c"], k: int, block: int
) -> tuple[Int32[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
    """Walks the gallery in blocks of one size, for one program, and keeps the best k so far."""
    size = min(block, len(gallery))
    placed = jax.device_put(query)
    nothing = np.full((len(query), k), -np.inf, np.float32), np.zeros((len(query), k), np.int32)
    best = _Best(*jax.device_put(nothing))
    for at in range(0, len(gallery), size):
        rows = gallery[at : at + size]
        padded = np.pad(rows, [(0, size - len(rows)), (0, 0)])
        block_of_rows = jax.device_put((padded, np.int32(at), np.int32(len(rows))))
        best = _better(best, placed, *block_of_rows, k=k)
    similarities, indices = jax.device_get(best)
    return indices, similarities


@partial(jax.jit, static_argnames="k")
def _better(
    best: _Best,
    query: Float[Array, "q c"],
    rows: Float[Array, "n c"],
    first: Int[Array, ""],
    valid: Int[Array, ""],
    *,
    k: int,
) -> _Best:
    """Merges the best so far with a block of the gallery whose first row is number `first`."""
    at = jnp.arange(len(rows), dtype=jnp.int32)
    similarity = jnp.matmul(query, rows.T, precision="highest")
    similarity = jnp.where(at < valid, similarity, -jnp.inf)
    near, where = jax.lax.top_k(similarity, min(k, len(rows)))
    candidates = jnp.concatenate([best.index, first + where], axis=1)
    similarity, place = jax.lax.top_k(jnp.concatenate([best.similarity, near], axis=1), k)
    return _Best(similarity, jnp.take_along_axis(candidates, place, axis=1))
