"""Where one evaluation is better than another: F1 by class and by group (paper, Figs. 3, 6, 7)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local
from omnivore_jax.ingest.layouts.tabular import read_header, read_rows_of

COLUMNS = ("group", "class")


@dataclass(frozen=True)
class Comparison:
    """F1 of two evaluations of one dataset, class by class."""

    dataset: str
    first: Mapping[str, float]
    second: Mapping[str, float]
    groups: Mapping[str, tuple[str, ...]]
    """Classes by group; a class may be in several."""

    @property
    def gains(self) -> dict[str, float]:
        """F1 of the second less that of the first, by class."""
        return {name: self.second[name] - f1 for name, f1 in self.first.items()}

    @property
    def group_gains(self) -> dict[str, float]:
        """Mean gain of the classes of every group."""
        gains = self.gains
        return {
            group: fmean(gains[name] for name in classes) for group, classes in self.groups.items()
        }

    def json(self) -> dict[str, Any]:
        """Gives the figures as plain JSON."""
        gains = self.gains
        return {
            "dataset": self.dataset,
            "classes": len(gains),
            "better": sum(gain > 0 for gain in gains.values()),
            "worse": sum(gain < 0 for gain in gains.values()),
            "macro_f1": [fmean(self.first.values()), fmean(self.second.values())],
            "class_gains": gains,
            "group_gains": self.group_gains,
        }


def compare(first: Path, second: Path, groups: Path | None = None) -> Comparison:
    """Compares two files that `evaluate --json` printed.

    `groups`: a table with the columns group and class.

    Raises:
        UserError: a file is not there or something else, the two are not of one dataset and its
        classes, or a group names a class that is not among them.

    """
    a, b = _read(first), _read(second)
    if a["dataset"] != b["dataset"] or set(a["classes"]) != set(b["classes"]):
        raise UserError(
            f"{first} is of {a['dataset']} with {len(a['classes'])} classes, {second} of "
            f"{b['dataset']} with {len(b['classes'])}; evaluate both on the same split"
        )
    members = {} if groups is None else _read_groups(groups, set(a["classes"]))
    return Comparison(a["dataset"], _f1_of(a), _f1_of(b), members)


def _f1_of(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: row["f1"] for name, row in figures["classes"].items()}


def _read(path: Path) -> dict[str, Any]:
    check_local(path, "FILE")
    try:
        figures = json.loads(path.read_text())
        if not figures["classes"]:
            raise ValueError("no class has samples")
        for row in figures["classes"].values():
            float(row["f1"])
        str(figures["dataset"])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} holds no figures ({error!r}); make it with evaluate ... --json > {path.name}"
        ) from error
    return figures


def _read_groups(path: Path, classes: set[str]) -> dict[str, tuple[str, ...]]:
    check_local(path, "--groups")
    if not path.is_file():
        raise UserError(f"--groups={path} is not there; give a table with columns group and class")
    if not set(COLUMNS) <= set(read_header(path)):
        raise UserError(f"--groups={path} has no columns {' and '.join(COLUMNS)}; name them so")
    groups: dict[str, list[str]] = {}
    for row in read_rows_of(path):
        if row["class"] not in classes:
            raise UserError(
                f"--groups={path}: {row['class']!r} of group {row['group']!r} is no class of the "
                "dataset, or has no samples; write it as the dataset does, or take it out"
            )
        groups.setdefault(row["group"], []).append(row["class"])
    if not groups:
        raise UserError(f"--groups={path} lists no class; give rows of group and class")
    return {group: tuple(members) for group, members in groups.items()}
