"""Nearest neighbours across modalities.

A picture is classified by the depth maps or clips whose features are closest.

Protocol of the paper (section 5, App. B.4), FACTS 5: features of length 1, k = 20, tau = .07;
queries are always RGB, only what the gallery shows changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Shaped

K, TAU = 20, 0.07
BLOCK, ROWS, TILE = 8192, 4096, 1024
"""Queries that walk the gallery together, rows of the gallery at a time, queries of one product.

A product is 16 MiB, which stays in the cache of a processor, however long the two are.
"""
GROUP = 32
"""Neighbouring rows of a block of which only those with the largest maxima are ranked."""


Search = Callable[
    [Float32[np.ndarray, "q c"], Float32[np.ndarray, "n c"], int],
    tuple[Int[np.ndarray, "q k"], Float32[np.ndarray, "q k"]],
]
"""Finds the k rows of a gallery closest to every query, and their similarities."""


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
    rows: int = ROWS,
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
    _check_length(query, "query")
    found = [
        _nearest_in_blocks(query[at : at + block], gallery, k, rows)
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
    """Gives every query the label whose neighbours weigh most (`vote`)."""
    return vote(*nearest(query, gallery, k), gallery_labels, tau)


def vote(
    indices: Int[np.ndarray, "q k"],
    similarities: Float32[np.ndarray, "q k"],
    gallery_labels: Int[np.ndarray, " n"],
    tau: float = TAU,
) -> Int[np.ndarray, " q"]:
    """Gives queries the label whose neighbours weigh most: sum of exp(similarity / tau)."""
    if tau <= 0:
        raise ValueError(f"tau={tau}; use a number above 0")
    labels, class_of_row = np.unique(gallery_labels, return_inverse=True)
    winners = [
        _vote(
            class_of_row[indices[at : at + BLOCK]], similarities[at : at + BLOCK], len(labels), tau
        )
        for at in range(0, len(indices), BLOCK)
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

    similarity: Float[Array, "*t q k"]
    index: Int[Array, "*t q k"]


def _nearest_in_blocks(
    query: Shaped[np.ndarray, "q c"], gallery: Shaped[np.ndarray, "n c"], k: int, rows: int
) -> tuple[Int32[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
    """Walks the gallery in blocks of one size, for one program, and keeps the best k so far."""
    size, tile = min(rows, len(gallery)), min(TILE, len(query))
    tiles = -(-len(query) // tile)
    placed = jax.device_put(_filled(query, tiles * tile).reshape(tiles, tile, -1))
    shape = (tiles, tile, k)
    best = _Best(*jax.device_put((np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int32))))
    for at in range(0, len(gallery), size):
        part = np.asarray(gallery[at : at + size])  # what lies on a disk is read here
        _check_length(part, "gallery")
        block = jax.device_put((_filled(part, size), np.int32(at), np.int32(len(part))))
        best = _better(best, placed, *block, k=k)
    similarities, indices = jax.device_get(best)
    return indices.reshape(-1, k)[: len(query)], similarities.reshape(-1, k)[: len(query)]


def _check_length(features: Shaped[np.ndarray, "n c"], name: str) -> None:
    # not np.linalg.norm, which squares all of them into another array
    if not np.allclose(np.sqrt(np.einsum("nc,nc->n", features, features)), 1, atol=1e-3):
        raise ValueError(f"a {name} feature does not have length 1; divide each by its norm")


def _filled(rows: Shaped[np.ndarray, "n c"], count: int) -> Shaped[np.ndarray, "count c"]:
    """Adds zeros below, up to a number of rows."""
    return rows if len(rows) == count else np.pad(rows, [(0, count - len(rows)), (0, 0)])


@partial(jax.jit, static_argnames="k")
def _better(
    best: _Best,
    query: Float[Array, "t q c"],
    rows: Float[Array, "n c"],
    first: Int[Array, ""],
    valid: Int[Array, ""],
    *,
    k: int,
) -> _Best:
    """Merges the best so far with a block of the gallery whose first row is number `first`."""
    at = jnp.arange(len(rows), dtype=jnp.int32)

    def merge(tile: tuple[_Best, Float[Array, "q c"]]) -> _Best:
        before, query = tile
        similarity = jnp.matmul(query, rows.T, precision="highest")
        similarity = jnp.where(at < valid, similarity, -jnp.inf)
        near, where = _largest(similarity, min(k, len(rows)))
        candidates = jnp.concatenate([before.index, first + where], axis=1)
        similarity, place = jax.lax.top_k(jnp.concatenate([before.similarity, near], axis=1), k)
        return _Best(similarity, jnp.take_along_axis(candidates, place, axis=1))

    return jax.lax.map(merge, (best, query))


def _largest(
    similarity: Float[Array, "q n"], k: int
) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """Ranks the k largest of every row as `top_k`, which alone would take a third of a search.

    They lie in the k groups with the largest maxima; of equal ones the first groups are taken, and
    in order, so that the first of equal values still wins.
    """
    count = similarity.shape[1]
    if count < 4 * k * GROUP or count % GROUP:
        near, place = jax.lax.top_k(similarity, k)
        return near, place
    groups = similarity.reshape(len(similarity), -1, GROUP)
    chosen = jnp.sort(jax.lax.top_k(groups.max(-1), k)[1], axis=1)
    candidates = jnp.take_along_axis(groups, chosen[..., None], axis=1)
    near, place = jax.lax.top_k(candidates.reshape(len(similarity), -1), k)
    group = jnp.take_along_axis(chosen, place // GROUP, axis=1)
    return near, group * GROUP + place % GROUP
