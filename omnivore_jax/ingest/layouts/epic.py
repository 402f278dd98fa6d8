"""EPIC-KITCHENS-100: actions as time spans of long videos.

SRC/EPIC_100_{train,validation}.csv                        or SRC/annotations, or
SRC/EPIC_100_{verb,noun}_classes.csv                       SRC/epic-kitchens-100-annotations
SRC/P01/videos/P01_01.MP4                                  or any folder below SRC

The class is the pair of verb and noun, "take plate": those of the training split in the order of
their numbers, then those that only the validation split has, so that no sample is lost although
nothing can be learned of them. The pairs of the released models' epic_action_classes.csv, if it
lies beside the annotations, come first in its order. Where a file of class names is missing, so are
the names: "0:3".
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from omnivore_jax.ingest.layouts.base import Item, LayoutOptions, Listing
from omnivore_jax.ingest.layouts.lists import (
    Entry,
    check_missing,
    check_options,
    find_list,
    left_out,
    list_files,
    reading,
    rows_of,
    select,
)
from omnivore_jax.ingest.layouts.spans import ClipSpan

FOLDERS = ("", "annotations", "epic-kitchens-100-annotations")
COLUMNS = (
    "narration_id",
    "video_id",
    "start_timestamp",
    "stop_timestamp",
    "verb_class",
    "noun_class",
)
SPLITS = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
RELEASED = "epic_action_classes.csv"

Pair = tuple[int, int]
"""The numbers of a verb and a noun."""


class _Action(NamedTuple):
    """A row of the annotations."""

    id: str
    video: str
    start: float
    end: float
    pair: Pair


class EpicKitchens:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        check_options(options, "EPIC-KITCHENS-100")
        paths = {
            split: find_list(source, (name,), FOLDERS, "the annotations of the release")
            for split, name in SPLITS.items()
        }
        actions = {split: list(_actions(path)) for split, path in paths.items()}
        names = _Names.beside(paths["train"])
        pairs = _pairs(actions, names.first)
        spans = {action.id: action for split in actions.values() for action in split}
        files = list_files(source)
        labels = {pair: label for label, pair in enumerate(pairs)}
        entries = {
            split: (Entry(action.id, labels[action.pair]) for action in rows)
            for split, rows in actions.items()
        }
        selection = select(entries, lambda id: spans[id].video in files.clips)
        check_missing(selection, source, files, options.max_missing)

        def item(id: str) -> Item:
            _, video, start, end, _ = spans[id]
            media = ClipSpan(source / files.clips[video], start, end)
            return Item(id, selection.labels[id], media, edits=("span", start, end))

        classes = tuple(map(names.of, pairs))
        counts = left_out(files, selection.repeats)
        return Listing("video", classes, selection.splits, item, counts, selection.missing)


def seconds(timestamp: str) -> float:
    """Turns "00:01:02.37" into seconds; ValueError where it is none."""
    hours, minutes, rest = timestamp.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


class _Names(NamedTuple):
    """What the numbers of verbs and nouns mean."""

    verbs: Mapping[int, str]
    nouns: Mapping[int, str]
    first: tuple[Pair, ...]
    """Pairs whose classes come first."""

    @classmethod
    def beside(cls, annotations: Path) -> "_Names":
        """Reads the files beside the annotations, as far as they are there."""
        verbs, nouns = (
            _key_of(annotations.with_name(f"EPIC_100_{part}_classes.csv"))
            for part in ("verb", "noun")
        )
        return cls(verbs, nouns, tuple(_model_pairs(annotations.with_name(RELEASED), verbs, nouns)))

    def of(self, pair: Pair) -> str:
        verb, noun = pair
        if self.verbs and self.nouns:
            return f"{self.verbs.get(verb, verb)} {self.nouns.get(noun, noun)}"
        return f"{verb}:{noun}"


def _actions(path: Path) -> Iterator[_Action]:
    for row in rows_of(path, COLUMNS):
        with reading(path):
            start, end = seconds(row["start_timestamp"]), seconds(row["stop_timestamp"])
            pair = int(row["verb_class"]), int(row["noun_class"])
            action = _Action(row["narration_id"], row["video_id"], start, end, pair)
        yield action


def _pairs(actions: Mapping[str, Iterable[_Action]], first: Iterable[Pair]) -> list[Pair]:
    """All pairs, in the order of their labels."""
    order = dict.fromkeys(first)
    for split in SPLITS:
        order |= dict.fromkeys(sorted({action.pair for action in actions[split]} - set(order)))
    return list(order)


def _key_of(path: Path) -> dict[int, str]:
    if not path.exists():
        return {}
    with reading(path):
        return {int(row["id"]): row["key"] for row in rows_of(path, ("id", "key"))}


def _model_pairs(path: Path, verbs: Mapping[int, str], nouns: Mapping[int, str]) -> Iterator[Pair]:
    """The pairs of the released models, lines "verb,noun"."""
    if not path.exists() or not verbs or not nouns:
        return
    verb_of = {name: number for number, name in verbs.items()}
    noun_of = {name: number for number, name in nouns.items()}
    with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
        yield from ((verb_of[row[0]], noun_of[row[1]]) for row in csv.reader(file) if row)
