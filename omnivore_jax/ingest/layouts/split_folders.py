"""Which folders at the top of people's own files are splits, and what lies loose in them.

Tiny-ImageNet's validation split is a folder of pictures and a table of them, as its download has
it: val/images/val_0.JPEG, and val/val_annotations.txt with file, synset and box between tabs.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from omnivore_jax.core.errors import UserError

SPLITS = ("train", "val", "test")
SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""The split that a folder of this name, in any case, holds."""
ANNOTATIONS = "val_annotations.txt"


def find_splits(folders: Sequence[str], source: Path) -> dict[str, str]:
    """Finds the folder of every split among those at the top; none if they are classes.

    Raises:
        UserError: two folders are the same split, or classes lie beside splits.

    """
    found: dict[str, str] = {}
    for folder in folders:
        split = SPLIT_NAMES.get(folder.lower())
        if split in found:
            raise UserError(
                f"--src={source} has {found[split]} and {folder}, which both name the split "
                f"{split}; put their files into one of them"
            )
        if split is not None:
            found[split] = folder
    if "train" not in found or (len(found) == 1 and len(folders) > 1):
        return {}  # a train may be a class too, beside cars and ships
    others = [folder for folder in folders if folder not in found.values()]
    if others:
        raise UserError(
            f"--src={source} has {others[0]} beside the splits {', '.join(found.values())}; move "
            "it elsewhere, or into a split if it is a class"
        )
    return {split: found[split] for split in SPLITS if split in found}


def check_loose(folder: Path, suffixes: frozenset[str]) -> None:
    """Checks that no media lie in a split beside its class folders.

    Raises:
        UserError: some do.

    """
    names = (entry.name for entry in os.scandir(folder) if entry.is_file())
    loose = sorted(
        name
        for name in names
        if os.path.splitext(name)[1].lower() in suffixes and not name.startswith(".")
    )
    if loose:
        raise UserError(
            f"{folder} has {len(loose)} files outside class folders, one is {loose[0]}; put them "
            "into folders of their classes (ImageNet as downloaded: prepare imagenet)"
        )


def read_annotations(source: Path, folder: str) -> dict[str, str]:
    """Reads the class of every picture of Tiny-ImageNet's split; nothing without its table.

    Raises:
        UserError: a line is no row of the table, a picture is named twice or is not there.

    """
    path = source / folder / ANNOTATIONS
    if not path.is_file():
        return {}
    classes: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, _, rest = line.partition("\t")
        id = f"{folder}/images/{name}"
        label = rest.partition("\t")[0]
        if not name or not label or id in classes:
            raise UserError(
                f"{path}: line {number}, {line!r}, is no new row of file, class and box; mend it"
            )
        if not (source / id).is_file():
            raise UserError(f"{path}: line {number}: {id} is not there; unpack the pictures")
        classes[id] = label
    return classes
