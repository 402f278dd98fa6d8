"""Arrays of a file that are not yet read, so that weights pass one at a time."""

from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes  # noqa: F401  (gives numpy the name bfloat16)
import numpy as np


class LazyArray(NamedTuple):
    """What an array will be, and how to get it."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    def then(
        self, shape: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]
    ) -> "LazyArray":
        """Adds a step that gives the array another shape."""
        return LazyArray(tuple(shape), self.dtype, lambda: change(self.read()))

    def astype(self, dtype: str) -> "LazyArray":
        """Adds a cast."""
        if dtype == self.dtype:
            return self
        return LazyArray(self.shape, dtype, lambda: self.read().astype(dtype))


def lazy(array: np.ndarray) -> LazyArray:
    """Wraps an array that is there already."""
    return LazyArray(array.shape, str(array.dtype), lambda: array)
