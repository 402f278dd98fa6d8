"""A table of people's own files: which there are, what they show, and which split they are in.

SRC or SRC/manifest.csv, .parquet               path, label, and where wanted split, depth, fx,
                                                baseline; paths from the folder of the table;
                                                start, end: seconds of a clip that are cut out
                                                label_map in place of label: a class for every
                                                pixel
classes.txt beside it                           where it is there: a name a line, in the order of
                                                the labels; label maps need it

Labels are names, or all of them whole numbers from 0 on. Rows are counted from 1, without the
header.
"""

import math
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from operator import attrgetter
from pathlib import Path
from sys import intern
from typing import NamedTuple, cast

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import LabelForm
from omnivore_jax.data.depth import Intrinsics, read_intrinsics
from omnivore_jax.data.manifest import Kind
from omnivore_jax.ingest.layouts.base import DepthMap, FileBytes, Item, LayoutOptions, Listing
from omnivore_jax.ingest.layouts.checks import not_this
from omnivore_jax.ingest.layouts.depth_names import PICTURES
from omnivore_jax.ingest.layouts.holdout import hold_out
from omnivore_jax.ingest.layouts.spans import ClipSpan
from omnivore_jax.ingest.layouts.split_folders import SPLITS
from omnivore_jax.ingest.layouts.tabular import Row, read_header, read_rows_of

FILES = ("manifest.csv", "manifest.parquet")
CLASSES = "classes.txt"
COLUMNS = ("path", "label", "split", "depth", "fx", "baseline", "start", "end", "label_map")
SPANS = ("start", "end")
MAX_MISTAKES = 10
"""Mistakes that are listed before reading ends."""


class OwnTable:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        path = _find(source)
        header = read_header(path)
        _check_header(header, path)
        entries = _read(path)
        kind = _kind(entries, header, options.kind, path)
        classes, labels = _classes(entries, path)
        ids: dict[str, list[str]] = {}
        for entry in entries:
            ids.setdefault(entry.split, []).append(entry.id)
        ids = {split: ids[split] for split in SPLITS if split in ids}
        if options.val and set(ids) != {"train"}:
            raise UserError(
                f"--val={options.val}, but {path} has splits of its own ({', '.join(ids)}); leave "
                "--val out"
            )
        if options.val:
            ids = hold_out(ids["train"], lambda id: _entry(entries, id).label, options.val)
        folder = path.parent
        # Of a folder, not of a map: files are looked for on every level up to the table.
        depth_of = cache(lambda below: read_intrinsics(folder, below, options.intrinsics))

        def item(id: str) -> Item:
            entry = _entry(entries, id)
            depth = None
            if kind == "rgbd":
                depth = _depth(entry, folder, depth_of((folder / entry.depth).parent))
            label, file = labels[entry.label], folder / entry.path
            if entry.label_map:
                labels_of = FileBytes(folder / entry.label_map)
                return Item(id, label, FileBytes(file), depth, label_map=labels_of)
            if not entry.end:
                return Item(id, label, FileBytes(file), depth)
            media = ClipSpan(file, entry.start, entry.end)
            return Item(id, label, media, edits=("span", entry.start, entry.end))

        form: LabelForm = "map" if "label_map" in header else "class"
        return Listing(kind, classes, ids, item, Counter(), labels=form)


class Entry(NamedTuple):
    """A row; entries are kept sorted by id."""

    path: str
    label: str
    split: str
    depth: str
    fx: float
    """0 where the table does not say it; `baseline` likewise."""
    baseline: float
    start: float
    end: float
    """Seconds of the span; 0 where the whole file is meant."""
    label_map: str
    """Empty where a sample has one label."""
    number: int
    """Of the row."""

    @property
    def id(self) -> str:
        return f"{self.path}@{self.start}-{self.end}" if self.end else self.path


