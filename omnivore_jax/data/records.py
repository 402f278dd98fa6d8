"""The records of prepared datasets.

Encoded media with their label, one msgpack map each, in ArrayRecord shards.
"""

import bisect
import hashlib
import os
import resource
import threading
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
from absl import logging

from omnivore_jax.core.buckets import ObjectPath
from omnivore_jax.core.errors import UserError
from omnivore_jax.data.manifest import Shard
from omnivore_jax.data.sample import BadRecord

SPARE_FILES = 128
"""Files that a process may still open when its readers have taken theirs."""


class Record(NamedTuple):
    """One sample as it is stored: the files' bytes as they were found."""

    id: str
    label: int
    media: bytes
    """A JPEG, PNG or video file."""
    sha256: str
    """Of `media`, then `depth`, then `label_map`."""
    depth: bytes | None = None
    """A 16-bit PNG."""
    fx: float = 0.0
    """Focal length in pixels of the depth map."""
    baseline: float = 0.0
    """Metres."""
    scale: float = 0.0
    """Metres in one unit of the depth map."""
    rotated: bool = False
    """Whether the bits of the depth map are rotated (depth.py)."""
    label_map: bytes | None = None
    """An 8-bit grey PNG: a class for every pixel, 255 for none; `label` is 0 then."""


def pack(record: Record) -> bytes:
    """Encodes a record."""
    content = record._asdict()
    if record.label_map is None:  # as in shards of before there were any
        del content["label_map"]
    # file names may hold any bytes
    return msgpack.Packer(unicode_errors="surrogateescape").pack(content)


def digest(media: bytes, depth: bytes | None, label_map: bytes | None) -> str:
    """Computes the sha256 of a record's files."""
    return hashlib.sha256(media + (depth or b"") + (label_map or b"")).hexdigest()


def unpack(data: bytes) -> Record:
    """Decodes a record; raises ValueError where it is none."""
    try:
        return Record(**msgpack.unpackb(data, unicode_errors="surrogateescape"))
    except TypeError as error:
        raise ValueError(f"not a record of a prepared dataset ({error})") from error


class RecordReader:
    """Reads the records of one split by index, in any number of threads.

    Shards stay open once they were read from: to open one costs ten times what a record does. They
    are opened anew in every process that the reader travels to.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard]):
        self._folder = folder
        self._files = tuple(shard.file for shard in shards)
        self._ends = tuple(accumulate(shard.count for shard in shards))
        self._start()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Record:
        """Reads a record.

        Raises:
            BadRecord: its bytes are damaged.
            UserError: the bucket that it lies in cannot be read.

        """
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = bisect.bisect_right(self._ends, index)
        row = index - (self._ends[number - 1] if number else 0)
        try:
            return unpack(self._open(number).read([row])[0])
        except (
            RuntimeError,
            IndexError,
            ValueError,
        ) as error:  # RuntimeError: a checksum of ArrayRecord
            reason = " ".join(str(error).split())
            path = self._folder / self._files[number]
            if isinstance(path, ObjectPath) and f"reading {path}" in reason:
                # not the record's fault: another in its place would make other weights
                raise UserError(
                    f"{path} cannot be read: {reason}; see that this host may read the bucket"
                ) from error
            raise BadRecord(f"{self._files[number]}[{row}]", reason) from error

    def _open(self, number: int) -> Any:
        reader = self._readers.get(number)  # without the lock: nearly every record comes this way
        if reader is not None:
            return reader
        from array_record.python.array_record_module import ArrayRecordReader

        # Also without: to wait for other shards costs more than to open one twice now and then.
        reader = ArrayRecordReader(str(self._folder / self._files[number]), "")
        with self._lock:
            if may_keep_open():
                return self._readers.setdefault(number, reader)
            if self._readers:  # the oldest closes when the last thread lets go of it
                del self._readers[next(iter(self._readers))]
                self._readers[number] = reader
        return reader

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {
            key: value for key, value in self.__dict__.items() if key not in ("_lock", "_readers")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()


def may_keep_open() -> bool:
    """Tells whether this process is far enough from its limit of open files to keep one more."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY or len(os.listdir("/dev/fd")) + SPARE_FILES <= limit:
        return True
    _warn(limit)
    return False


@cache
def _warn(limit: int) -> None:
    """Says once a process that reading is slower than it could be."""
    logging.warning(
        "this process may open %d files at once, too few to keep all shards of its datasets open; "
        "reading is slower for it: raise the limit (ulimit -n)",
        limit,
    )
