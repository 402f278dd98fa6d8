"""Names and layouts of our parameters and of released PyTorch checkpoints, one to one.

Paths agree up to the leaf. Names are those of the released files ("trunk." and "heads." before the
keys of their two dicts). numpy only.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Layout = Literal["same", "linear", "convolution"]

DROPOUT_HEADS = ("video",)
"""Heads that the released models build as (dropout, linear): their parameters have index 1."""

TABLE = "relative_position_bias_table"
BUFFER = "relative_position_index"
"""Held by the released files beside the parameters; a function of the window alone."""

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_AXES = {
    2: ((1, 0), (1, 0)),
    4: ((3, 2, 0, 1), (2, 3, 1, 0)),
    5: ((4, 3, 0, 1, 2), (2, 3, 4, 1, 0)),
}
"""By number of axes: how to transpose a kernel to PyTorch's (out, in, ...), and back."""


def torch_name(path: str) -> str:
    """Translates the dotted path of a parameter.

    Tables of the factored bias, which no released file has, keep theirs.

    Raises:
        ValueError: no parameter has this path.

    """
    *parents, leaf = path.split(".")
    if parents and parents[-1] == TABLE and leaf in ("joint", "spatial", "temporal"):
        return path.removesuffix(".joint")
    if (
        leaf not in _LEAVES
        or not parents
        or (leaf == "scale") != (leaf != "bias" and _is_norm(parents))
    ):
        raise ValueError(f"{path!r} is not the path of a parameter of this model")
    if parents[0] == "heads" and parents[1:] and parents[1] in DROPOUT_HEADS and not parents[2:]:
        parents = [*parents, "1"]
    return ".".join([*parents, _LEAVES[leaf]])


def path_of(name: str) -> str:
    """Translates the name of a PyTorch parameter: undoes `torch_name`.

    Raises:
        ValueError: no parameter has this name; buffers have no path.

    """
    *parents, leaf = name.split(".")
    if leaf == TABLE and parents:
        return f"{name}.joint"
    if parents and parents[-1] == TABLE and leaf in ("spatial", "temporal"):
        return name
    if parents[:1] == ["heads"] and parents[1:2] and parents[1] in DROPOUT_HEADS:
        if not parents[2:] or parents[2].isdigit() and parents[2:] != ["1"]:
            raise ValueError(
                f"{name!r} is not a parameter of the released model; its heads.{parents[1]} has "
                "index 1"
            )
        parents = parents[:2] if parents[2:] == ["1"] else parents
    if leaf not in ("weight", "bias") or not parents:
        raise ValueError(f"{name!r} is not a parameter of the released model")
    kernel = "scale" if _is_norm(parents) else "kernel"
    return ".".join([*parents, "bias" if leaf == "bias" else kernel])


def to_torch(path: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Translates a parameter into PyTorch's name and layout."""
    return torch_name(path), np.ascontiguousarray(_transposed(path, array, 0))


def from_torch(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Translates a PyTorch parameter into our path and layout: undoes `to_torch`."""
    path = path_of(name)
    return path, np.ascontiguousarray(_transposed(path, array, 1))


def layout(path: str, ndim: int) -> Layout:
    """Says how PyTorch lays a parameter out: as here, as a matrix transposed, as a convolution."""
    if not path.endswith(".kernel"):
        return "same"
    if ndim not in _AXES:
        raise ValueError(
            f"{path!r} has {ndim} axes; a kernel has 2 (linear), 4 (pixels) or 5 (patches)"
        )
    return "linear" if ndim == 2 else "convolution"


def _transposed(path: str, array: np.ndarray, direction: int) -> np.ndarray:
    return (
        array
        if layout(path, array.ndim) == "same"
        else array.transpose(_AXES[array.ndim][direction])
    )


def _is_norm(parents: Sequence[str]) -> bool:
    if parents[0] == "heads" and len(parents) < 3:  # a linear head, whatever its name
        return False
    return parents[-1] in ("norm", "norm1", "norm2") or parents[-2:-1] == ["norms"]
