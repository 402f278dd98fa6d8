"""Something-Something v2.

SRC/20bn-something-something-v2/ID.webm                    or any folder below SRC
SRC/labels/{labels,train,validation}.json                  or SRC/something-something-v2-labels.json

The class is the template of the caption, without brackets; its number is that of labels.json. The
test split is published without labels and has no part in this.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnivore_jax.ingest.layouts.base import LayoutOptions, Listing
from omnivore_jax.ingest.layouts.lists import (
    Entry,
    check_options,
    clip_listing,
    find_list,
    reading,
)

FOLDERS = ("", "labels", "annotations", "20bn-something-something-v2")
SPLITS = {"train": "train", "val": "validation"}


class SomethingSomething:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        check_options(options, "Something-Something v2")
        paths = {name: _find(source, name) for name in ("labels", *SPLITS.values())}
        labels = _labels(paths["labels"])
        entries = {split: _entries(paths[name], labels) for split, name in SPLITS.items()}
        return clip_listing(source, list(labels), entries, options)


def _find(source: Path, name: str) -> Path:
    names = (f"something-something-v2-{name}.json", f"{name}.json")
    return find_list(source, names, FOLDERS, "the annotations of the release")


def _labels(path: Path) -> dict[str, int]:
    """The number of every template, in the order of the numbers."""
    with reading(path):
        numbers = {_plain(name): int(number) for name, number in json.loads(_text(path)).items()}
        if sorted(numbers.values()) != list(range(len(numbers))) or not numbers:
            raise ValueError("its numbers are not 0, 1, 2, ...")
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _entries(path: Path, labels: Mapping[str, int]) -> Iterator[Entry]:
    with reading(path):
        captions: list[dict[str, Any]] = json.loads(_text(path))
        for caption in captions:
            yield Entry(str(caption["id"]), labels[_plain(caption["template"])])


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")
