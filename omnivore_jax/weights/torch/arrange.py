"""Tensors of a layout as the released files have them: joined, and with their channels in order."""

from collections.abc import Callable, Mapping

import numpy as np

from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.lazy import LazyArray
from omnivore_jax.weights.torch.layouts import Layout, Origin


def arranged(layout: Layout, tensors: Mapping[str, LazyArray]) -> dict[str, LazyArray]:
    """Gives the tensors of a layout by released name; none is read yet.

    Raises:
        UserError: tensors that belong together do not fit each other.

    """
    return {name: _arranged(name, origin, tensors) for name, origin in layout.names.items()}


def _arranged(name: str, origin: Origin, tensors: Mapping[str, LazyArray]) -> LazyArray:
    parts = [tensors[key] for key in origin.keys]
    tensor = parts[0] if len(parts) == 1 else _joined(name, origin, parts)
    return tensor.then(tensor.shape, _from_unfold(tensor.shape)) if origin.unfold else tensor


def _joined(name: str, origin: Origin, parts: list[LazyArray]) -> LazyArray:
    """Puts the rows of several tensors below each other."""
    first = parts[0]
    kinds = {(part.shape, part.dtype) for part in parts}
    if len(kinds) > 1 or not first.shape:
        raise UserError(
            f"{', '.join(origin.keys)} are to be joined to {name}, but their shapes or types "
            f"differ ({', '.join(str(list(part.shape)) for part in parts)}); get the file again"
        )

    def read() -> np.ndarray:
        return np.concatenate([part.read() for part in parts])

    return LazyArray((len(parts) * first.shape[0], *first.shape[1:]), first.dtype, read)


def _from_unfold(shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """Puts merged channels in our order.

    nn.Unfold has the channel slowest, then row and column of the four neighbours; a merging of the
    released code has the column slowest, then the row, then the channel (FACTS 9, trap 9).
    """
    if not shape or shape[-1] % 4:
        return lambda array: array  # no merging: the plan's check of shapes says so

    def reorder(array: np.ndarray) -> np.ndarray:
        cube = array.reshape(*shape[:-1], shape[-1] // 4, 2, 2)
        return np.ascontiguousarray(np.swapaxes(cube, -1, -3)).reshape(shape)

    return reorder
