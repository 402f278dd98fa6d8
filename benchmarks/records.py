"""Measures how many records a second a process reads, all shards open against few under a lock.

    python -m benchmarks.records [--shards=512] [--records=54] [--bytes=2000] [--repeats=3] [--json]

Writes shards of small records into a temporary folder and reads all of them in random order:
`before` keeps 128 shards open and opens further ones under the lock that all threads share, as the
first version did; `now` is `omnivore_jax.data.records.RecordReader`. The ways alternate, best of
all repeats. ImageNet-21K is 512 shards of 27,729 records.
"""

import argparse
import json
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from omnivore_jax.data.manifest import Shard
from omnivore_jax.data.records import Record, RecordReader, pack

BEFORE_OPEN = 128


class BeforeReader(RecordReader):
    """The reader of before: the least recently used of 128 shards gives way, all under one lock."""

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, Any] = OrderedDict()

    def _open(self, number: int) -> Any:
        with self._lock:
            if number not in self._recent:
                path = str(self._folder / self._files[number])
                self._recent[number] = ArrayRecordReader(path, "")
                if len(self._recent) > BEFORE_OPEN:
                    self._recent.popitem(last=False)
            self._recent.move_to_end(number)
            return self._recent[number]


def write(folder: Path, shards: int, records: int, size: int) -> list[Shard]:
    """Writes `shards` shards of `records` records of `size` random bytes."""
    rng, listed = np.random.default_rng(0), []
    for number in range(shards):
        listed.append(Shard(f"{number:05d}.arrayrecord", records, 0, ""))
        writer = ArrayRecordWriter(str(folder / listed[-1].file), "group_size:1,uncompressed")
        for k in range(records):
            writer.write(pack(Record(f"{number}/{k}", number, rng.bytes(size), "0" * 64)))
        writer.close()
    return listed


def speed(make: Callable[[], RecordReader], threads: int) -> float:
    """Records a second of a new reader, every record once in random order."""
    reader = make()
    order = np.random.default_rng(1).permutation(len(reader)).tolist()
    parts = [order[i::threads] for i in range(threads)]
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: [reader[k] for k in part] and None, parts))
    return len(order) / (time.perf_counter() - began)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Records a second of every way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write(folder, options.shards, options.records, options.bytes)
        ways = {
            f"{word}_{threads}_threads": (kind, threads)
            for word, kind in (("before", BeforeReader), ("now", RecordReader))
            for threads in (1, 4)
        }
        best = dict.fromkeys(ways, 0.0)
        for _ in range(options.repeats):
            for way, (kind, threads) in ways.items():
                made = speed(lambda kind=kind: kind(folder, shards), threads)
                best[way] = max(best[way], made)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for flag, default in (("shards", 512), ("records", 54), ("bytes", 2000), ("repeats", 3)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    best = measure(options)
    if options.json:
        print(json.dumps(vars(options) | {"records_per_second": best}))
        return
    print(f"{options.shards} shards of {options.records} records of {options.bytes} bytes")
    for way, rate in best.items():
        print(f"  {way.replace('_', ' '):18} {rate:10,.0f} records/s")


if __name__ == "__main__":
    main()
