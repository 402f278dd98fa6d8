"""What a prepared dataset holds: `manifest.json` beside its shards.

    {"format": 1, "kind": "image", "classes": ["cat", "dog"],
     "splits": {"train": [{"file": "train-00000.arrayrecord", "count": 4096, "bytes": 451, "sha256":
     "..."}]}, "made": {"command": "...", "bad_files": 3}}

Everything that reads prepared data starts here; the rows themselves are never listed in memory.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from omnivore_jax.core.errors import UserError

FILE, PLAN = "manifest.json", "plan.json"
FORMAT = 1
Kind = Literal["image", "video", "rgbd"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Shard:
    """One file of records."""

    file: str
    count: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A prepared dataset.

    What its samples are, the classes in the order of their labels, the shards of each split.
    """

    kind: Kind
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Shard, ...]]
    made: Mapping[str, Any]

    def count(self, split: str) -> int:
        """Samples of a split; 0 where there is none of that name."""
        return sum(shard.count for shard in self.splits.get(split, ()))


def read(folder: Path) -> Manifest:
    """Reads the manifest of a prepared dataset.

    Raises:
        UserError: there is none, or it is damaged.

    """
    path = folder / FILE
    try:
        held = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is not there; run the prepare command to its end") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); prepare the dataset again") from error
    return _parsed(held, path)


def write(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest; readers see the old one or the new one, never a part."""
    write_json(folder / FILE, {"format": FORMAT, **asdict(manifest)})


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file at once: under another name first."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(json.dumps(value, indent=1) + "\n")
    draft.replace(path)


def check_files(folder: Path, manifest: Manifest, split: str, *, content: bool = False) -> None:
    """Checks that a split's shards are there and as long as they should be, and their sha256 if `content`.

    Raises:
        UserError: a shard is missing or damaged.

    """
    for shard in manifest.splits.get(split, ()):
        path = folder / shard.file
        size = path.stat().st_size if path.exists() else None
        if size is None:
            raise UserError(
                f"{path} is missing, {folder / FILE} lists it; copy it again or prepare the "
                "dataset again"
            )
        if size != shard.bytes or (content and digest(path) != shard.sha256):
            raise UserError(
                f"{path} is damaged: {size} bytes that are not the {shard.bytes} listed in "
                f"{folder / FILE}; "
                "copy it again, or delete it and run prepare again"
            )


def digest(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parsed(held: Any, path: Path) -> Manifest:
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        found = held.get("format") if isinstance(held, dict) else type(held).__name__
        raise UserError(
            f"{path} has format {found!r}, this version reads {FORMAT}; prepare the dataset again"
        )
    if held.get("kind") not in KINDS:
        raise UserError(f"{path} has kind {held.get('kind')!r}; use one of {', '.join(KINDS)}")
    try:
        splits = {
            name: tuple(Shard(**shard) for shard in shards)
            for name, shards in held["splits"].items()
        }
        manifest = Manifest(held["kind"], tuple(held["classes"]), splits, held["made"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); prepare the dataset again") from error
    if not manifest.classes or len(set(manifest.classes)) != len(manifest.classes):
        raise UserError(f"{path} lists no classes, or one twice; prepare the dataset again")
    return manifest
