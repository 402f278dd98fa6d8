import hashlib
import json
from dataclasses import asdict

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.records import Record, pack
from omnivore_jax.ingest.layouts.base import LayoutOptions
from omnivore_jax.ingest.verify import check_shards
from omnivore_jax.prepare import Options, verify
from tests.ingest.layouts.downloads import lay, picture, prepare
from tests.media import clip, depth_map, part, png


@pytest.fixture
def whole(tmp_path):
    """A prepared dataset of two training shards and a validation shard."""
    files = {f"train/{c}/{k}.jpg": picture(4 * n + k) for n, c in enumerate("ab") for k in range(4)}
    lay(tmp_path / "src", files | {"val/a/9.jpg": picture(9)})
    prepare("folder", tmp_path / "src", tmp_path / "out")
    return tmp_path / "out"


def faults(out, capsys, **options):
    """What verify says of a dataset; the last line counts."""
    with pytest.raises(UserError) as error:
        verify(Options(out=str(out), threads=2, json=True, **options))
    *lines, count = error.value.args
    assert count == f"{out} has {len(lines)} faults; see the lines above"
    assert not any("\n" in line for line in lines)
    report = json.loads(capsys.readouterr().out)
    assert report["faults"] == lines and report["ok"] is False
    return lines


def rewrite(out, name, change):
    """Writes the records of a shard anew, and the manifest with them."""
    from array_record.python.array_record_module import ArrayRecordWriter

    from omnivore_jax.core import files
    from omnivore_jax.data.records import RecordReader

    content = manifest.read(out)
    split, number = name.split("-")[0], int(name.split("-")[1])
    shards = list(content.splits[split])
    reader = RecordReader(out, [shards[number]])
    records = [change(reader[k]) for k in range(len(reader))]
    path = out / f"{name}.arrayrecord"
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(pack(record))
    writer.close()
    shards[number] = manifest.Shard(
        path.name, len(records), path.stat().st_size, files.sha256(path)
    )
    whole = json.loads((out / "manifest.json").read_text())
    whole["splits"][split] = list(map(asdict, shards))
    (out / "manifest.json").write_text(json.dumps(whole))


def test_a_whole_dataset_has_none(whole, capsys):
    verify(Options(out=str(whole), threads=2, deep=True))
    assert capsys.readouterr().out == (
        f"{whole} holds {{'train': 8, 'val': 1}}\n{whole} is whole\n"
    )


def test_every_damaged_shard_is_a_line(whole, capsys):
    (whole / "train-00000.arrayrecord").unlink()
    (whole / "val-00000.arrayrecord").write_bytes(b"cut")
    lines = faults(whole, capsys, deep=True)
    assert [line.split(" ")[0] for line in lines] == [
        f"{whole}/train-00000.arrayrecord",
        f"{whole}/val-00000.arrayrecord",
    ]
    with pytest.raises(UserError) as error:
        check_shards(whole)
    assert list(error.value.args) == lines


def test_a_label_that_is_no_class_and_rows_that_are_lost_are_lines(whole, capsys):
    path = whole / "train-00001.jsonl"
    rows = list(map(json.loads, path.read_text().splitlines()))
    rows[2]["label"] = 7
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    (whole / "val-00000.jsonl").unlink()
    (whole / "train-00000.jsonl").write_text("{")
    broken, seventh, short, missing = faults(whole, capsys)
    assert "train/b/2.jpg has label 7, the manifest has 2 classes" in seventh
    assert "train-00001.jsonl has 3 rows, its shard 4 records" in short
    assert "train-00000.jsonl: row 1 cannot be read" in broken
    assert "val-00000.jsonl is missing; delete" in missing


def test_a_copy_across_splits_is_a_line(tmp_path, capsys):
    files = {f"train/a/{k}.jpg": picture(k) for k in range(3)} | {"val/a/x.jpg": picture(2)}
    prepare("folder", lay(tmp_path / "src", files), tmp_path / "out")
    [line] = faults(tmp_path / "out", capsys)
    assert "train/a/2.jpg in train is val/a/x.jpg in another split" in line


def test_a_record_that_cannot_be_decoded_is_a_line_only_when_asked(whole, capsys):
    def spoil(record: Record) -> Record:
        if record.id.endswith("1.jpg"):
            return record._replace(label=9)
        return record._replace(media=record.media[:-40]) if "3" in record.id else record

    rewrite(whole, "train-00000", spoil)
    verify(Options(out=str(whole)))
    capsys.readouterr()
    first, second = faults(whole, capsys, deep=True)
    assert "train/a/1.jpg in train: label 9 is none of 2 classes" in first
    assert "train/a/3.jpg in train: its bytes are not those of its sha256" in second


