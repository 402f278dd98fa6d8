"""The mission's own command on prepared miniatures.

Pictures twice, clips and RGB-D, at 224 pixels and 32 frames.
"""

import contextlib
import io
import json
import shutil

import pytest

from omnivore_jax.data import manifest
from omnivore_jax.data.records import RecordReader
from omnivore_jax.prepare import Options, prepare
from tests.media import clip, depth_map, jpeg, part, png
from tests.whole_runs import complete, rows, start, training_rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("own_data")]
CONFIG = "configs/swin_l.py"
BATCHES = {"imagenet21k": 4, "imagenet": 4, "kinetics400": 2, "sunrgbd": 8}
OURS = {
    "model.name": "tiny",
    **{f"data.{name}.batch_size": size for name, size in BATCHES.items()},
    # an epoch: 1 of 40 x .1 pictures, 2 of 8 pictures, 1 of 2 clips, 5 of 4 x 10 RGB-D pictures
    "train.steps": 9,
}


def lay(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def split(name, k, held_out=1):
    """The first files of a class are held out."""
    return f"{'val' if k < held_out else 'train'}/{name}"


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    """Four datasets under one root, prepared from class folders."""
    source, root = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("data")
    many = {f"n{c:08}/{k}.jpg": jpeg(part(k + c)) for c in range(4) for k in range(10)}
    pictures = {
        f"{split(c, k)}/{k}.{suffix}": encode(part(k))
        for c, suffix, encode in PICTURES
        for k in range(5)
    }
    clips = {
        f"{split(c, k)}/{k}.mp4": clip(n=40 + 10 * k) for c in ("dance", "juggle") for k in range(2)
    }
    depths = {
        f"{split(c, k)}/{k}.jpg": jpeg(part(k)) for c in ("kitchen", "office") for k in range(3)
    }
    depths |= {name.replace(".jpg", ".depth.png"): png(depth_map(80, 96)) for name in depths}
    for name, files in {
        "imagenet21k": many,
        "imagenet": pictures,
        "kinetics400": clips,
        "sunrgbd": depths,
    }.items():
        options = Options(str(lay(source / name, files)), str(root / name), threads=2, fx=529.5)
        with contextlib.redirect_stdout(io.StringIO()):
            prepare("folder", options)
    return root


PICTURES = (("cat", "jpg", jpeg), ("dog", "png", png))


def damaged(miniatures, tmp_path, name):
    """A copy of the datasets in which one training record of one dataset has a flipped byte."""
    root = shutil.copytree(miniatures, tmp_path / "data")
    shard = manifest.read(root / name).splits["train"][0]
    path = root / name / shard.file
    content = bytearray(path.read_bytes())
    media = RecordReader(root / name, [shard])[0].media
    content[content.index(media) + len(media) // 2] ^= 1
    path.write_bytes(content)
    return root


@pytest.fixture(scope="module")
def whole(miniatures, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "swin_l"
    out, _ = complete(CONFIG, workdir, OURS | {"data.root": miniatures}, "--json")
    return workdir, json.loads(out)


def test_the_missions_command_trains_evaluates_and_reports(whole, miniatures):
    workdir, figures = whole
    trained = training_rows(workdir)
    assert [row["step"] for row in trained] == list(range(1, 10))
    counts = {
        name: [row["train"][name]["n"] for row in trained if name in row["train"]]
        for name in BATCHES
    }
    assert counts == {
        "imagenet21k": [4],
        "imagenet": [4, 4],
        "kinetics400": [2],
        "sunrgbd": [8] * 5,
    }
    held_out = {name: manifest.read(miniatures / name).count("val") for name in BATCHES}
    assert held_out == {"imagenet21k": 0, "imagenet": 2, "kinetics400": 2, "sunrgbd": 2}
    assert {result["name"]: result["n"] for result in figures["datasets"]} == {
        n: c for n, c in held_out.items() if c
    }
    evaluated = [row["eval"] for row in rows(workdir) if "eval" in row]
    assert [{name: result["n"] for name, result in row.items()} for row in evaluated] == [
        {n: c for n, c in held_out.items() if c}
    ]
    assert (workdir / "samples.html").read_text().count("<img") == 8 * (len(BATCHES) + 1)
    page = (workdir / "report.html").read_text()
    assert (
        all(name in page for name in (*BATCHES, "kitchen", "dance"))
        and not (workdir / "bad_records.jsonl").exists()
    )


def test_worker_processes_change_nothing(whole, miniatures, tmp_path):
    complete(
        CONFIG,
        tmp_path / "run",
        OURS | {"data.root": miniatures, "data.workers": 2, "data.threads": 1},
    )
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (
        whole[0] / "metrics.jsonl"
    ).read_bytes()


def test_a_damaged_record_is_named_and_replaced_where_the_budget_allows(miniatures, tmp_path):
    root, workdir = damaged(miniatures, tmp_path, "sunrgbd"), tmp_path / "run"
    complete(CONFIG, workdir, OURS | {"data.root": root, "data.bad_budget": 0.5})
    (row,) = [json.loads(line) for line in (workdir / "bad_records.jsonl").read_text().splitlines()]
    assert (row["dataset"], row["id"]) == ("sunrgbd", "train-00000.arrayrecord[0]") and row[
        "reason"
    ]
    counts = [
        row["train"]["sunrgbd"]["n"] for row in training_rows(workdir) if "sunrgbd" in row["train"]
    ]
    assert counts == [8] * 5
    assert "train-00000.arrayrecord[0]" in (workdir / "report.html").read_text()


def test_a_damaged_record_beyond_the_budget_stops_the_run_with_one_line(miniatures, tmp_path):
    root, workdir = damaged(miniatures, tmp_path, "sunrgbd"), tmp_path / "run"
    code, out, err = start(CONFIG, workdir, OURS | {"data.root": root}).finish()
    assert (code, out) == (2, "") and "Traceback" not in err
    expected = (
        "1 of 4 records of data.sunrgbd cannot be read, more than data.bad_budget=0.001 allows"
    )
    assert (
        expected in err.splitlines()[-1] and f"{workdir}/bad_records.jsonl" in err.splitlines()[-1]
    )
