import json
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from omnivore_jax import prepare as command
from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.records import RecordReader
from omnivore_jax.ingest import shards
from omnivore_jax.prepare import Options, verify
from tests.media import clip, depth_map, jpeg, part, png


def lay(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def pictures(tmp_path):
    files = {f"cat/{k}.jpg": jpeg(part(k)) for k in range(12)} | {
        f"dog/{k}.png": png(part(k)) for k in range(6)
    }
    return lay(tmp_path / "src", files)


def prepare(source, out, **options):
    command.prepare("folder", Options(str(source), str(out), rows=5, threads=2, **options))


def files_of(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_files_are_stored_as_they_are_with_their_labels(pictures, tmp_path, capsys):
    out = tmp_path / "data" / "pets"
    prepare(pictures, out, val=0.25, json=True)
    summary = json.loads(capsys.readouterr().out)
    assert (
        summary["splits"] == {"train": 13, "val": 5}
        and summary["shards_missing"] == summary["bad_files"] == 0
    )
    content = manifest.read(out)
    assert (content.kind, content.classes, content.count("train"), content.count("val")) == (
        "image",
        ("cat", "dog"),
        13,
        5,
    )
    assert [shard.count for shard in content.splits["train"]] == [5, 5, 3]
    rows = []
    for split, parts in content.splits.items():
        reader = RecordReader(out, parts)
        records = [reader[k] for k in range(len(reader))]
        assert all(r.media == (pictures / r.id).read_bytes() for r in records)
        assert all(content.classes[r.label] == r.id.split("/")[0] for r in records)
        lines = [
            line
            for shard in parts
            for line in (out / shard.file).with_suffix(".jsonl").read_text().splitlines()
        ]
        of_split = [json.loads(line) for line in lines]
        assert [(row["id"], row["label"], row["sha256"]) for row in of_split] == [
            (r.id, r.label, r.sha256) for r in records
        ]
        assert split in ("train", "val")
        rows += of_split
    assert len({row["id"] for row in rows}) == 18 and (out / "bad_files.jsonl").read_text() == ""


def test_files_that_cannot_be_read_are_counted_named_and_left_out(pictures, tmp_path, capsys):
    whole = jpeg(part(1))
    bad = {
        "cut.jpg": whole[:-30],
        "empty.jpg": b"",
        "notes.jpg": b"to do\n" * 50,
        "flipped.png": bytearray(png(part(2))),
    }
    bad["flipped.png"][5000] ^= 8
    lay(pictures, {f"dog/{name}": bytes(data) for name, data in bad.items()})
    prepare(pictures, tmp_path / "out")
    said = capsys.readouterr().out
    rows = [
        json.loads(line) for line in (tmp_path / "out" / "bad_files.jsonl").read_text().splitlines()
    ]
    assert {row["id"] for row in rows} == {f"dog/{name}" for name in bad} and all(
        row["reason"] for row in rows
    )
    assert manifest.read(tmp_path / "out").count("train") == 18 and "4 files cannot be read" in said
    assert any("cat" in line and "12" in line for line in said.splitlines())


def test_a_file_that_was_mended_is_taken_in_on_the_next_run(pictures, tmp_path):
    lay(pictures, {"cat/late.jpg": b"still copying"})
    prepare(pictures, tmp_path / "out")
    before = manifest.read(tmp_path / "out")
    lay(pictures, {"cat/late.jpg": jpeg(part(3))})
    prepare(pictures, tmp_path / "out")
    after = manifest.read(tmp_path / "out")
    assert (before.count("train"), after.count("train")) == (18, 19)
    assert (
        sum(a != b for a, b in zip(before.splits["train"], after.splits["train"], strict=True)) == 1
    )


def test_a_stopped_run_goes_on_and_ends_with_the_same_files(pictures, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    prepare(pictures, whole, val=0.2)
    read, seen = shards.read_item, []

    def stop_at_the_ninth(item, kind):
        seen.append(item.id)
        if len(seen) == 9:
            raise KeyboardInterrupt
        return read(item, kind)

    monkeypatch.setattr(shards, "read_item", stop_at_the_ninth)
    with pytest.raises(KeyboardInterrupt):
        prepare(pictures, stopped, val=0.2)
    assert (stopped / "train-00000.arrayrecord").exists() and not (
        stopped / "manifest.json"
    ).exists()
    prepare(pictures, stopped, val=0.2)
    assert len(seen) < 9 + 18  # the first shard was kept
    assert files_of(stopped) == files_of(whole)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_files(tmp_path):
    files = {f"{c}/{k}.png": png(part(k % 20)) for c in ("cat", "dog") for k in range(300)}
    source, whole, killed = lay(tmp_path / "src", files), tmp_path / "whole", tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "omnivore_jax.prepare",
        "folder",
        f"--src={source}",
        "--rows=20",
        "--threads=1",
    ]
    subprocess.run([*command, f"--out={whole}"], check=True, capture_output=True)
    kills = 0
    for shards_done in range(1, 30, 4):
        run = subprocess.Popen(
            [*command, f"--out={killed}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while run.poll() is None and len(list(killed.glob("parts/*.json"))) < shards_done:
            time.sleep(0.001)
        kills += run.poll() is None
        run.kill()
        run.wait()
    assert kills > 3 and not (killed / "manifest.json").exists()
    subprocess.run([*command, f"--out={killed}"], check=True, capture_output=True)
    assert files_of(killed) == files_of(whole)


def test_machines_share_the_shards_and_the_last_one_writes_the_manifest(pictures, tmp_path):
    prepare(pictures, tmp_path / "one")
    for i in (2, 0, 1):
        assert not (tmp_path / "three" / "manifest.json").exists()
        prepare(pictures, tmp_path / "three", shard=f"{i}/3")
    assert files_of(tmp_path / "three") == files_of(tmp_path / "one")


def test_a_shard_that_was_lost_is_made_again(pictures, tmp_path):
    out = tmp_path / "out"
    prepare(pictures, out)
    before = files_of(out)
    (out / "train-00001.arrayrecord").unlink()
    (out / "train-00002.arrayrecord").write_bytes(b"cut")
    with pytest.raises(UserError, match="train-00001.arrayrecord is missing"):
        verify(Options("", str(out)))
    prepare(pictures, out)
    assert files_of(out) == before


def test_verify_finds_a_flipped_bit(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    prepare(pictures, out)
    verify(Options("", str(out), json=True))
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "ok": True,
        "splits": {"train": 18},
        "official": [],
        "faults": [],
    }
    path = out / "train-00002.arrayrecord"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="train-00002.arrayrecord is damaged"):
        verify(Options("", str(out)))


def test_clips_and_pictures_with_depth_are_prepared_alike(tmp_path):
    clips = {f"train/{c}/{k}.mp4": clip(n=10 + k) for c in ("run", "jump") for k in range(2)}
    lay(
        tmp_path / "clips",
        clips
        | {"val/run/9.webm": clip("vp9 without a frame count"), "val/run/bad.mp4": clip()[:9000]},
    )
    prepare(tmp_path / "clips", tmp_path / "video")
    content = manifest.read(tmp_path / "video")
    assert (content.kind, content.classes) == ("video", ("jump", "run")) and (
        content.count("train"),
        content.count("val"),
    ) == (
        4,
        1,
    )
    assert (
        json.loads((tmp_path / "video" / "bad_files.jsonl").read_text())["id"] == "val/run/bad.mp4"
    )

    pairs = {f"office/{k}.jpg": jpeg(part(k)) for k in range(3)}
    pairs |= {f"office/{k}.depth.png": png(depth_map(80, 96)) for k in range(3)}
    lay(tmp_path / "pairs", pairs | {"office/depth.json": b'{"fx": 570.3, "baseline": 0.095}'})
    prepare(tmp_path / "pairs", tmp_path / "rgbd", fx=500.0)
    record = RecordReader(tmp_path / "rgbd", manifest.read(tmp_path / "rgbd").splits["train"])[1]
    assert record.depth == pairs["office/1.depth.png"] and record[5:9] == (
        570.3,
        0.095,
        0.001,
        False,
    )


def test_a_file_that_is_in_both_splits_is_reported(tmp_path, capsys):
    files = {f"train/cat/{k}.jpg": jpeg(part(k)) for k in range(4)} | {
        "val/cat/new.jpg": jpeg(part(5))
    }
    prepare(
        lay(tmp_path / "src", files | {"val/cat/same.jpg": files["train/cat/3.jpg"]}),
        tmp_path / "out",
    )
    assert (
        "1 training files are held out too, the first is train/cat/3.jpg = val/cat/same.jpg"
        in capsys.readouterr().out
    )
    assert manifest.read(tmp_path / "out").origin["copies"] == 1


def test_another_dataset_in_the_same_folder_is_not_touched_unless_asked(pictures, tmp_path):
    out = tmp_path / "out"
    prepare(pictures, out)
    before = files_of(out)
    for k in range(6):
        (pictures / "dog" / f"{k}.png").rename(pictures / "dog" / f"new{k}.png")
    (pictures / "cat" / "11.jpg").unlink()
    (pictures / "cat" / "10.jpg").unlink()
    (pictures / "cat" / "9.jpg").unlink()
    with pytest.raises(UserError, match="was begun for 18 train .* has 15 train .*--overwrite"):
        prepare(pictures, out)
    assert files_of(out) == before
    prepare(pictures, out, overwrite=True)
    prepare(pictures, tmp_path / "fresh")
    assert files_of(out) == files_of(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"src": ""}, "--src is missing"),
        ({"out": ""}, "--out is missing"),
        ({"src": "{tmp}/nowhere"}, "nowhere is not a folder"),
        ({"out": "{tmp}/src/inside"}, "lies inside --src"),
        ({"out": "{tmp}/src/cat/0.jpg/x"}, "inside"),
        ({"out": "{tmp}/file/x"}, "cannot be made"),
        ({"shard": "2/2"}, "--shard=2/2; use i/n"),
        ({"shard": "half"}, "--shard=half; use i/n"),
        ({"kind": "video"}, "no files of kind 'video'"),
        ({"kind": "rgbd"}, "18 pictures have no depth map"),
    ],
)
def test_wrong_uses_are_explained_in_one_line(pictures, tmp_path, options, says):
    (tmp_path / "file").write_text("x")
    asked = {"src": str(pictures), "out": str(tmp_path / "out")} | options
    with pytest.raises(UserError, match=says) as error:
        command.prepare("folder", Options(**{k: v.format(tmp=tmp_path) for k, v in asked.items()}))
    assert "\n" not in str(error.value)


def test_a_folder_without_one_readable_file_is_an_error(tmp_path):
    lay(tmp_path / "src", {"a/1.jpg": b"x", "b/1.jpg": b""})
    with pytest.raises(UserError, match="none of the 2 files can be read, the first is a/1.jpg"):
        prepare(tmp_path / "src", tmp_path / "out")


def test_depth_maps_of_unknown_focal_length_are_an_error_that_says_what_to_give(tmp_path):
    lay(tmp_path / "src", {"a/1.jpg": jpeg(part(1)), "a/1.depth.png": png(depth_map(80, 96))})
    with pytest.raises(UserError, match="focal length of .*a/1.jpg is not known; give --fx"):
        prepare(tmp_path / "src", tmp_path / "out")


def test_a_full_disk_is_one_line_and_what_is_done_is_kept(pictures, tmp_path):
    out = tmp_path / "out"
    prepare(pictures, out, shard="0/4")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # no shard of five pictures fits
    try:
        with pytest.raises(UserError, match="cannot be written .*what is done is kept") as error:
            prepare(pictures, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value) and (out / "train-00000.arrayrecord").exists()
    assert not (out / "train-00001.arrayrecord").exists()
    prepare(pictures, out)
    assert manifest.read(out).count("train") == 18


def test_the_command_exits_as_commands_do(pictures, tmp_path):
    def call(*flags):
        command = [sys.executable, "-m", "omnivore_jax.prepare", *flags]
        return subprocess.run(command, capture_output=True, text=True)

    asked = [
        ("--help",),
        ("folder", f"--src={pictures}", f"--out={tmp_path}/out", "--json"),
        ("folder", f"--src={pictures}", f"--out={tmp_path}/out2", "--val=2"),
        ("imagnet", "--src=x", "--out=y"),
    ]
    with ThreadPoolExecutor(2) as pool:
        helped, whole, beyond, unknown = pool.map(lambda flags: call(*flags), asked)
    assert (
        helped.returncode == 0
        and "--src" in helped.stdout
        and "prepare folder --src=DIR" in helped.stdout
    )
    assert (
        whole.returncode == 0
        and json.loads(whole.stdout)["splits"] == {"train": 18}
        and "18 of 18 files" in whole.stderr
    )
    assert beyond.returncode == 2 and "val" in beyond.stderr and beyond.stderr.count("\n") == 1
    assert (
        unknown.returncode == 2
        and unknown.stderr.count("\n") == 1
        and "cannot prepare imagnet; use one of folder, manifest, imagenet, " in unknown.stderr
    )


def test_the_summary_says_what_a_published_dataset_lacks(tmp_path, capsys):
    lay(tmp_path / "src", {"train/n00000004/n00000004_1.JPEG": jpeg(part(1))})
    command.prepare("imagenet", Options(str(tmp_path / "src"), str(tmp_path / "out")))
    assert "train has 1 of the official 1,281,167" in capsys.readouterr().out.splitlines()
