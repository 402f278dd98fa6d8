"""Memory of a long run: what the loader holds does not grow with the batches it has given."""

import gc

import psutil
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from omnivore_jax.data.datasets import RecordDataset
from omnivore_jax.data.loader import LoaderConfig, TrainLoader
from omnivore_jax.data.manifest import Shard
from omnivore_jax.data.mixture import Mixture, Source
from omnivore_jax.data.records import Record, RecordReader, pack
from omnivore_jax.data.transforms import DatasetConfig, TrainTransform
from tests.media import jpeg, part

RECORDS, BATCHES, EARLY = 64, 10_000, 2_000
BOUND = 16 * 2**20
"""Bytes by which the process may grow from batch 2,000 to 10,000: 2 KiB a batch, less than one
of its two pictures (3 KiB). Allocators move by some MiB."""


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


@pytest.mark.slow
def test_memory_is_flat_over_ten_thousand_batches(tmp_path):
    writer = ArrayRecordWriter(str(tmp_path / "0.arrayrecord"), "group_size:1,uncompressed")
    for k in range(RECORDS):
        writer.write(pack(Record(f"{k}.jpg", k % 4, jpeg(part(k % 8, 32)), "0" * 64)))
    writer.close()
    row = DatasetConfig("image", 2, size=32)
    records = RecordReader(tmp_path, [Shard("0.arrayrecord", RECORDS, 0, "")])
    dataset = RecordDataset(records, TrainTransform(row, 75.0))
    plan = Mixture((Source("tiny", RECORDS, 2),), steps=BATCHES)
    sizes = []
    with TrainLoader(plan, {"tiny": dataset}, LoaderConfig(threads=1)) as loader:
        for number, step in enumerate(loader, 1):
            assert step.batches["tiny"].rgb.shape == (2, 1, 32, 32, 3)
            if number in (EARLY, BATCHES):
                sizes.append(resident())
    assert sizes[1] - sizes[0] < BOUND, sizes
    assert number == BATCHES
