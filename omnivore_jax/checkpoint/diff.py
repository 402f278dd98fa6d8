"""Compares two files of weights, or the newest checkpoints of two runs, tensor by tensor."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

from omnivore_jax.checkpoint.lazy import Lazy, lazy
from omnivore_jax.checkpoint.source import open_source
from omnivore_jax.core.command import UserError

Verdict = Literal["equal", "differs", "shape", "only in A", "only in B"]


class Difference(NamedTuple):
    """How one tensor of A compares with B's."""

    path: str
    verdict: Verdict
    max_abs: float | None = None
    cosine: float | None = None
    shapes: str | None = None


def compare(one: Path, other: Path) -> list[Difference]:
    """Compares by our paths, whatever the layouts; two runs in their whole state, a run with a file in its EMA.

    Raises:
        UserError: one of them cannot be opened.

    """
    if _is_run(one) and _is_run(other):
        left, right = _state(one), _state(other)
    else:
        left, right = open_source(one).arrays, open_source(other).arrays
    return compare_arrays(left, right)


def compare_arrays(left: Mapping[str, Lazy], right: Mapping[str, Lazy]) -> list[Difference]:
    """Compares two sets of arrays by path."""
    rows = []
    for path in {**left, **right}:
        if path not in right:
            rows.append(Difference(path, "only in A"))
        elif path not in left:
            rows.append(Difference(path, "only in B"))
        else:
            rows.append(_compare(path, left[path], right[path]))
    return rows


def _compare(path: str, left: Lazy, right: Lazy) -> Difference:
    if (left.shape, left.dtype) != (right.shape, right.dtype):
        shapes = f"{left.dtype}{list(left.shape)} and {right.dtype}{list(right.shape)}"
        if left.shape != right.shape:
            return Difference(path, "shape", shapes=shapes)
    else:
        shapes = None
    a, b = left.read(), right.read()
    if shapes is None and a.tobytes() == b.tobytes():
        return Difference(path, "equal", 0.0, 1.0)
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    with np.errstate(invalid="ignore"):
        furthest = float(np.abs(a - b).max(initial=0.0))
    return Difference(path, "differs", furthest, float(a @ b) / norms if norms else 0.0, shapes)


def summary(rows: list[Difference]) -> str:
    """One line that says how many tensors are equal and where the largest difference is."""
    counts = Counter(row.verdict for row in rows)
    line = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(counts.items())) or "nothing to compare"
    differing = [row for row in rows if row.verdict == "differs"]
    if differing:
        worst = max(differing, key=lambda row: np.inf if row.max_abs != row.max_abs else row.max_abs or 0.0)
        line += f"; largest difference {worst.max_abs:.3g} at {worst.path}"
    return line


def text(row: Difference) -> str:
    """A line of the table."""
    figures = "" if row.max_abs is None else f"  max abs {row.max_abs:.3g}, cosine {row.cosine:.9f}"
    return f"{row.verdict:<10} {row.path}{figures}{f'  {row.shapes}' if row.shapes else ''}"


def _is_run(path: Path) -> bool:
    return (path / "checkpoints").is_dir()


def _state(folder: Path) -> dict[str, Lazy]:
    """All leaves of the newest checkpoint: step, parameters, EMA and the optimiser's."""
    from omnivore_jax.checkpoint.manager import CheckpointManager

    with CheckpointManager(folder / "checkpoints", read_only=True) as manager:
        step = manager.latest_good_step()
        if step is None:
            raise UserError(f"{folder}/checkpoints has no finished checkpoint; train first")
        state = manager.restore_part(manager.saved_shapes(step), step).state
    return {path: lazy(np.asarray(jax.device_get(leaf))) for path, leaf in state.items()}
