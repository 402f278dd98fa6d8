"""What a prepared dataset holds: `manifest.json` beside its shards.

    {"format": 1, "kind": "image", "classes": ["cat", "dog"],
     "splits": {"train": [{"file": "train-00000.arrayrecord", "count": 4096, "bytes": 451, "sha256":
     "..."}]}, "made": {"command": "...", "bad_files": 3}}

Everything that reads prepared data starts here; the rows themselves are never listed in memory.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from omnivore_jax.core import files
from omnivore_jax.core.buckets import ObjectPath
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Kind, LabelForm

FILE, PLAN = "manifest.json", "plan.json"
FORMAT = 1
KINDS: tuple[str, ...] = get_args(Kind)
LABELS: tuple[str, ...] = get_args(LabelForm)


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
    origin: Mapping[str, Any]
    """By which command it was made, and what that left out; `made` in the file."""
    labels: LabelForm = "class"
    """Whether a sample has one class or a map of them."""

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
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is not there; run the prepare command to its end") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); prepare the dataset again") from error
    return _parse(content, path)


def write(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest; readers see the old one or the new one, never a part."""
    content = asdict(manifest)
    content["made"] = content.pop("origin")
    files.write_json(folder / FILE, {"format": FORMAT, **content})


def check_files(folder: Path, manifest: Manifest, split: str, *, content: bool = False) -> None:
    """Checks that a split's shards are there and as long as listed; if `content`, their sha256.

    Raises:
        UserError: a shard is missing or damaged.

    """
    sizes = folder.sizes() if isinstance(folder, ObjectPath) else None
    for shard in manifest.splits.get(split, ()):
        check_shard(folder, shard, content=content, sizes=sizes)


def check_shard(
    folder: Path,
    shard: Shard,
    *,
    content: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Checks that a shard is there and as long as listed; if `content`, its sha256.

    `sizes`: of all files of the folder, where a listing has told them.

    Raises:
        UserError: it is missing or damaged.

    """
    path = folder / shard.file
    if sizes is None:
        size = path.stat().st_size if path.exists() else None
    else:
        size = sizes.get(shard.file)
    if size is None:
        raise UserError(
            f"{path} is missing, {folder / FILE} lists it; copy it again or prepare the "
            "dataset again"
        )
    if size != shard.bytes or (content and files.sha256(path) != shard.sha256):
        raise UserError(
            f"{path} is damaged: {size} bytes that are not the {shard.bytes} listed in "
            f"{folder / FILE}; copy it again, or delete it and run prepare again"
        )


def _parse(content: Any, path: Path) -> Manifest:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        version = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"{path} has format {version!r}, this version reads {FORMAT}; prepare the dataset again"
        )
    if content.get("kind") not in KINDS:
        raise UserError(f"{path} has kind {content.get('kind')!r}; use one of {', '.join(KINDS)}")
    labels = content.get("labels", "class")  # older ones do not say it
    if labels not in LABELS:
        raise UserError(f"{path} has labels {labels!r}; use one of {', '.join(LABELS)}")
    try:
        splits = {
            name: tuple(Shard(**shard) for shard in shards)
            for name, shards in content["splits"].items()
        }
        classes = tuple(content["classes"])
        manifest = Manifest(content["kind"], classes, splits, content["made"], labels)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); prepare the dataset again") from error
    if not manifest.classes or len(set(manifest.classes)) != len(manifest.classes):
        raise UserError(f"{path} lists no classes, or one twice; prepare the dataset again")
    return manifest
