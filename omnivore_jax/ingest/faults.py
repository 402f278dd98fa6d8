"""What `prepare verify` looks for beyond the bytes of the shards.

Rows that do not belong to their shard, labels that are no class, copies across splits, and, if
asked, records that cannot be decoded to their end.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.decode import Clip, DecodeError, decode_image, decode_label_map
from omnivore_jax.data.manifest import Kind, Manifest, Shard
from omnivore_jax.data.records import Record, RecordReader, digest
from omnivore_jax.data.sample import BadRecord, Sample
from omnivore_jax.data.stills import decode_rgbd, label_map_of
from omnivore_jax.ingest.plan import copies
from omnivore_jax.ingest.shards import shown_classes
from omnivore_jax.ingest.verify import check_split


def find_row_faults(folder: Path, whole: Manifest) -> list[str]:
    """Compares the rows beside the shards with the shards and the classes; a line a fault."""
    faults = []
    listed: dict[str, list[Shard]] = {}
    for split, shards in whole.splits.items():
        for shard in shards:
            found = list(_row_faults(folder, shard, len(whole.classes)))
            faults += found
            if not found:
                listed.setdefault(split, []).append(shard)
    same = copies(folder, listed)
    faults += [
        f"{folder}: {train} in train is {other} in another split, byte for byte; remove one of the "
        "files and prepare again"
        for other, train in same
    ]
    return faults


def find_record_faults(
    folder: Path, whole: Manifest, threads: int, advance: Callable[[], None]
) -> list[str]:
    """Decodes every record to its end, every frame of a clip; a line for each that cannot be."""
    faults = []
    for split, shards in whole.splits.items():
        there = [shard for shard in shards if _is_there(folder, shard)]
        samples = WholeRecords(RecordReader(folder, there), whole.kind, len(whole.classes))
        damage = check_split(samples, threads, advance=advance)
        faults += [f"{folder}: {record.id} in {split}: {record.reason}" for record in damage]
    return faults


@dataclass(frozen=True)
class WholeRecords:
    """A split whose samples are checked as a whole, not cropped (sample.Dataset)."""

    records: RecordReader
    kind: Kind
    classes: int

    def __len__(self) -> int:
        return len(self.records)

    def load(self, index: int, seed: int) -> Sample:
        """Decodes all of a record; of a clip one pixel of every frame is kept."""
        record = self.records[index]
        if digest(record.media, record.depth, record.label_map) != record.sha256:
            raise BadRecord(record.id, "its bytes are not those of its sha256; prepare it again")
        if not 0 <= record.label < self.classes:
            raise BadRecord(record.id, f"label {record.label} is none of {self.classes} classes")
        try:
            return self._decode(record)
        except DecodeError as error:
            raise BadRecord(record.id, str(error)) from error

    def _decode(self, record: Record) -> Sample:
        disparity = None
        if record.label_map is not None:
            shown = shown_classes(decode_label_map(record.label_map))
            if shown and shown[-1] >= self.classes:
                raise DecodeError(f"its map has label {shown[-1]}, none of {self.classes} classes")
            label_map_of(record, decode_image(record.media, upright=False))
        if self.kind == "video":
            clip = Clip(record.media)
            rgb = clip.frames(range(len(clip)), lambda frame: frame[:1, :1])
        elif self.kind == "rgbd":
            picture, depth = decode_rgbd(record)
            rgb, disparity = picture[None], depth[None, ..., None]
        else:
            rgb = decode_image(record.media)[None]
        return Sample(rgb, disparity, record.label, record.id)


def _row_faults(folder: Path, shard: Shard, classes: int) -> Iterator[str]:
    path = (folder / shard.file).with_suffix(".jsonl")
    remedy = f"delete {folder / shard.file} and run prepare again"
    count = 0
    try:
        with path.open() as file:
            for line in file:
                count += 1
                row = json.loads(line)
                strange = [k for k in row.get("shows", [row["label"]]) if not 0 <= k < classes]
                if strange:
                    yield (
                        f"{path}: {row['id']} has label {strange[-1]}, the manifest has {classes} "
                        f"classes; {remedy}"
                    )
    except FileNotFoundError:
        yield f"{path} is missing; {remedy}"
        return
    except (ValueError, KeyError, TypeError) as error:
        yield f"{path}: row {count} cannot be read ({error!r}); {remedy}"
        return
    if count != shard.count:
        yield f"{path} has {count} rows, its shard {shard.count} records; {remedy}"


def _is_there(folder: Path, shard: Shard) -> bool:
    try:
        manifest.check_shard(folder, shard)
    except UserError:  # told by the check of the bytes
        return False
    return True
