"""Runs of one config with some keys changed, side by side: which values do best (Appendix B.1).

WORKDIR/KEY=VALUE,KEY=VALUE/    a run for every combination, as `main` makes it
WORKDIR/grid.html               a plot of the scores, once runs have ended

A run is a process of its own, so that one that fails leaves the others alone, and resumes as any
run does: a grid that is stopped goes on when the same command is given again.
"""

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnivore_jax.core.errors import UserError
from omnivore_jax.reporting import report as reports

HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = (42, 130)
"""Exit codes of a run that was asked to stop and has saved."""


@dataclass(frozen=True)
class Point:
    """One combination of values."""

    values: Mapping[str, str]
    """By config key."""

    @property
    def name(self) -> str:
        """Names the folder of its run."""
        return ",".join(f"{key}={value}" for key, value in self.values.items()).replace("/", "_")


@dataclass(frozen=True)
class Outcome:
    """What became of a point."""

    point: Point
    scores: Mapping[str, float] | None
    """Top-1 or mIoU by dataset; None where the run has not ended."""
    code: int = 0
    """Exit code of the run where it was started now."""

    @property
    def score(self) -> float | None:
        """The mean over the datasets."""
        if not self.scores:
            return None
        return sum(self.scores.values()) / len(self.scores)


def points(axes: Sequence[str]) -> list[Point]:
    """Makes all combinations of axes like "optimizer.peak=1e-3,2e-3".

    Raises:
        UserError: an axis is no key with values, or a key is there twice.

    """
    values: dict[str, list[str]] = {}
    for axis in axes:
        key, _, text = axis.partition("=")
        chosen = [value.strip() for value in text.split(",") if value.strip()]
        if not key or not chosen:
            raise UserError(f"{axis!r} is no axis; write KEY=VALUE,VALUE: optimizer.peak=1e-3,2e-3")
        if key in values:
            raise UserError(f"the key {key} is there twice; give all its values at once")
        values[key] = list(dict.fromkeys(chosen))
    if not values:
        raise UserError("no axis given; write KEY=VALUE,VALUE: optimizer.peak=1e-3,2e-3")
    return [
        Point(dict(zip(values, row, strict=True))) for row in itertools.product(*values.values())
    ]


def run_points(
    config: str, chosen: Sequence[Point], workdir: Path, others: Sequence[str]
) -> Iterator[Outcome]:
    """Runs points one after another; those that have ended are only read.

    `others`: flags that all runs are given. Ends early when a run was asked to stop.

    Raises:
        UserError: what a run left cannot be read.

    """
    for point in chosen:
        folder = workdir / point.name
        scores, code = read_scores(folder), 0
        if scores is None:
            changes = [f"--config.{key}={value}" for key, value in point.values.items()]
            command = [sys.executable, "-m", "omnivore_jax.main", f"--config={config}"]
            code = _run([*command, *changes, *others, f"--workdir={folder}"])
            scores = read_scores(folder) if code == 0 else None
        yield Outcome(point, scores, code)
        if code in STOPPED or code < 0:
            return


def _run(command: Sequence[str]) -> int:
    """Runs a command to its end and gives its exit code; signals are handed on, for it to save.

    What it prints goes to stderr, stdout is for the figures of the grid.
    """
    process = subprocess.Popen(command, stdout=sys.stderr)

    def hand_on(number: int, frame: object) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_scores(folder: Path) -> dict[str, float] | None:
    """Reads what a run that has ended found; None where it has not.

    Raises:
        UserError: its report is damaged.

    """
    found = reports.load(folder)
    if found is None:
        return None
    scores = {result.name: result.top1 for result in found.datasets}
    return scores | {result.name: result.miou for result in found.maps}


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Gives the scores and the winner as plain JSON."""
    ended = [outcome for outcome in outcomes if outcome.score is not None]
    best = max(ended, key=lambda outcome: outcome.score or 0.0, default=None)
    return {
        "points": [
            {"values": dict(o.point.values), "scores": o.scores, "score": o.score} for o in outcomes
        ],
        "winner": None if best is None else dict(best.point.values),
        "winner_run": None if best is None else best.point.name,
    }
