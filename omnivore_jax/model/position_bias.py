"""Relative position bias of window attention.

What a query adds to its logits for a key at a given offset.

Two forms. `FactoredBias` is the paper's (section 3.1): one table over space, one over time, added.
`JointBias` is the released model's: one table over all three axes. A factored bias has an exact
joint form; the way back is a projection (`bias_forms.py`).
"""

import math
from functools import cache

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from omnivore_jax.core.types import Size


class FactoredBias(nnx.Module):
    """Bias as the sum of a spatial and a temporal table; `corner` as in `offset_rows`."""

    def __init__(
        self,
        window: Size,
        heads: int,
        *,
        corner: bool = False,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        spatial, temporal = jax.random.split(key)
        t, h, w = window
        self.window, self.corner = window, corner
        self.spatial = nnx.Param(
            std * jax.random.normal(spatial, ((2 * h - 1) * (2 * w - 1), heads))
        )
        self.temporal = nnx.Param(std * jax.random.normal(temporal, (2 * t - 1, heads)))

    def table(self) -> Float[Array, "offsets k"]:
        """Joint table that gives the same bias."""
        joint = self.temporal[:, None] + self.spatial[None]
        return joint.reshape(-1, joint.shape[-1])

    def __call__(self, window: Size) -> Float[Array, "k n n"]:
        return _bias(self.table(), offset_rows(self.window, window, corner=self.corner))


class JointBias(nnx.Module):
    """Bias as one table over all offsets, time slowest (the layout of the released checkpoints)."""

    def __init__(
        self,
        window: Size,
        heads: int,
        *,
        corner: bool = False,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        self.window, self.corner = window, corner
        self.joint = nnx.Param(std * jax.random.normal(key, (table_rows(window), heads)))

    def table(self) -> Float[Array, "offsets k"]:
        return self.joint[...]

    def __call__(self, window: Size) -> Float[Array, "k n n"]:
        return _bias(self.table(), offset_rows(self.window, window, corner=self.corner))


def table_rows(window: Size) -> int:
    """Number of offsets between two tokens of a window."""
    return math.prod(2 * s - 1 for s in window)


def _bias(table: Float[Array, "offsets k"], rows: Int[np.ndarray, "n n"]) -> Float[Array, "k n n"]:
    return table.T[
        :, rows
    ]  # gathered from the transposed table, which is faster on a CPU, forward and backward


@cache
def offset_rows(trained: Size, window: Size, *, corner: bool = False) -> Int[np.ndarray, "n n"]:
    """Looks up the row of a joint table for every (query, key) pair of a window.

    A short clip or a small map clamps the window below the `trained` one. The released model then
    cuts the `corner` out of the trained window's index instead of indexing the smaller window. The
    two agree where time alone is clamped and differ where width is; released weights need the
    corner, others are better off without.
    """
    n = math.prod(window)
    offsets = _offsets(trained)[:n, :n] if corner else _offsets(window)
    t, h, w = np.moveaxis(offsets + np.array(trained) - 1, -1, 0)
    return (t * (2 * trained[1] - 1) + h) * (2 * trained[2] - 1) + w


def _offsets(window: Size) -> Int[np.ndarray, "n n 3"]:
    """Position of the query minus that of the key, along (t, h, w)."""
    at = np.stack(np.meshgrid(*map(np.arange, window), indexing="ij"), axis=-1).reshape(-1, 3)
    return at[:, None] - at[None]
