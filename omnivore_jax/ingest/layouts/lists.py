"""What the lists of a download name, and which of it is there.

Shared by the layouts whose samples stand in files beside the clips. A list names a clip by its file
name without suffix, so that it does not matter how the clips lie in folders or how they were
encoded again. Names are all that is held of them.
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.base import FileBytes, Item, LayoutOptions, Listing
from omnivore_jax.ingest.layouts.folder import CLIPS

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip", ".rar")
REPLACEMENT = "replacement"
"""Folder of clips that stand for damaged ones of the same name (Kinetics-400)."""
TWICE = "names that a list repeats"


class Entry(NamedTuple):
    """A line of a list."""

    id: str
    label: int


@dataclass(frozen=True)
class Files:
    """The files below a folder."""

    clips: Mapping[str, str]
    """Path below the folder of every clip, by its name without suffix."""
    archives: Sequence[str]
    ignored: Counter[str]
    """All others, by suffix."""


class Selection(NamedTuple):
    """The samples of the lists whose files are there, and those whose files are not."""

    splits: Mapping[str, Sequence[str]]
    labels: Mapping[str, int]
    missing: Sequence[str]
    repeats: int


def check_options(options: LayoutOptions, dataset: str) -> None:
    """Refuses what a dataset of clips with splits of its own cannot be asked for (UserError)."""
    if options.kind not in ("auto", "video"):
        raise UserError(f"--kind={options.kind}, but {dataset} holds clips; leave --kind out")
    if options.val:
        raise UserError(f"--val={options.val}, but {dataset} has splits of its own; leave it out")


def stem(name: str) -> str:
    """The name of a clip without folders and suffix."""
    base, suffix = os.path.splitext(name.replace("\\", "/").rpartition("/")[2])
    return base if suffix.lower() in CLIPS else base + suffix


def list_files(source: Path) -> Files:
    """Lists what lies below a folder, hidden files left out."""
    if not source.is_dir():
        raise UserError(f"--src={source} is not a folder; give the folder of the download")
    clips: dict[str, str] = {}
    archives: list[str] = []
    ignored: Counter[str] = Counter()
    for path in walk(source):
        suffix = os.path.splitext(path)[1].lower()
        if suffix in CLIPS:
            # The first by name, but what replaces a damaged clip before it.
            if stem(path) not in clips or f"/{REPLACEMENT}" in f"/{path}":
                clips[stem(path)] = path
        elif path.lower().endswith(ARCHIVES):
            archives.append(path)
        else:
            ignored[suffix or "files without suffix"] += 1
    return Files(clips, archives, ignored)


def find_list(source: Path, names: Sequence[str], folders: Sequence[str], of: str) -> Path:
    """Finds a list by its names, in folders below the source; the first there is.

    Raises:
        UserError: there is none of these; `of` says what it is the list of.

    """
    for folder in folders:
        for name in names:
            if (source / folder / name).is_file():
                return source / folder / name
    places = ", ".join(folder or "." for folder in folders)
    raise UserError(
        f"--src={source} has no {' or '.join(names)}, {of} (looked in {places}); "
        f"{what_is_there(source)}: give the folder of the download"
    )


def what_is_there(source: Path) -> str:
    """Says which files and folders a source holds, for a message."""
    if not source.is_dir():
        return "it is not a folder"
    names = sorted(os.listdir(source))
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"it holds {', '.join(names[:4])}{more}" if names else "it is empty"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Makes one line of what fails when a list is read (UserError)."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"no {error.args[0]!r}"
        raise UserError(
            f"{path} cannot be used ({reason}); download it again, as it was released"
        ) from error


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Reads a CSV file with a line of names, row by row.

    Raises:
        UserError: it cannot be read, or lacks one of the columns.

    """
    with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for column in columns:
            if column not in (reader.fieldnames or ()):
                there = ", ".join(reader.fieldnames or ()) or "nothing"
                raise ValueError(f"no column {column!r}, it has {there}")
        yield from reader


def select(entries: Mapping[str, Iterable[Entry]], is_there: Callable[[str], bool]) -> Selection:
    """Tells the samples whose files are there from those whose are not, split by split.

    A name that comes again, in any split, counts once, where it came first.
    """
    splits: dict[str, list[str]] = {}
    labels: dict[str, int] = {}
    missing: dict[str, None] = {}
    repeats = 0
    for split, rows in entries.items():
        splits[split] = []
        for id, label in rows:
            if id in labels or id in missing:
                repeats += 1
            elif is_there(id):
                splits[split].append(id)
                labels[id] = label
            else:
                missing[id] = None
    return Selection(splits, labels, list(missing), repeats)


def check_missing(
    selection: Selection, source: Path, files: Files, budget: float, of: str = "clips"
) -> None:
    """Refuses a download of which too much is missing.

    `budget`: the share of the samples that may be. `of`: what they are, for messages.

    Raises:
        UserError: more is missing, or all of it.

    """
    total = len(selection.labels) + len(selection.missing)
    if not total:
        raise UserError(f"--src={source}: its lists name no {of}; download them again")
    first = f"the first is {selection.missing[0]}" if selection.missing else ""
    if not selection.labels:
        there = f"{len(files.clips)} other {of}" if files.clips else f"no {of}"
        if files.archives:
            there += f", but {len(files.archives)} archives ({files.archives[0]}): extract them"
        raise UserError(
            f"--src={source} has none of the {total} {of} that its lists name, {first}; it has "
            f"{there}; give the folder that holds lists and {of}"
        )
    share = len(selection.missing) / total
    if share > budget:
        extract = f"{len(files.archives)} archives are not extracted; " if files.archives else ""
        raise UserError(
            f"--src={source} lacks {len(selection.missing)} of the {total} {of} that its lists "
            f"name, {first}; {extract}get them, or allow it: --max_missing={share + 0.005:.2f} "
            f"(now {budget:g})"
        )


def clip_listing(
    source: Path,
    classes: Sequence[str],
    entries: Mapping[str, Iterable[Entry]],
    options: LayoutOptions,
) -> Listing:
    """Lists the clips that lists name, each a file of its own below `source`.

    Raises:
        UserError: more of them are missing than the options allow.

    """
    files = list_files(source)
    selection = select(entries, files.clips.__contains__)
    check_missing(selection, source, files, options.max_missing)

    def item(id: str) -> Item:
        return Item(id, selection.labels[id], FileBytes(source / files.clips[id]))

    return Listing(
        "video",
        tuple(classes),
        selection.splits,
        item,
        left_out(files, selection.repeats),
        selection.missing,
    )


def left_out(files: Files, repeats: int) -> Counter[str]:
    """Counts the files and names that are no samples."""
    counts = files.ignored + Counter({"archives": len(files.archives), TWICE: repeats})
    return +counts


def walk(source: Path) -> Iterator[str]:
    """Gives all files below a folder in a fixed order, with slashes."""
    for folder, folders, names in os.walk(source, onerror=_refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(folder).relative_to(source).as_posix()
        prefix = "" if below == "." else f"{below}/"
        yield from (prefix + name for name in sorted(names) if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise error  # os.walk would leave the folder out without a word
