"""Compares two files of weights, or the newest checkpoints of two runs, tensor by tensor."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.lazy import LazyArray, lazy
from omnivore_jax.weights.opening import open_weights

OF_TRAINING = ("name", "init_std")
"""Of a model: what changes no output of a trained one."""
Verdict = Literal["equal", "differs", "shape", "only in A", "only in B"]


class Difference(NamedTuple):
    """How one tensor of A compares with B's."""

    path: str
    verdict: Verdict
    max_abs: float | None = None
    cosine: float | None = None
    """Both None where they are not finite."""
    shapes: str | None = None


def compare(
    one: Path, other: Path, weights: Literal["ema", "params"] = "ema"
) -> tuple[list[Difference], dict[str, tuple[Any, Any]]]:
    """Compares by our paths, whatever the layouts.

    Two runs in their whole state, a run with a file in its EMA.

    Returns a row for every tensor, and what the cards of both say differently of how the tensors
    are used (the window index, the statistics of inputs): by key, what each says.

    Raises:
        UserError: one of them cannot be opened.

    """
    runs = [_is_run(path) for path in (one, other)]
    sources = [
        open_weights(path, weights=weights if run or not any(runs) else "ema")
        for path, run in zip((one, other), runs, strict=True)
    ]
    left, right = (
        [_state(one), _state(other)] if all(runs) else [source.arrays for source in sources]
    )
    return compare_arrays(left, right), _compare_cards(*(source.card for source in sources))


def _compare_cards(
    one: Mapping[str, Any] | None, other: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """What matters to the outputs and no tensor shows; nothing where a file has no card."""
    if one is None or other is None:
        return {}
    left, right = _used(one), _used(other)
    return {
        key: (left[key], right[key])
        for key in sorted(left.keys() & right.keys())
        if left[key] != right[key]
    }


def _used(card: Mapping[str, Any]) -> dict[str, Any]:
    """How a card says that the tensors are used; as JSON has it, without tuples."""
    said = {key: value for key, value in card["model"].items() if key not in OF_TRAINING}
    for head, spec in card["preprocessing"].items():
        said |= {f"{key} of {head}": value for key, value in spec.items()}
    said |= {f"classes of {head}": names for head, names in card.get("classes", {}).items()}
    return json.loads(json.dumps(said))


def compare_arrays(
    left: Mapping[str, LazyArray], right: Mapping[str, LazyArray]
) -> list[Difference]:
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


def _compare(path: str, left: LazyArray, right: LazyArray) -> Difference:
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
    furthest = (
        float(np.abs(a - b).max(initial=0.0))
        if np.isfinite(a).all() and np.isfinite(b).all()
        else None
    )
    if furthest is None:
        return Difference(path, "differs", shapes=shapes)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return Difference(path, "differs", furthest, float(a @ b) / norms if norms else 0.0, shapes)


def summary(rows: list[Difference]) -> str:
    """One line that says how many tensors are equal and where the largest difference is."""
    counts = Counter(row.verdict for row in rows)
    line = (
        ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(counts.items()))
        or "nothing to compare"
    )
    differing = [row for row in rows if row.verdict == "differs"]
    if differing:
        worst = max(differing, key=lambda row: np.inf if row.max_abs is None else row.max_abs)
        line += f"; largest difference {_figure(worst.max_abs)} at {worst.path}"
    return line


def text(row: Difference) -> str:
    """A line of the table."""
    figures = f"  max abs {_figure(row.max_abs)}" if row.verdict == "differs" else ""
    figures += "" if row.cosine is None else f", cosine {row.cosine:.9f}"
    return f"{row.verdict:<10} {row.path}{figures}{f'  {row.shapes}' if row.shapes else ''}"


def _figure(difference: float | None) -> str:
    return "not finite" if difference is None else f"{difference:.3g}"


def _is_run(path: Path) -> bool:
    return (path / "checkpoints").is_dir()


def _state(folder: Path) -> dict[str, LazyArray]:
    """All leaves of the newest checkpoint: step, parameters, EMA and the optimiser's."""
    from omnivore_jax.checkpoint.manager import CheckpointManager

    with CheckpointManager(folder / "checkpoints", read_only=True) as manager:
        step = manager.latest_good_step()
        if step is None:
            raise UserError(f"{folder}/checkpoints has no finished checkpoint; train first")
        state = manager.restore_part(manager.saved_shapes(step), step).state
    return {path: lazy(np.asarray(jax.device_get(leaf))) for path, leaf in state.items()}
