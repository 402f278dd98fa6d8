"""Runs as they lie in their folders, and what can be said of several side by side."""

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.reporting.goodput import Goodput, goodput
from omnivore_jax.reporting.history import History, history, read_rows
from omnivore_jax.reporting.report import DATA, FOLDER, DatasetResult, Report, load

Relation = Literal["alone", "batching", "other"]


@dataclass(frozen=True)
class Run:
    """All that a run has left in its folder."""

    workdir: Path
    report: Report | None
    """None: not evaluated yet."""
    config: Mapping[str, Any]
    """Resolved; empty where it is unknown."""
    versions: Mapping[str, str]
    command: str
    history: History
    goodput: Goodput | None
    """Where its wall time went; None: no row tells."""
    bad_records: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        return (
            self.report.run.name
            if self.report
            else str(self.config.get("name") or self.workdir.name)
        )

    @property
    def results(self) -> dict[str, DatasetResult]:
        return {result.name: result for result in self.report.datasets} if self.report else {}

    @property
    def datasets(self) -> list[str]:
        """Names of those with results, then of those with curves: also the order of colours."""
        return list(dict.fromkeys([*self.results, *self.history.loss]))


class Specialists(NamedTuple):
    """One model for all against one for each: the paper's Table 2."""

    joint: dict[str, DatasetResult]
    alone: dict[str, DatasetResult]
    """Each from the run that was trained on that dataset only."""
    steps: dict[str, int]
    """Of those runs."""


def read_run(workdir: Path) -> Run:
    """Reads what is there.

    Raises:
        UserError: there is nothing of a run in the folder, or a file is damaged.

    """
    if not any((workdir / name).exists() for name in ("config.json", "metrics.jsonl", FOLDER)):
        raise UserError(
            f"{workdir} holds no run; name a folder that omnivore_jax.main has made (--workdir)"
        )
    stored = _read_config(workdir / "config.json")
    bad = [row for path in sorted(workdir.glob("bad_records*.jsonl")) for row in read_rows(path)]
    return Run(
        workdir,
        load(workdir),
        stored.get("config", {}),
        stored.get("versions", {}),
        stored.get("command", ""),
        history(read_rows(workdir / "metrics.jsonl")),
        goodput(read_rows(workdir / "timing.jsonl")),
        tuple(bad),
    )


def siblings(workdir: Path) -> list[Path]:
    """Evaluated runs beside a run.

    Those whose names go on from its own, and the one from whose name its own goes on.

    demo-image and demo-mixed for demo; demo for demo-mixed, so that the page of each says how the
    two compare.
    """
    workdir = workdir.resolve()
    stem = workdir.name.rpartition("-")[0]
    folders = [
        *workdir.parent.glob(f"{glob.escape(workdir.name)}-*"),
        *([workdir.parent / stem] if stem else []),
    ]
    return sorted(folder for folder in folders if (folder / FOLDER / DATA).exists())


def relation(run: Run, other: Run) -> Relation:
    """What `other` shows beside `run`.

    One of its datasets alone, the same batched otherwise, or something else.
    """
    mine, theirs = set(run.results), set(other.results)
    if len(mine) > 1 and len(theirs) == 1 and theirs < mine:
        return "alone"
    if (
        mine == theirs
        and run.report
        and other.report
        and run.report.run.batching != other.report.run.batching
    ):
        return "batching"
    return "other"


def specialists(run: Run, others: Sequence[Run]) -> Specialists | None:
    """Compares a run with those of its datasets alone; None where there are none."""
    found = {
        name: (result, o)
        for o in others
        if relation(run, o) == "alone"
        for name, result in o.results.items()
    }
    known = {name: found[name] for name in run.results if name in found}
    alone = {name: result for name, (result, _) in known.items()}
    steps = {name: other.report.run.steps for name, (_, other) in known.items() if other.report}
    return Specialists(run.results, alone, steps) if alone else None


def config_lines(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Lists a config as keys and values, in the form in which a flag overrides them."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from config_lines(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); restore it, or start the run again"
        ) from error
