"""Position bias tables from one form to another: what is exact is exact, what is a projection returns its residual.

numpy only. A joint table holds one row for every offset (t, h, w), time slowest; a factored bias holds two tables, one
over space and one over time.
"""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from omnivore_jax.core.types import Size
from omnivore_jax.model.position_bias import offset_rows, table_rows

Table = Float[np.ndarray, "_ k"]
LEAF = "relative_position_bias_table"


def factored_to_joint(spatial: Table, temporal: Table) -> Table:
    """Gives the joint table of a factored bias: exact."""
    return (temporal[:, None] + spatial[None]).reshape(-1, spatial.shape[-1])


def joint_to_factored(joint: Table, window: Size) -> tuple[Table, Table, float]:
    """Projects a joint table on the factored form (least squares, which here are means).

    Returns the spatial and the temporal table and the residual, root mean square over all offsets and heads. The
    temporal table has mean 0, for a constant could stand in either.

    Raises:
        ValueError: the table is not one of this window.

    """
    if joint.shape[0] != table_rows(window):
        raise ValueError(f"a joint table of window {window} has {table_rows(window)} rows, not {joint.shape[0]}")
    table = joint.reshape(2 * window[0] - 1, -1, joint.shape[-1]).astype(np.float64)
    spatial = table.mean(0)
    temporal = table.mean(1) - spatial.mean(0)
    residual = float(np.sqrt(np.square(table - temporal[:, None] - spatial[None]).mean()))
    return spatial.astype(joint.dtype), temporal.astype(joint.dtype), residual


def same_index(trained: Size, window: Size) -> bool:
    """Says whether the geometric and the released index read a table alike in a window clamped to `window`."""
    return np.array_equal(offset_rows(trained, window), offset_rows(trained, window, corner=True))


def released_to_geometric(joint: Table, trained: Size, window: Size) -> tuple[Table, float]:
    """Rewrites a table that a clamped window reads by the released index, for the geometric one.

    Means something for inputs of one size: every offset in reach gets the mean of what the released index reads for it.
    Returns the table and the residual, root mean square over pairs and heads: 0 where `same_index`.
    """
    rows = offset_rows(trained, window).ravel()
    read = joint[offset_rows(trained, window, corner=True).ravel()].astype(np.float64)
    counts = np.bincount(rows, minlength=len(joint))
    sums = np.stack([np.bincount(rows, column, len(joint)) for column in read.T], axis=-1)
    table = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], joint)
    return table.astype(joint.dtype), float(np.sqrt(np.square(table[rows] - read).mean()))


def convert_position_bias(
    params: dict[str, Any], window: Size, to: Literal["factored", "joint"]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Converts every table of a parameter tree; returns the new tree and the residuals of projections by path."""
    residuals: dict[str, float] = {}

    def visit(tree: Any, path: str) -> Any:
        if not isinstance(tree, dict):
            return tree
        if not path.endswith(LEAF):
            return {key: visit(value, f"{path}.{key}" if path else key) for key, value in tree.items()}
        if to == "joint":
            if "joint" in tree:
                return tree
            return {"joint": factored_to_joint(np.asarray(tree["spatial"]), np.asarray(tree["temporal"]))}
        if "spatial" in tree:
            return tree
        spatial, temporal, residuals[path] = joint_to_factored(np.asarray(tree["joint"]), window)
        return {"spatial": spatial, "temporal": temporal}

    return visit(params, ""), residuals
