"""The course of a run as series of points, from the rows of its metrics.jsonl."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from omnivore_jax.core.errors import UserError

POINTS = 160
"""Of a curve: training figures are averaged over so many equal spans of the run."""


@dataclass
class Series:
    """Points of one curve."""

    step: list[int | float] = field(default_factory=list)
    value: list[int | float] = field(default_factory=list)

    def add(self, step: int | float, value: int | float | None) -> None:
        """Adds a point; a figure that was not finite is null in the file and left out here."""
        if value is not None:
            self.step.append(step)
            self.value.append(value)


@dataclass(frozen=True)
class History:
    """Curves by dataset, and those of the whole run."""

    loss: dict[str, Series]
    accuracy: dict[str, Series]
    """On training samples, as they were met, augmented."""
    validation: dict[str, Series]
    """Top-1, of the averaged weights."""
    learning_rate: Series
    grad_norm: Series

    @property
    def steps(self) -> int:
        return int(max(self.learning_rate.step, default=0))


def history(rows: Iterable[Mapping[str, Any]]) -> History:
    """Sorts the figures of all rows into curves."""
    found = History({}, {}, {}, Series(), Series())
    for row in rows:
        step = row["step"]
        for name, figures in row.get("train", {}).items():
            found.loss.setdefault(name, Series()).add(step, figures.get("loss"))
            found.accuracy.setdefault(name, Series()).add(step, figures.get("accuracy"))
        for name, figures in row.get("eval", {}).items():
            found.validation.setdefault(name, Series()).add(
                step, figures.get("top1", figures.get("miou"))
            )
        found.learning_rate.add(step, row.get("learning_rate"))
        found.grad_norm.add(step, row.get("grad_norm"))
    return found


def averaged(series: Series, steps: int, points: int = POINTS) -> Series:
    """Means over equal spans of the run; a curve with few points stays as it is."""
    if len(series.step) <= points:
        return series
    span = np.minimum(np.array(series.step) * points // max(steps, 1), points - 1).astype(int)
    count = np.bincount(span, minlength=points)
    at, value = (
        np.bincount(span, x, points)[count > 0] / count[count > 0]
        for x in (series.step, series.value)
    )
    return Series(at.tolist(), value.tolist())


def thinned(series: Series, points: int = POINTS) -> Series:
    """Some points at equal distances, the first and the last among them.

    What is smooth keeps its true values.
    """
    last = len(series.step) - 1
    kept = (
        np.unique(np.linspace(0, max(last, 0), points).round().astype(int)).tolist()
        if last >= 0
        else []
    )
    return Series([series.step[i] for i in kept], [series.value[i] for i in kept])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads a file of one JSON object a line; none where there is no file.

    A torn last line is left out.

    Raises:
        UserError: names another line that is damaged.

    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(
                f"{path}, line {number} is damaged ({error}); take the line out"
            ) from error
    return rows
