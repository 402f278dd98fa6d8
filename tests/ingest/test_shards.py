import hashlib
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest
from PIL import Image

from omnivore_jax.data.depth import Intrinsics
from omnivore_jax.data.manifest import Shard
from omnivore_jax.data.records import Record, RecordReader
from omnivore_jax.ingest.layouts.base import DepthMap, FileBytes, Item, TarMember
from omnivore_jax.ingest.shards import ShardReport, digest_of, read_report, write_shard
from tests.media import depth_map, jpeg, part, png

CASES = Path(__file__).parent.parent / "data" / "cases"
KINECT = Intrinsics(570.3, 0.095, 0.001)


@pytest.fixture
def pack(tmp_path):
    """Packs files into an archive, and gives its members."""

    def pack(**files):
        path = tmp_path / "download.tar"
        with tarfile.open(path, "w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        with tarfile.open(path) as tar:
            return [TarMember(path, entry.offset_data, entry.size) for entry in tar]

    return pack


def write(folder, items, kind):
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        return write_shard(folder, "train-00000", items, kind, pool, lambda: None)


def test_a_sample_in_a_tar_becomes_the_record_of_its_bytes(tmp_path, pack):
    picture, depth = jpeg(part(1)), png(depth_map(80, 96))
    first, second = pack(rgb=picture, depth=depth)
    report = write(tmp_path / "out", [Item("a/1", 3, first, DepthMap(second, KINECT))], "rgbd")
    assert report.labels == {3: 1} and report.bad == [] and report.shard is not None
    digest = hashlib.sha256(picture + depth).hexdigest()
    record = RecordReader(tmp_path / "out", [report.shard])[0]
    assert record == Record("a/1", 3, picture, digest, depth, 570.3, 0.095, 0.001, False)


def test_where_the_bytes_lie_leaves_no_trace_in_a_shard(tmp_path, pack):
    pictures = [jpeg(part(k)) for k in range(3)]
    for k, data in enumerate(pictures):
        (tmp_path / f"{k}.jpg").write_bytes(data)
    loose = [FileBytes(tmp_path / f"{k}.jpg") for k in range(3)]
    packed = pack(**{str(k): data for k, data in enumerate(pictures)})
    for folder, media in (("loose", loose), ("packed", packed)):
        write(tmp_path / folder, [Item(f"{k}", 0, m) for k, m in enumerate(media)], "image")
    for file in ("train-00000.arrayrecord", "train-00000.jsonl", "parts/train-00000.json"):
        assert (tmp_path / "loose" / file).read_bytes() == (tmp_path / "packed" / file).read_bytes()


def test_a_member_of_a_tar_that_was_still_copied_is_taken_in_on_the_next_run(tmp_path, pack):
    first, second = pack(a=jpeg(part(1)), b=jpeg(part(2)))
    items = [Item("0", 0, first), Item("1", 0, second)]
    path, whole = first.path, first.path.read_bytes()
    path.write_bytes(whole[: second.offset + 9])
    (row,) = write(tmp_path / "out", items, "image").bad
    assert (row["id"], row["bytes"]) == ("1", 9) and "cut short" in row["reason"]
    path.write_bytes(whole)
    report = write(tmp_path / "out", items, "image")
    assert report.labels == {0: 2} and report.bad == []


@pytest.mark.parametrize(
    ("kind", "files", "depth", "digest"),
    [
        ("rgbd", ["office/0.jpg", "office/1.jpg", "office/2.jpg"], True, "1fa59c83"),
        (
            "image",
            ["cat/0.jpg", "cat/1.jpg", "cat/10.jpg", "cat/2.jpg", "cat/3.jpg"],
            False,
            "6872dfd9",
        ),
    ],
)
def test_a_run_that_an_earlier_version_began_goes_on(tmp_path, kind, files, depth, digest):
    """The digests are those that versions before layouts wrote into parts/."""
    media = FileBytes(tmp_path / "any")
    map_ = DepthMap(media, KINECT) if depth else None
    assert digest_of(kind, [Item(id, 0, media, map_) for id in files])[:8] == digest


def test_a_report_of_an_earlier_version_is_read(tmp_path):
    shard = {"file": "train-00000.arrayrecord", "count": 3, "bytes": 131072, "sha256": "03a4"}
    bad = [{"id": "a/1.jpg", "reason": "empty", "bytes": 0}]
    content = {"plan": "1fa5", "shard": shard, "labels": {"0": 2, "7": 1}, "bad": bad}
    path = tmp_path / "parts" / "train-00000.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    assert read_report(tmp_path, "train-00000") == ShardReport(
        "1fa5", Shard(**shard), {0: 2, 7: 1}, bad
    )
    path.write_text(path.read_text()[:-9])
    assert read_report(tmp_path, "train-00000") is None


def test_one_odd_file_among_clips_is_named_and_the_others_are_taken_in(tmp_path, pack):
    still = io.BytesIO()
    Image.fromarray(part(1)).save(still, "WEBP")
    cases = ["title_not_utf8.avi", "ts_joined_raw_same.ts", "size_changes_midway.webm"]
    files = {name: (CASES / name).read_bytes() for name in cases} | {"abc.webp": still.getvalue()}
    items = [Item(id, 0, media) for id, media in zip(files, pack(**files), strict=True)]
    report = write(tmp_path / "out", items, "video")
    assert report.labels == {0: 2}
    reasons = {row["id"]: row["reason"] for row in report.bad}
    assert set(reasons) == {"ts_joined_raw_same.ts", "abc.webp"}
    assert "still picture" in reasons["abc.webp"] and "joined" in reasons["ts_joined_raw_same.ts"]


@pytest.mark.parametrize("kind", ["image", "rgbd"])
def test_whatever_a_library_raises_of_a_picture_is_a_row(tmp_path, pack, monkeypatch, kind):
    def fail(*_):
        raise UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "bad tag")

    media, depth = pack(a=jpeg(part(1)), b=png(depth_map(80, 96)))
    monkeypatch.setattr(cv2, "imdecode", fail)
    item = Item("0", 0, media, DepthMap(depth, KINECT) if kind == "rgbd" else None)
    (row,) = write(tmp_path / "out", [item], kind).bad
    assert row["id"] == "0" and "bad tag" in row["reason"]
