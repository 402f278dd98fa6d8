"""Windows that slide over whole pictures, and one map of scores of those of all windows.

The order of mmsegmentation's slide inference: windows from the upper left on, the last ones moved
inside the picture, of a picture that is smaller all of it; scores brought to the window's pixels,
added up, and divided by how many windows saw a pixel.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from omnivore_jax.tasks.base import Task


class Window(NamedTuple):
    """A square that slides, in pixels."""

    size: int
    step: int
    """From one to the next."""


class Grid(NamedTuple):
    """Windows over a picture of some rows and columns."""

    rows: int
    columns: int
    window: Window

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of every window."""
        return min(self.window.size, self.rows), min(self.window.size, self.columns)

    @property
    def tops(self) -> list[int]:
        return _starts(self.rows, self.window)

    @property
    def lefts(self) -> list[int]:
        return _starts(self.columns, self.window)

    def cut(self, x: Float[Array, "n t h w c"]) -> list[Float[Array, "n t h2 w2 c"]]:
        """Cuts the windows out, row by row."""
        rows, columns = self.size
        return [
            x[:, :, top : top + rows, left : left + columns]
            for top in self.tops
            for left in self.lefts
        ]

    def join(self, outputs: Sequence[Any], task: Task) -> Any:
        """Averages what a task's head said of every window, pixel by pixel."""
        pieces = [task.restore(output, self.size, flipped=False) for output in outputs]
        return jax.tree.map(lambda *maps: self._mean(maps), *pieces)

    def _mean(self, maps: Sequence[Float[Array, "n h2 w2 c"]]) -> Float[Array, "n h w c"]:
        count, _, _, width = maps[0].shape
        total = jnp.zeros((count, self.rows, self.columns, width), maps[0].dtype)
        corners = [(top, left) for top in self.tops for left in self.lefts]
        rows, columns = self.size
        for (top, left), piece in zip(corners, maps, strict=True):
            total = total.at[:, top : top + rows, left : left + columns].add(piece)
        across = _cover(self.columns, self.lefts, columns)
        return total / (_cover(self.rows, self.tops, rows)[:, None] * across)[..., None]


def _starts(length: int, window: Window) -> list[int]:
    """Lists where windows begin along a side; the last one ends where the side does."""
    last = max(length - window.size, 0)
    return [*range(0, last, window.step), last]


def _cover(length: int, starts: Sequence[int], size: int) -> Float32[np.ndarray, " length"]:
    """Counts the windows over every row or column."""
    place, start = np.arange(length)[:, None], np.array(starts)
    return ((place >= start) & (place < start + size)).sum(1).astype(np.float32)
