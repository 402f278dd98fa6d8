"""Writes the shards of a dataset.

One after another, each whole or not at all, and each made again only if need be.

    OUT/train-00000.arrayrecord         records (records.py)
    OUT/train-00000.jsonl               a row for every record: id, label, sha256, bytes
    OUT/parts/train-00000.json          written last: what the shard holds and which files were left
                                        out

It takes the items of any layout and does not know where their bytes come from.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from omnivore_jax.core import files
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import IGNORE
from omnivore_jax.data.decode import Clip, DecodeError, decode_image, decode_label_map, sniff
from omnivore_jax.data.depth import Intrinsics
from omnivore_jax.data.manifest import Kind, Shard
from omnivore_jax.data.records import Record, digest, pack
from omnivore_jax.data.stills import decode_rgbd, label_map_of
from omnivore_jax.ingest.layouts.base import Item
from omnivore_jax.ingest.layouts.checks import shown

REPORTS = "parts"
"""Folder of the reports."""
AHEAD = 64
"""Files that are read ahead of the one being written."""
PNG = b"\x89PNG\r\n\x1a\n"
NO_DEPTH = Intrinsics(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard's items; `shard` is None where none of them could be read."""

    digest: str
    """Of the items (`digest_of`); `plan` in the file."""
    shard: Shard | None
    labels: Mapping[int, int]
    """Samples of every label; where labels are maps, those that show it."""
    bad: Sequence[Mapping[str, Any]]
    """Files that were left out: id, reason, bytes."""


def read_item(item: Item, kind: Kind) -> Record:
    """Reads the files of a sample and tries to decode them.

    Raises:
        DecodeError: they cannot be decoded: a picture or a depth map as a whole, a clip at its
        first and last frame, which must be more than a still picture. OSError: they cannot be
        read.

    """
    _check_name(item.id)
    media = item.media.read()
    depth = item.depth.media.read() if item.depth else None
    labels = item.label_map.read() if item.label_map else None
    sha256 = digest(media, depth, labels)
    record = Record(item.id, item.label, media, sha256, depth, *_intrinsics(item), labels)
    if labels is not None:
        label_map_of(record, decode_image(media, upright=False))
    if kind == "image":
        _refuse_depth(media)
        decode_image(media)
    elif kind == "rgbd":
        decode_rgbd(record)
    else:
        if sniff(media) == "still":
            raise DecodeError("the file is a still picture, whatever its name says, and no clip")
        clip = Clip(media)
        clip.frames([0, len(clip) - 1])
    return record


def _check_name(id: str) -> None:
    if shown(id) != id:
        raise DecodeError(f"the name {shown(id)} is not UTF-8; rename the file")


def _refuse_depth(media: bytes) -> None:
    # PNG specification, IHDR: after width and height, bits of a sample and color type 0 for gray
    if media.startswith(PNG) and media[24:26] == b"\x10\x00":
        raise DecodeError(
            "a 16-bit gray PNG is a depth map, no picture; docs/data.md says where depth maps lie"
        )


def write_shard(
    folder: Path,
    name: str,
    items: Sequence[Item],
    kind: Kind,
    pool: Executor,
    advance: Callable[[], None],
) -> ShardReport:
    """Writes one shard, or keeps it where it was made of the same items before.

    Calls `advance` after every item.

    Raises:
        UserError: the folder cannot be written to.

    """
    digest, old = digest_of(kind, items), read_report(folder, name)
    if old is not None and old.digest == digest and _is_good(folder, old, items):
        for _ in items:
            advance()
        return old
    try:
        report = _write(folder, name, _records(items, kind, pool, advance), digest)
    # RuntimeError: ArrayRecord's word for what the system refused
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{folder / name}.arrayrecord cannot be written ({_line(error)}); make room or choose "
            "another --out, then run the same command again: what is done is kept"
        ) from error
    content = asdict(report)
    files.write_json(_report_path(folder, name), {"plan": content.pop("digest"), **content})
    return report


def digest_of(kind: Kind, items: Iterable[Item]) -> str:
    """Digests what a shard is to hold.

    Not where its bytes lie: a dataset that has moved, or is packed otherwise, is the same.
    """
    items_digest = hashlib.sha256(kind.encode())
    for item in items:
        has_depth = item.depth is not None
        content = (item.id, item.label, *_intrinsics(item), has_depth, *item.edits)
        content += ("label map",) if item.label_map else ()
        items_digest.update(repr(content).encode(errors="surrogateescape"))
    return items_digest.hexdigest()


def read_report(folder: Path, name: str) -> ShardReport | None:
    """Reads what is known of a shard; None where it is not made yet."""
    try:
        content = json.loads(_report_path(folder, name).read_text())
        shard = None if content["shard"] is None else Shard(**content["shard"])
        labels = {int(label): count for label, count in content["labels"].items()}
        return ShardReport(content["plan"], shard, labels, content["bad"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # made again


def _report_path(folder: Path, name: str) -> Path:
    return folder / REPORTS / f"{name}.json"


def _intrinsics(item: Item) -> Intrinsics:
    return item.depth.intrinsics if item.depth else NO_DEPTH


def _is_good(folder: Path, report: ShardReport, items: Sequence[Item]) -> bool:
    """Whether a shard is there as it was written, and no file that it lacks has changed since."""
    if report.shard is not None:
        path = folder / report.shard.file
        whole = path.exists() and path.stat().st_size == report.shard.bytes
        if not whole or not path.with_suffix(".jsonl").exists():
            return False
    media = {item.id: item for item in items}
    return all(_size(media[row["id"]]) == row["bytes"] for row in report.bad)


def _size(item: Item) -> int:
    others = (item.depth and item.depth.media, item.label_map)
    return item.media.size() + sum(media.size() for media in others if media)


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
    folder: Path, name: str, records: Iterable[Record | Mapping[str, Any]], digest: str
) -> ShardReport:
    from array_record.python.array_record_module import ArrayRecordWriter

    data, rows = folder / f"{name}.arrayrecord", folder / f"{name}.jsonl"
    draft, draft_rows = folder / f".{name}.arrayrecord.tmp", folder / f".{name}.jsonl.tmp"
    labels: Counter[int] = Counter()
    bad: list[Mapping[str, Any]] = []
    count = 0
    # Every record is looked up and checked by itself; pictures and clips do not get any smaller.
    writer = ArrayRecordWriter(str(draft), "group_size:1,uncompressed")
    with draft_rows.open("w") as file:
        for record in records:
            if not isinstance(record, Record):
                bad.append(record)
                continue
            packed = pack(record)
            writer.write(packed)
            row: dict[str, Any] = {
                "id": record.id,
                "label": record.label,
                "sha256": record.sha256,
                "bytes": len(packed),
            }
            if record.label_map is not None:
                row["shows"] = shown_classes(decode_label_map(record.label_map))
            file.write(json.dumps(row) + "\n")
            labels.update(row.get("shows", [record.label]))
            count += 1
    writer.close()
    if not count:
        for path in (draft, draft_rows, data, rows):
            path.unlink(missing_ok=True)
        return ShardReport(digest, None, {}, bad)
    shard = Shard(data.name, count, draft.stat().st_size, files.sha256(draft))
    draft_rows.replace(rows)
    draft.replace(data)
    return ShardReport(digest, shard, dict(sorted(labels.items())), bad)


def shown_classes(labels: UInt8[np.ndarray, "h w"]) -> list[int]:
    """Lists the classes of a label map."""
    return np.flatnonzero(np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE]).tolist()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