def _find(source: Path) -> Path:
    if source.is_file():
        return source
    there = [source / name for name in FILES if (source / name).exists()]
    if len(there) != 1:
        which = "both" if there else "neither"
        raise not_this(source, f"{which} of {' and '.join(FILES)}; give the file: --src=TABLE")
    return there[0]


def _check_header(header: Sequence[str], path: Path) -> None:
    for name in header:
        if name not in COLUMNS:
            raise UserError(f"{path}: column {name!r} is unknown; use {', '.join(COLUMNS)}")
        if header.count(name) > 1:
            raise UserError(f"{path}: column {name!r} is there twice; remove one")
    if "label_map" in header:
        _check_maps(header, path)
    for name in ("path", *(() if "label_map" in header else ("label",))):
        if name not in header:
            raise UserError(f"{path}: column {name!r} is missing; it has {', '.join(header)}")
    for name, other in (SPANS, SPANS[::-1]):
        if name in header and other not in header:
            raise UserError(f"{path}: column {other!r} is missing, which {name!r} needs; add it")
        if name in header and "depth" in header:
            raise UserError(f"{path}: column {name!r} is of clips, 'depth' of pictures; drop one")
    for name in ("fx", "baseline"):
        if name in header and "depth" not in header:
            raise UserError(f"{path}: column {name!r} is of depth maps, but 'depth' is missing")


def _check_maps(header: Sequence[str], path: Path) -> None:
    for name in ("label", *SPANS):
        if name in header:
            raise UserError(f"{path}: column {name!r} does not go with 'label_map'; drop one")
    if not (path.parent / CLASSES).exists():
        raise UserError(
            f"{path}: label maps hold numbers; write what they mean into {path.parent / CLASSES}, "
            "a name a line from 0 on"
        )


def _read(path: Path) -> list[Entry]:
    entries: list[Entry] = []
    mistakes: list[str] = []
    for number, row in enumerate(read_rows_of(path), 1):
        mistakes += [f"{path}: row {number}, column {text}" for text in _mistakes(row, path.parent)]
        if len(mistakes) >= MAX_MISTAKES:
            break
        if not mistakes:
            entries.append(_parse(row, number))
    entries.sort(key=attrgetter("id"))
    for first, second in zip(entries, entries[1:], strict=False):
        if first.id == second.id:
            rows = sorted((first.number, second.number))
            mistakes.append(
                f"{path}: row {rows[1]}, column path: {first.id} is in row {rows[0]} too; remove "
                "one of them"
            )
    if mistakes:
        raise UserError(*mistakes[:MAX_MISTAKES])
    if not entries:
        raise UserError(f"{path} has no rows; write a row for every file")
    return entries


def _mistakes(row: Row, folder: Path) -> Iterator[str]:
    """Says what is wrong with a row, beginning with the column."""
    for name in ("path", "depth", "label_map"):
        if name in row and not row[name]:
            yield f"{name}: it is empty; name a file, from the folder of the table"
        elif name in row and not (folder / row[name]).is_file():
            yield f"{name}: {row[name]} is not there; mend the path, from the folder of the table"
    if not row.get("label", "map"):
        yield "label: it is empty; write a name or a number"
    if row.get("split", "") not in ("", *SPLITS):
        yield f"split: {row['split']!r} is none; use {', '.join(SPLITS)}"
    for name in ("fx", "baseline"):
        if not _is_positive(row.get(name) or "1"):
            yield f"{name}: {row[name]!r} is no number above 0; leave it empty where unknown"
    start, end = row.get("start", ""), row.get("end", "")
    if not start and not end:
        return
    if not (_is_positive(start) or _is_zero(start)):
        yield f"start: {start!r} is no number of seconds from 0 on; write one, or leave both empty"
    elif not _is_positive(end) or float(end) <= float(start):
        yield f"end: {end!r} is no number of seconds after start, {start}; write when the span ends"


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _is_zero(text: str) -> bool:
    try:
        return float(text) == 0
    except ValueError:
        return False


