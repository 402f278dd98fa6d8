import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from array_record.python import array_record_module
from array_record.python.array_record_module import ArrayRecordWriter

from omnivore_jax.data import records
from omnivore_jax.data.manifest import Shard
from omnivore_jax.data.records import Record, RecordReader, pack, unpack
from omnivore_jax.data.sample import BadRecord


def record(k: int) -> Record:
    return Record(f"class/{k}.jpg", k, bytes([k]) * 1000, "0" * 64)


@pytest.fixture
def reader(tmp_path) -> RecordReader:
    """Records 0 to 11 in shards of 5, 0, 4 and 3."""
    shards, k = [], 0
    for number, count in enumerate((5, 0, 4, 3)):
        shards.append(Shard(f"{number}.arrayrecord", count, 0, ""))
        writer = ArrayRecordWriter(str(tmp_path / shards[-1].file), "group_size:1,uncompressed")
        for _ in range(count):
            writer.write(pack(record(k)))
            k += 1
        writer.close()
    return RecordReader(tmp_path, shards)


def test_a_record_comes_back_as_it_was_with_depth_and_with_any_file_name():
    whole = Record(
        "a/\udcff\u00e9.png", 3, b"picture", "f" * 64, b"depth", 529.5, 0.075, 0.001, True
    )
    assert unpack(pack(whole)) == whole


@pytest.mark.parametrize("data", [b"", b"\xc1", b"hello", b"\x81\xa1x\x01"])
def test_what_is_no_record_is_a_value_error(data):
    with pytest.raises(ValueError):
        unpack(data)


def test_records_are_found_by_index_over_shards_of_any_size(reader):
    assert len(reader) == 12
    assert [reader[k].label for k in (11, 0, 4, 5, 8, 9)] == [11, 0, 4, 5, 8, 9]
    for outside in (-1, 12):
        with pytest.raises(IndexError, match=f"record {outside} of 12"):
            reader[outside]


def test_many_threads_may_read_at_once_and_every_shard_stays_open(reader):
    wanted = [k * 7 % 12 for k in range(500)]
    with ThreadPoolExecutor(8) as pool:
        assert [record.label for record in pool.map(reader.__getitem__, wanted)] == wanted
    assert sorted(reader._readers) == [0, 2, 3]


def test_a_shard_that_takes_long_to_open_keeps_no_other_waiting(reader, monkeypatch):
    opened, gate = array_record_module.ArrayRecordReader, threading.Event()

    def slow_for_the_first(path, options):
        if path.endswith("0.arrayrecord"):
            assert gate.wait(30)
        return opened(path, options)

    monkeypatch.setattr(array_record_module, "ArrayRecordReader", slow_for_the_first)
    with ThreadPoolExecutor(2) as pool:
        waits = pool.submit(reader.__getitem__, 0)
        assert pool.submit(reader.__getitem__, 5).result(30).label == 5
        gate.set()
        assert waits.result(30).label == 0


def test_where_the_limit_of_open_files_is_low_few_shards_stay_open(reader, monkeypatch, caplog):
    records._warn.cache_clear()
    assert reader[0].label == 0
    here = len(os.listdir("/dev/fd"))
    limit = here + records.SPARE_FILES - 1
    monkeypatch.setattr(records.resource, "getrlimit", lambda _: (limit, limit))
    wanted = [k * 7 % 12 for k in range(500)]
    with ThreadPoolExecutor(8) as pool:
        assert [record.label for record in pool.map(reader.__getitem__, wanted)] == wanted
    assert len(reader._readers) == 1
    said = [row for row in caplog.messages if f"may open {limit} files at once" in row]
    assert len(said) == 1


def test_a_reader_in_use_travels_to_another_process(reader):
    assert reader[3] == record(3)
    assert pickle.loads(pickle.dumps(reader))[7] == record(7)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(reader.__getitem__, 9).result() == record(9)


def test_a_damaged_record_is_named_and_its_neighbours_are_read(reader, tmp_path):
    path = tmp_path / "0.arrayrecord"
    data = path.read_bytes()
    at = data.index(bytes([2]) * 1000) + 500
    path.write_bytes(data[:at] + b"\x55" + data[at + 1 :])
    with pytest.raises(BadRecord, match="hash mismatch") as error:
        reader[2]
    assert error.value.id == "0.arrayrecord[2]"
    assert [reader[k].label for k in (0, 1, 3, 4)] == [0, 1, 3, 4]


def test_a_shard_that_is_cut_short_or_gone_gives_bad_records(reader, tmp_path):
    path = tmp_path / "0.arrayrecord"
    path.write_bytes(path.read_bytes()[:3000])
    (tmp_path / "2.arrayrecord").unlink()
    for k in (4, 6):
        with pytest.raises(BadRecord):
            reader[k]
