"""What a prepared dataset will consist of.

Its shards, which every machine works out alike from the same files.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.depth import Intrinsics, read_intrinsics
from omnivore_jax.data.manifest import Manifest, Shard
from omnivore_jax.ingest.layouts.folder import Listing
from omnivore_jax.ingest.shards import PARTS, Item, Part, read_part

SHARD_ROWS = {"image": 4096, "rgbd": 1024, "video": 256}
"""Samples of a shard: some hundred megabytes, which is what a stopped run does again."""
MOST_SHARDS = 512
BAD_FILES = "bad_files.jsonl"


class Task(NamedTuple):
    """A shard that is to be made, of the samples `start` to `stop` of a split."""

    name: str
    split: str
    start: int
    stop: int


def tasks_of(listing: Listing, rows: int = 0) -> list[Task]:
    """Cuts the splits into shards of `rows` samples; 0: by kind and number."""
    tasks = []
    for split, ids in listing.splits.items():
        step = rows or max(SHARD_ROWS[listing.kind], -(-len(ids) // MOST_SHARDS))
        starts = range(0, len(ids), step)
        tasks += [
            Task(f"{split}-{k:05d}", split, start, min(start + step, len(ids)))
            for k, start in enumerate(starts)
        ]
    return tasks


def items_of(listing: Listing, source: Path, task: Task, defaults: Intrinsics) -> list[Item]:
    """The samples of a shard, with their files and labels.

    Raises:
        UserError: the focal length of a depth map is not known.

    """
    labels = {name: label for label, name in enumerate(listing.classes)}
    intrinsics = cache(lambda folder: read_intrinsics(source, folder, defaults))
    items = []
    for id in listing.splits[task.split][task.start : task.stop]:
        item = Item(id, labels[listing.class_of(id)], source / id)
        if listing.kind == "rgbd":
            known = intrinsics(item.media.parent)
            if min(known.fx, known.baseline, known.scale) <= 0:
                raise UserError(
                    f"the focal length of {item.media} is not known; give --fx=PIXELS (Kinect: "
                    "518.86), or write "
                    f'{{"fx": PIXELS}} into a depth.json beside it or above'
                )
            item = item._replace(depth=source / listing.depth[id], **known._asdict())
        items.append(item)
    return items


def claim(
    out: Path, source: Path, listing: Listing, tasks: Sequence[Task], *, overwrite: bool
) -> None:
    """Notes in `out` what it is for.

    Raises:
        UserError: it is for another dataset, or for other files, and `overwrite` is not given.

    """
    names = hashlib.sha256()
    for ids in listing.splits.values():
        for id in ids:
            names.update(id.encode(errors="surrogateescape") + b"\0")
    plan = {
        "kind": listing.kind,
        "classes": len(listing.classes),
        "splits": {split: len(ids) for split, ids in listing.splits.items()},
        "files": names.hexdigest(),
        "shards": [task.name for task in tasks],
    }
    path = out / manifest.PLAN
    old = json.loads(path.read_text()) if path.exists() else plan
    if old != plan:
        if not overwrite:
            raise UserError(
                f"--out={out} was begun for {_words(old)}, --src={source} has {_words(plan)}; "
                "choose another folder, "
                "or give --overwrite"
            )
        (out / manifest.FILE).unlink(missing_ok=True)
        for name in set(old["shards"]) - set(plan["shards"]):
            for file in (f"{name}.arrayrecord", f"{name}.jsonl", f"{PARTS}/{name}.json"):
                (out / file).unlink(missing_ok=True)
    manifest.write_json(path, plan)


class Made(NamedTuple):
    """What is there of a dataset."""

    parts: Mapping[Task, Part]
    bad: Sequence[Mapping[str, Any]]
    """Files that were left out."""
    copies: Sequence[tuple[str, str]]
    """Pairs (held out, training) of equal files, once all shards are there."""


def finish(out: Path, listing: Listing, tasks: Sequence[Task]) -> Made:
    """Writes the list of unreadable files and, if all shards are there, the manifest.

    Raises:
        UserError: all shards are there and no file could be read.

    """
    parts = {task: part for task in tasks if (part := read_part(out, task.name)) is not None}
    bad = [row for part in parts.values() for row in part.bad]
    (out / BAD_FILES).write_text("".join(json.dumps(row) + "\n" for row in bad))
    if len(parts) < len(tasks):
        return Made(parts, bad, [])
    splits = {
        split: tuple(
            part.shard
            for task, part in parts.items()
            if task.split == split and part.shard is not None
        )
        for split in listing.splits
    }
    if not any(splits.values()):
        raise UserError(
            f"none of the {len(bad)} files can be read, the first is {bad[0]['id']} "
            f"({bad[0]['reason']})"
        )
    same = copies(out, splits)
    made = {"by": "omnivore_jax.prepare folder", "bad_files": len(bad), "copies": len(same)}
    manifest.write(out, Manifest(listing.kind, listing.classes, splits, made))
    return Made(parts, bad, same)


def copies(out: Path, splits: Mapping[str, Sequence[Shard]]) -> list[tuple[str, str]]:
    """Pairs (held out, training) of samples that are the same to the byte.

    What a model has seen tests nothing.
    """
    held_out = {
        row["sha256"]: row["id"]
        for split in splits
        if split != "train"
        for row in _rows(out, splits[split])
    }
    if not held_out:
        return []
    train = _rows(out, splits.get("train", ()))
    return [(held_out[row["sha256"]], row["id"]) for row in train if row["sha256"] in held_out]


def _rows(out: Path, shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        with (out / shard.file).with_suffix(".jsonl").open() as file:
            yield from map(json.loads, file)


def class_counts(parts: Mapping[Task, Part]) -> dict[str, Counter[int]]:
    """Samples of every label, by split."""
    counts: dict[str, Counter[int]] = {}
    for task, part in parts.items():
        counts.setdefault(task.split, Counter()).update(part.labels)
    return counts


def _words(plan: Mapping[str, Any]) -> str:
    splits = " + ".join(f"{count} {split}" for split, count in plan["splits"].items())
    return (
        f"{splits} of kind {plan['kind']} in {plan['classes']} classes (list {plan['files'][:8]})"
    )
