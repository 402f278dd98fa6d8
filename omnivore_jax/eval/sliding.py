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

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Upper left corners, row by row."""
        return [(top, left) for top in self.tops for left in self.lefts]

    def cut(self, x: Float[Array, "n t h w c"]) -> list[Float[Array, "n t h2 w2 c"]]:
        """Cuts the windows out."""
        rows, columns = self.size
        return [x[:, :, i : i + rows, j : j + columns] for i, j in self.corners]

    def join(self, outputs: Sequence[Any], task: Task) -> Any:
        """Averages what a task's head said of every window, pixel by pixel."""
        first = jax.eval_shape(lambda output: self._restored(output, task), outputs[0])
        empty = jax.tree.map(
            lambda x: jnp.zeros((len(x), self.rows, self.columns, x.shape[-1]), x.dtype), first
        )

        def lay(totals: Any, window: tuple[Any, Any]) -> tuple[Any, None]:
            output, (top, left) = window
            pieces = self._restored(output, task)
            return jax.tree.map(lambda x, piece: _add(x, piece, top, left), totals, pieces), None

        # a loop, since every window written out would compile for a minute
        every = jax.tree.map(lambda *x: jnp.stack(x), *outputs)
        totals, _ = jax.lax.scan(lay, empty, (every, jnp.array(self.corners)))
        rows, columns = self.size
        across = _cover(self.columns, self.lefts, columns)
        count = (_cover(self.rows, self.tops, rows)[:, None] * across)[..., None]
        return jax.tree.map(lambda x: x / count, totals)

    def _restored(self, output: Any, task: Task) -> Any:
        return task.restore(output, self.size, flipped=False)


def _add(
    x: Float[Array, "n h w c"], piece: Float[Array, "n h2 w2 c"], top: Array, left: Array
) -> Float[Array, "n h w c"]:
    corner = (0, top, left, 0)
    own = jax.lax.dynamic_slice(x, corner, piece.shape)
    return jax.lax.dynamic_update_slice(x, own + piece, corner)


def _starts(length: int, window: Window) -> list[int]:
    """Lists where windows begin along a side; the last one ends where the side does."""
    last = max(length - window.size, 0)
    return [*range(0, last, window.step), last]


def _cover(length: int, starts: Sequence[int], size: int) -> Float32[np.ndarray, " length"]:
    """Counts the windows over every row or column."""
    place, start = np.arange(length)[:, None], np.array(starts)
    return ((place >= start) & (place < start + size)).sum(1).astype(np.float32)