def _parse(row: Row, number: int) -> Entry:
    return Entry(
        os.path.normpath(row["path"]),  # ./1.jpg and 1.jpg are the same file
        intern(row.get("label", "")),
        intern(row.get("split") or "train"),
        row.get("depth", ""),
        float(row.get("fx") or 0.0),
        float(row.get("baseline") or 0.0),
        float(row.get("start") or 0.0),
        float(row.get("end") or 0.0),
        row.get("label_map", ""),
        number,
    )


def _entry(entries: Sequence[Entry], id: str) -> Entry:
    return entries[bisect_left(entries, id, key=attrgetter("id"))]


def _kind(entries: Sequence[Entry], header: Sequence[str], asked: str, path: Path) -> Kind:
    kind = _kind_of(entries, header, asked, path)
    span = next((entry for entry in entries if entry.end), None)
    if entries[0].label_map and kind == "video":
        raise UserError(f"{path}: column 'label_map' is of pictures, but the table has clips")
    if span is not None and kind != "video":
        raise UserError(
            f"{path}: row {span.number}, column start: a span is of a clip, but the table is of "
            f"kind {kind!r}; leave it empty"
        )
    return kind


def _kind_of(entries: Sequence[Entry], header: Sequence[str], asked: str, path: Path) -> Kind:
    if asked == "rgbd" and "depth" not in header:
        raise UserError(f"{path}: column 'depth' is missing, which --kind=rgbd needs; add it")
    if asked != "auto":
        return cast(Kind, asked)
    if "depth" in header:
        return "rgbd"
    first = {_is_picture(entry): entry for entry in reversed(entries)}
    if len(first) == 2:
        raise UserError(
            f"{path} mixes kinds: row {first[True].number} has a picture ({first[True].path}), row "
            f"{first[False].number} a clip ({first[False].path}); write a table for each"
        )
    return "image" if True in first else "video"


def _is_picture(entry: Entry) -> bool:
    return os.path.splitext(entry.path)[1].lower() in PICTURES


def _classes(entries: Sequence[Entry], path: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names the classes, those of the file beside the table if it is there; numbers the labels."""
    used = {entry.label: entry for entry in reversed(entries)}
    given = path.parent / CLASSES
    if given.exists():
        return _given_classes(used, given, path)
    if not all(map(_is_number, used)):
        names = tuple(sorted(used))
        return names, {name: number for number, name in enumerate(names)}
    labels = {label: int(label) for label in used}
    missing = set(range(len(set(labels.values())))) - set(labels.values())
    if missing:
        raise UserError(
            f"{path}: column label has numbers up to {max(labels.values())}, but not "
            f"{min(missing)}; write names, or the names of all classes into {given}, a line each"
        )
    return tuple(map(str, range(len(set(labels.values()))))), labels


def _given_classes(
    used: Mapping[str, Entry], given: Path, path: Path
) -> tuple[tuple[str, ...], dict[str, int]]:
    try:
        lines = given.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{given} is no text ({error}); save it in UTF-8") from error
    names = tuple(filter(None, map(str.strip, lines)))
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{given} has the class {twice!r} twice; remove one")
    if used.keys() == {""}:  # maps hold the labels
        return names, {"": 0}
    labels = {name: number for number, name in enumerate(names)}
    if not used.keys() <= labels.keys() and all(map(_is_number, used)):
        labels = {label: int(label) for label in used if int(label) < len(names)}
    for label, entry in used.items():
        if label not in labels:
            raise UserError(
                f"{path}: row {entry.number}, column label: {label!r} is none of the {len(names)} "
                f"classes in {given}; add it there"
            )
    return names, labels


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit()


def _depth(entry: Entry, folder: Path, around: Intrinsics) -> DepthMap:
    """The depth map of a row; `around`: what files or flags say of it where the row does not."""
    fx, baseline = entry.fx or around.fx, entry.baseline or around.baseline
    return DepthMap(FileBytes(folder / entry.depth), around._replace(fx=fx, baseline=baseline))
