"""Writes the shards of a dataset.

One after another, each whole or not at all, and each made again only if need be.

    OUT/train-00000.arrayrecord         records (records.py)
    OUT/train-00000.jsonl               a row for every record: id, label, sha256, bytes
    OUT/parts/train-00000.json          written last: what the shard holds and which files were left
                                        out

Any lister of samples may use it: it knows files and labels, not the layout that they were found in.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.decode import Clip, DecodeError, decode_image
from omnivore_jax.data.manifest import Kind, Shard
from omnivore_jax.data.records import Record, pack
from omnivore_jax.data.transforms import decode_rgbd

PARTS = "parts"
AHEAD = 64
"""Files that are read ahead of the one being written."""


class Item(NamedTuple):
    """A sample that is to be stored."""

    id: str
    label: int
    media: Path
    depth: Path | None = None
    fx: float = 0.0
    baseline: float = 0.0
    scale: float = 0.0
    rotated: bool = False


@dataclass(frozen=True)
class Part:
    """What became of one shard's items; `shard` is None where none of them could be read."""

    plan: str
    shard: Shard | None
    labels: Mapping[int, int]
    """Samples of every label."""
    bad: Sequence[Mapping[str, Any]]
    """Files that were left out: id, reason, bytes."""


def read_item(item: Item, kind: Kind) -> Record:
    """Reads the files of a sample and tries to decode them.

    Raises:
        DecodeError: they cannot be decoded: a picture or a depth map as a whole, a clip at its
        first and last frame. OSError: they cannot be read.

    """
    media = item.media.read_bytes()
    depth = item.depth.read_bytes() if item.depth else None
    sha256 = hashlib.sha256(media + (depth or b"")).hexdigest()
    record = Record(
        item.id, item.label, media, sha256, depth, item.fx, item.baseline, item.scale, item.rotated
    )
    if kind == "image":
        decode_image(media)
    elif kind == "rgbd":
        decode_rgbd(record)
    else:
        clip = Clip(media)
        clip.frames([0, len(clip) - 1])
    return record


def write_shard(
    folder: Path,
    name: str,
    items: Sequence[Item],
    kind: Kind,
    pool: Executor,
    advance: Callable[[], None],
) -> Part:
    """Writes one shard, or keeps it where it was made of the same items before.

    Calls `advance` after every item.

    Raises:
        UserError: the folder cannot be written to.

    """
    plan = plan_digest(kind, items)
    old = read_part(folder, name)
    if old is not None and old.plan == plan and _is_whole(folder, old) and not _mended(old, items):
        for _ in items:
            advance()
        return old
    try:
        part = _write(folder, name, _records(items, kind, pool, advance), plan)
        manifest.write_json(_part_path(folder, name), asdict(part))
    except (
        OSError,
        RuntimeError,
    ) as error:  # RuntimeError: ArrayRecord's word for what the system refused
        raise UserError(
            f"{folder / name}.arrayrecord cannot be written ({_line(error)}); make room or choose "
            "another --out, then "
            "run the same command again: what is done is kept"
        ) from error
    return part


def plan_digest(kind: Kind, items: Iterable[Item]) -> str:
    """A digest of what a shard is to hold."""
    digest = hashlib.sha256(kind.encode())
    for item in items:
        digest.update(
            repr((item.id, *item[1:2], *item[4:], item.depth is not None)).encode(
                errors="surrogateescape"
            )
        )
    return digest.hexdigest()


def read_part(folder: Path, name: str) -> Part | None:
    """What is known of a shard; None where it is not made yet."""
    try:
        held = json.loads(_part_path(folder, name).read_text())
        shard = None if held["shard"] is None else Shard(**held["shard"])
        return Part(
            held["plan"], shard, {int(label): n for label, n in held["labels"].items()}, held["bad"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # made again


def _part_path(folder: Path, name: str) -> Path:
    return folder / PARTS / f"{name}.json"


def _is_whole(folder: Path, part: Part) -> bool:
    if part.shard is None:
        return True
    path = folder / part.shard.file
    return (
        path.exists()
        and path.stat().st_size == part.shard.bytes
        and path.with_suffix(".jsonl").exists()
    )


def _mended(part: Part, items: Sequence[Item]) -> bool:
    """Whether a file that was left out has changed since."""
    media = {item.id: item for item in items}
    return any(_size(media[row["id"]]) != row["bytes"] for row in part.bad)


def _size(item: Item) -> int:
    paths = [path for path in (item.media, item.depth) if path is not None and path.exists()]
    return sum(path.stat().st_size for path in paths)


def _records(
    items: Sequence[Item], kind: Kind, pool: Executor, advance: Callable[[], None]
) -> Iterator[Record | Mapping[str, Any]]:
    """The record of every item in order, or the row of a file that is left out."""

    def read(item: Item) -> Record | Mapping[str, Any]:
        try:
            return read_item(item, kind)
        except (DecodeError, OSError) as error:
            return {"id": item.id, "reason": _line(error), "bytes": _size(item)}

    waiting: deque[Future] = deque()
    for item in items:
        waiting.append(pool.submit(read, item))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
            advance()
    while waiting:
        yield waiting.popleft().result()
        advance()


def _write(
    folder: Path, name: str, records: Iterable[Record | Mapping[str, Any]], plan: str
) -> Part:
    from array_record.python.array_record_module import ArrayRecordWriter

    data, rows = folder / f"{name}.arrayrecord", folder / f"{name}.jsonl"
    draft, draft_rows = folder / f".{name}.arrayrecord.tmp", folder / f".{name}.jsonl.tmp"
    labels: Counter[int] = Counter()
    bad: list[Mapping[str, Any]] = []
    # Every record is found and checked by itself; pictures and clips do not get any smaller.
    writer = ArrayRecordWriter(str(draft), "group_size:1,uncompressed")
    with draft_rows.open("w") as file:
        for record in records:
            if not isinstance(record, Record):
                bad.append(record)
                continue
            packed = pack(record)
            writer.write(packed)
            row = {
                "id": record.id,
                "label": record.label,
                "sha256": record.sha256,
                "bytes": len(packed),
            }
            file.write(json.dumps(row) + "\n")
            labels[record.label] += 1
    writer.close()
    if not labels:
        for path in (draft, draft_rows, data, rows):
            path.unlink(missing_ok=True)
        return Part(plan, None, {}, bad)
    shard = Shard(data.name, sum(labels.values()), draft.stat().st_size, manifest.digest(draft))
    draft_rows.replace(rows)
    draft.replace(data)
    return Part(plan, shard, dict(sorted(labels.items())), bad)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
