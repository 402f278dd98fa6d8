"""Memory of a long run: what the loader holds does not grow with the batches it has given."""

import gc
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import RecordDataset
from omnivore_jax.data.loader import LoaderConfig, TrainLoader
from omnivore_jax.data.manifest import Shard
from omnivore_jax.data.mixture import Mixture, Source
from omnivore_jax.data.records import Record, RecordReader, pack
from omnivore_jax.data.transforms import TrainTransform
from tests.media import jpeg, part

RECORDS, BATCHES, EARLY = 64, 10_000, 2_000
BOUND = 16 * 2**20
"""Bytes by which the process may grow from batch 2,000 to 10,000: 2 KiB a batch, less than one
of its two pictures (3 KiB). Allocators move by some MiB."""


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def sizes_on_the_way(folder: Path) -> list[int]:
    """Bytes of the process after batch 2,000 and 10,000."""
    writer = ArrayRecordWriter(str(folder / "0.arrayrecord"), "group_size:1,uncompressed")
    for k in range(RECORDS):
        writer.write(pack(Record(f"{k}.jpg", k % 4, jpeg(part(k % 8, 32)), "0" * 64)))
    writer.close()
    row = DatasetConfig("image", 2, size=32)
    records = RecordReader(folder, [Shard("0.arrayrecord", RECORDS, 0, "")])
    dataset = RecordDataset(records, TrainTransform(row, 75.0))
    plan = Mixture((Source("tiny", RECORDS, 2),), steps=BATCHES)
    sizes = []
    with TrainLoader(plan, {"tiny": dataset}, LoaderConfig(threads=1)) as loader:
        for number, step in enumerate(loader, 1):
            assert step.batches["tiny"].rgb.shape == (2, 1, 32, 32, 3)
            if number in (EARLY, BATCHES):
                sizes.append(resident())
    assert number == BATCHES
    return sizes


@pytest.mark.slow
def test_memory_is_flat_over_ten_thousand_batches(tmp_path):
    """In a process of its own, where types are not checked at every call."""
    code = (
        "import pathlib, sys; from tests.data.test_loader_memory import sizes_on_the_way; "
        "print(*sizes_on_the_way(pathlib.Path(sys.argv[1])))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    early, late = map(int, made.stdout.split())
    assert late - early < BOUND
