"""Miniatures of downloads, and what became of them."""

import json
from contextlib import contextmanager

from omnivore_jax.data import manifest
from omnivore_jax.data.decode import Clip
from omnivore_jax.data.records import RecordReader
from omnivore_jax.ingest.layouts.base import LayoutOptions
from omnivore_jax.ingest.preparation import Work, prepare
from omnivore_jax.ingest.verify import check_shards
from tests.media import number


def lay(root, files):
    """Writes files of text or bytes below a folder."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def prepare_clips(layout, source, out, short_side=0, **options):
    """Prepares a download, checks its shards and gives, by split, (id, class, frames).

    Frames are the numbers that are written in them (tests/media.py).
    """

    @contextmanager
    def meter(total):
        yield lambda: None

    work = Work((0, 1), 3, 2, False, short_side)
    prepare(layout, source, out, LayoutOptions(**options), work, meter)
    whole = manifest.read(out)
    assert whole.kind == "video"
    assert check_shards(out) == {split: whole.count(split) for split in whole.splits}
    samples = {}
    for split, shards in whole.splits.items():
        reader = RecordReader(out, shards)
        records = [reader[k] for k in range(len(reader))]
        samples[split] = [(r.id, whole.classes[r.label], numbers(r.media)) for r in records]
    return samples


def numbers(data):
    clip = Clip(data)
    return [number(frame) for frame in clip.frames(range(len(clip)))]


def names_in(path):
    """The ids in a file of lines of JSON."""
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]
