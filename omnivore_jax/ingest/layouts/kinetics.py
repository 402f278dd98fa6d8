"""Kinetics-400 and Kinetics-600, in the three forms in which they are kept.

SRC/{train,val}/CLASS/ID_START_END.mp4                     class folders and no list
SRC/{train,val}.csv + SRC/.../ID_START_END.mp4             the release: its annotations
                                                           (label,youtube_id,time_start,time_end,
                                                           split), clips in any folders
SRC/{train,val}.csv + SRC/.../NAME.mp4                     lists "path label" of SlowFast and
                                                           TimeSformer, with a space or a comma

Lists may lie in SRC or a folder below it, and be called kinetics_train.csv, validate.csv or
train.txt. START and END are seconds of six digits. Clips in a folder `replacement` stand for
damaged ones of the same name. The test split has no part in this: its labels were held back.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.base import LayoutOptions, Listing
from omnivore_jax.ingest.layouts.folder import ClassFolders
from omnivore_jax.ingest.layouts.lists import (
    Entry,
    check_options,
    clip_listing,
    reading,
    rows_of,
    stem,
    what_is_there,
)

LISTS = {
    "train": re.compile(r"(kinetics[-_]?\d*[-_])?train\.(csv|txt)"),
    "val": re.compile(r"(kinetics[-_]?\d*[-_])?(val|validate|validation)\.(csv|txt)"),
}
COLUMNS = ("label", "youtube_id", "time_start", "time_end")
LINE = re.compile(r"(?P<path>.*[^\s,])[\s,]+(?P<label>\d+)")


class Kinetics:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        check_options(options, "Kinetics")
        lists = _find_lists(source)
        if not lists:
            return _class_folders(source, options)
        if set(lists) != set(LISTS):
            lacks = min(set(LISTS) - set(lists))
            found = next(iter(lists.values()))
            raise UserError(
                f"--src={source} has {found.name} and no {lacks}.csv beside it; "
                f"{what_is_there(found.parent)}: add it"
            )
        if all(map(_is_release, lists.values())):
            return _release(source, lists, options)
        return _path_lists(source, lists, options)


def file_name(row: Mapping[str, str]) -> str:
    """The name that the release gives the clip of an annotation."""
    start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
    return f"{row['youtube_id']}_{start:06d}_{end:06d}"


def _find_lists(source: Path) -> dict[str, Path]:
    """The list of every split, the one nearest to the source; of several the first by name."""
    if not source.is_dir():
        raise UserError(f"--src={source} is not a folder; give the folder of the download")
    below = sorted(path for path in source.iterdir() if path.is_dir())
    # not in the folders of clips, which may hold 240,000 of them
    folders = [source, *(path for path in below if path.name not in ("train", "val", "test"))]
    lists: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(path for pattern in ("*.csv", "*.txt") for path in folder.glob(pattern)):
            for split, name in LISTS.items():
                if name.fullmatch(path.name):
                    lists.setdefault(split, path)
    return lists


def _is_release(path: Path) -> bool:
    with reading(path), path.open(encoding="utf-8-sig") as file:
        return "youtube_id" in file.readline()


def _class_folders(source: Path, options: LayoutOptions) -> Listing:
    train = source / "train"
    if not train.is_dir() or not any(path.is_dir() for path in train.iterdir()):
        raise UserError(
            f"--src={source} has neither train.csv and val.csv nor class folders in train and val; "
            f"{what_is_there(source)}: give the folder of the download, and extract its archives "
            "first"
        )
    return ClassFolders().list(source, replace(options, kind="video"))


def _release(source: Path, lists: Mapping[str, Path], options: LayoutOptions) -> Listing:
    # Of the annotations, not of the clips that are there: labels do not move as clips decay.
    names = {row["label"] for path in lists.values() for row in rows_of(path, COLUMNS)}
    labels = {name: label for label, name in enumerate(sorted(names))}

    def entries_of(path: Path) -> Iterator[Entry]:
        for row in rows_of(path, COLUMNS):
            with reading(path):
                entry = Entry(file_name(row), labels[row["label"]])
            yield entry

    lines = {split: entries_of(lists[split]) for split in LISTS}
    return clip_listing(source, sorted(names), lines, options)


def _path_lists(source: Path, lists: Mapping[str, Path], options: LayoutOptions) -> Listing:
    folders: dict[int, set[str]] = {}
    for path in lists.values():
        for file, label in _lines(path):
            folders.setdefault(label, set()).add(file.rpartition("/")[0].rpartition("/")[2])
    lines = {
        split: (Entry(stem(file), label) for file, label in _lines(lists[split])) for split in LISTS
    }
    return clip_listing(source, _class_names(folders), lines, options)


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    """The path and the label of every line."""
    with reading(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            match = LINE.fullmatch(line.strip())
            if match:
                yield match["path"].strip().strip('"'), int(match["label"])
            elif line.strip():
                raise ValueError(f"line {number} is no path and label: {line.strip()[:80]!r}")


def _class_names(folders: Mapping[int, set[str]]) -> list[str]:
    """Names of the labels: the folders of the clips where each label has one, else the numbers."""
    count = max(folders, default=-1) + 1
    names = [min(folders.get(label, {str(label)})) for label in range(count)]
    single = all(len(found) == 1 for found in folders.values())
    if single and all(names) and len(set(names)) == count:
        return names
    return [str(label) for label in range(count)]
