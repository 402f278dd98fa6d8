"""What a prepared dataset will consist of.

Its shards, which every machine works out alike from the same listing.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omnivore_jax.core import files
from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.manifest import Manifest, Shard
from omnivore_jax.ingest.layouts.base import Item, Listing
from omnivore_jax.ingest.shards import REPORTS, ShardReport, read_report

SHARD_ROWS = {"image": 4096, "rgbd": 1024, "video": 256}
"""Samples of a shard: some hundred megabytes, which is what a stopped run does again."""
MAX_SHARDS = 512
BAD_FILES, MISSING_FILES = "bad_files.jsonl", "missing_files.jsonl"


class ShardPlan(NamedTuple):
    """A shard that is to be made, of the samples `start` to `stop` of a split."""

    name: str
    split: str
    start: int
    stop: int


class Inventory(NamedTuple):
    """What is there of a dataset."""

    reports: Mapping[ShardPlan, ShardReport]
    bad: Sequence[Mapping[str, Any]]
    """Files that were left out."""
    copies: Sequence[tuple[str, str]]
    """Pairs (validation, training) of equal files, once all shards are there."""

    def class_counts(self) -> dict[str, Counter[int]]:
        """Counts the samples of every label, or those whose map shows it, by split."""
        counts: dict[str, Counter[int]] = {}
        for plan, report in self.reports.items():
            counts.setdefault(plan.split, Counter()).update(report.labels)
        return counts

    def sizes(self) -> dict[str, int]:
        """Counts the samples of every split."""
        sizes: dict[str, int] = {}
        for plan, report in self.reports.items():
            count = report.shard.count if report.shard else 0
            sizes[plan.split] = sizes.get(plan.split, 0) + count
        return sizes


def cut(listing: Listing, rows: int = 0) -> list[ShardPlan]:
    """Cuts the splits into shards of `rows` samples; 0: by kind and number."""
    plans = []
    for split, ids in listing.splits.items():
        step = rows or max(SHARD_ROWS[listing.kind], -(-len(ids) // MAX_SHARDS))
        for number, start in enumerate(range(0, len(ids), step)):
            stop = min(start + step, len(ids))
            plans.append(ShardPlan(f"{split}-{number:05d}", split, start, stop))
    return plans


def items_of(listing: Listing, plan: ShardPlan) -> list[Item]:
    """Makes the samples of a shard.

    Raises:
        UserError: the focal length of a depth map is not known.

    """
    items = [listing.item(id) for id in listing.splits[plan.split][plan.start : plan.stop]]
    for item in items:
        known = item.depth.intrinsics if item.depth else None
        if known and min(known.fx, known.baseline, known.scale) <= 0:
            raise UserError(
                f"the focal length of {item.media.name} is not known; give --fx=PIXELS (Kinect: "
                '518.86), or write {"fx": PIXELS} into a depth.json beside it or above'
            )
    return items


def claim(
    out: Path, source: Path, listing: Listing, plans: Sequence[ShardPlan], *, overwrite: bool
) -> None:
    """Notes in `out` what it is for.

    Raises:
        UserError: it is for another dataset, or for other files, and `overwrite` is not given.

    """
    names = hashlib.sha256()
    for ids in listing.splits.values():
        for id in ids:
            names.update(id.encode(errors="surrogateescape") + b"\0")
    purpose = {
        "kind": listing.kind,
        "classes": len(listing.classes),
        "splits": {split: len(ids) for split, ids in listing.splits.items()},
        "files": names.hexdigest(),
        "shards": [plan.name for plan in plans],
    }
    path = out / manifest.PLAN
    old = json.loads(path.read_text()) if path.exists() else purpose
    if old != purpose:
        if not overwrite:
            raise UserError(
                f"--out={out} was begun for {_words(old)}, --src={source} has {_words(purpose)}; "
                "choose another folder, or give --overwrite"
            )
        # First the manifest: without it nobody trains on a mixture of both.
        (out / manifest.FILE).unlink(missing_ok=True)
        for name in set(old["shards"]) - set(purpose["shards"]):
            for file in (f"{name}.arrayrecord", f"{name}.jsonl", f"{REPORTS}/{name}.json"):
                (out / file).unlink(missing_ok=True)
    files.write_json(path, purpose)


def finish(out: Path, listing: Listing, plans: Sequence[ShardPlan], command: str) -> Inventory:
    """Writes the lists of unreadable and missing files and, if all shards are there, the manifest.

    `command`: what the manifest says that it was made by.

    Raises:
        UserError: all shards are there and no file could be read.

    """
    reports = {}
    for plan in plans:
        report = read_report(out, plan.name)
        if report is not None:
            reports[plan] = report
    bad = [row for report in reports.values() for row in report.bad]
    _write_lines(out / BAD_FILES, bad)
    if listing.missing:
        _write_lines(out / MISSING_FILES, ({"id": id} for id in listing.missing))
    else:
        (out / MISSING_FILES).unlink(missing_ok=True)  # of an earlier run: they are there now
    if len(reports) < len(plans):
        return Inventory(reports, bad, [])
    splits = {split: _shards(reports, split) for split in listing.splits}
    if not any(splits.values()):
        raise UserError(
            f"none of the {len(bad)} files can be read, the first is {bad[0]['id']} "
            f"({bad[0]['reason']})"
        )
    same = copies(out, splits)
    origin = {"by": command, **listing.origin, "bad_files": len(bad), "copies": len(same)}
    if listing.missing:
        origin["missing_files"] = len(listing.missing)
    whole = Manifest(listing.kind, listing.classes, splits, origin, listing.labels)
    manifest.write(out, whole)
    return Inventory(reports, bad, same)


def copies(out: Path, splits: Mapping[str, Sequence[Shard]]) -> list[tuple[str, str]]:
    """Finds pairs (validation, training) of samples that are the same to the byte.

    What a model has seen tests nothing.
    """
    # Only digests of what is evaluated stay in memory: the training split is the large one.
    validation = {
        row["sha256"]: row["id"]
        for split in splits
        if split != "train"
        for row in _rows(out, splits[split])
    }
    if not validation:
        return []
    train = _rows(out, splits.get("train", ()))
    return [(validation[row["sha256"]], row["id"]) for row in train if row["sha256"] in validation]


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _shards(reports: Mapping[ShardPlan, ShardReport], split: str) -> tuple[Shard, ...]:
    shards = [report.shard for plan, report in reports.items() if plan.split == split]
    return tuple(shard for shard in shards if shard is not None)


def _rows(out: Path, shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        with (out / shard.file).with_suffix(".jsonl").open() as file:
            yield from map(json.loads, file)


def _words(purpose: Mapping[str, Any]) -> str:
    splits = " + ".join(f"{count} {split}" for split, count in purpose["splits"].items())
    return (
        f"{splits} of kind {purpose['kind']} in {purpose['classes']} classes "
        f"(list {purpose['files'][:8]})"
    )