def test_damage_between_the_first_and_the_last_frame_of_a_clip_is_a_line(tmp_path, capsys):
    data = bytearray(clip())
    data[len(data) // 2 : len(data) // 2 + 200] = b"\xff" * 200
    prepare("folder", lay(tmp_path / "src", {"a/1.mp4": bytes(data)}), tmp_path / "out")
    verify(Options(out=str(tmp_path / "out")))
    capsys.readouterr()
    [line] = faults(tmp_path / "out", capsys, deep=True)
    assert "a/1.mp4 in train: frame 36 is damaged" in line


def test_all_frames_of_clips_and_both_files_of_depth_are_decoded(tmp_path, capsys):
    prepare("folder", lay(tmp_path / "src", {"a/1.mp4": clip(n=12)}), tmp_path / "video")
    verify(Options(out=str(tmp_path / "video"), deep=True))
    pair = {"a/1.png": png(part(1)), "a/1.depth.png": png(depth_map(80, 96))}
    lay(tmp_path / "rooms", pair | {"a/depth.json": '{"fx": 500}'})
    prepare("folder", tmp_path / "rooms", tmp_path / "rgbd")
    verify(Options(out=str(tmp_path / "rgbd"), deep=True))
    assert capsys.readouterr().out.count("is whole") == 2


def test_a_planted_depth_map_of_another_shape_and_a_planted_label_are_lines(tmp_path, capsys):
    files = {f"train/{c}/{k}.jpg": picture(k) for c in "ab" for k in range(2)}
    height, width = part(0, side=24).shape[:2]
    maps = {name.replace(".jpg", ".depth.png"): png(depth_map(height, width)) for name in files}
    fx = LayoutOptions().intrinsics._replace(fx=500.0)
    prepare("folder", lay(tmp_path / "src", files | maps), tmp_path / "out", intrinsics=fx)

    def plant(record):
        if record.id == "train/a/1.jpg":
            depth = png(depth_map(height, width // 2))
            digest = hashlib.sha256(record.media + depth).hexdigest()
            return record._replace(depth=depth, sha256=digest)
        return record._replace(label=2) if record.id == "train/b/0.jpg" else record

    rewrite(tmp_path / "out", "train-00000", plant)
    shape, label = faults(tmp_path / "out", capsys, deep=True)
    assert f"train/a/1.jpg in train: the depth map has {width // 2} x {height} pixels" in shape
    assert "train/b/0.jpg in train: label 2 is none of 2 classes" in label


def test_pictures_and_depth_maps_that_were_swapped_are_named(tmp_path, capsys):
    """In a prepared dataset, and in the columns of a table of one's own."""
    files = {f"{c}/{k}.jpg": picture(k) for c in "ab" for k in range(2)}
    height, width = part(0, side=24).shape[:2]
    maps = {name.replace(".jpg", ".png"): png(depth_map(height, width)) for name in files}
    rows = [f"{name},{name.replace('.jpg', '.png')},{name[0]}" for name in files]
    fx = LayoutOptions().intrinsics._replace(fx=500.0)
    table = "path,depth,label\n" + "\n".join(rows)
    whole = lay(tmp_path / "src", files | maps | {"manifest.csv": table})
    prepare("manifest", whole, tmp_path / "out", intrinsics=fx)

    def swap(record):
        digest = hashlib.sha256(record.depth + record.media).hexdigest()
        return record._replace(media=record.depth, depth=record.media, sha256=digest)

    rewrite(tmp_path / "out", "train-00000", swap)
    found = faults(tmp_path / "out", capsys, deep=True)
    assert len(found) == 4 and all("one channel of 16 bits" in x for x in found)
    swapped = table.replace("path,depth", "depth,path")
    lay(tmp_path / "src", {"manifest.csv": swapped})
    with pytest.raises(UserError, match="none of the 4 files can be read.*one channel of 16 bits"):
        prepare("manifest", whole, tmp_path / "again", intrinsics=fx)


def test_what_is_missing_of_a_published_dataset_is_said_and_is_no_fault(tmp_path, capsys):
    files = {"train/n00000004/n00000004_1.JPEG": picture(1)}
    prepare("imagenet", lay(tmp_path / "src", files), tmp_path / "out")
    verify(Options(out=str(tmp_path / "out"), json=True))
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "splits": {"train": 1},
        "official": [
            "imagenet has 1 of the official 1,000 classes",
            "train has 1 of the official 1,281,167",
            "val has 0 of the official 50,000",
        ],
        "faults": [],
    }
