import json

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.ingest.layouts.base import LayoutOptions
from omnivore_jax.ingest.layouts.kinetics import Kinetics
from omnivore_jax.prepare import Options
from omnivore_jax.prepare import prepare as command
from tests.ingest.downloads import lay, names_in, prepare_clips
from tests.media import clip

HEAD = "label,youtube_id,time_start,time_end,split,is_cc\n"
TRAIN = HEAD + (
    "zumba,-3B32lodo2M,59,69,train,0\n"
    '"air drumming",_dbcJuKJQNs,40,50,train,0\n'
    "zumba,gone_a_b-cd,7,17,train,0\n"
    "air drumming,AbCdEfGhIjK,1100,1110,train,1\n"
    "air drumming,abcdefghijk,0,10,train,1\n"
)
VAL = HEAD + '"air drumming",0zzzzzzzzzz,3,13,val,0\n'
CLIPS = {
    "train/-3B32lodo2M_000059_000069.mp4": clip(n=10),
    "train/_dbcJuKJQNs_000040_000050.mp4": clip(n=11),
    "train/AbCdEfGhIjK_001100_001110.mp4": clip(n=12),
    "train/abcdefghijk_000000_000010.webm": clip("vp9 without a frame count", 13),
    "val/0zzzzzzzzzz_000003_000013.mp4": clip(n=14),
}
SAMPLES = {
    "train": [
        ("-3B32lodo2M_000059_000069", "zumba", list(range(10))),
        ("_dbcJuKJQNs_000040_000050", "air drumming", list(range(11))),
        ("AbCdEfGhIjK_001100_001110", "air drumming", list(range(12))),
        ("abcdefghijk_000000_000010", "air drumming", list(range(13))),
    ],
    "val": [("0zzzzzzzzzz_000003_000013", "air drumming", list(range(14)))],
}
RELEASE = CLIPS | {"train.csv": TRAIN, "val.csv": VAL, "test.csv": "youtube_id,time_start\nx,1\n"}


def listing(source, **options):
    return Kinetics().list(source, LayoutOptions(**options))


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train.csv", "val.csv"),
        ("annotations/train.txt", "annotations/val.txt"),
        ("kinetics600/train.csv", "kinetics600/validate.csv"),
        ("kinetics-400_train.csv", "kinetics-400_val.csv"),
    ],
)
def test_the_release_is_read_wherever_its_lists_lie(tmp_path, train, val):
    source = lay(tmp_path, CLIPS | {train: TRAIN, val: VAL})
    found = listing(source)
    assert found.classes == ("air drumming", "zumba") and found.missing == [
        "gone_a_b-cd_000007_000017"
    ]
    assert found.splits == {split: [id for id, *_ in rows] for split, rows in SAMPLES.items()}


def test_the_release_is_prepared_and_what_has_decayed_is_named(tmp_path):
    out = tmp_path / "out"
    samples = prepare_clips("kinetics400", lay(tmp_path / "src", RELEASE), out)
    assert samples == SAMPLES
    assert names_in(out / "missing_files.jsonl") == ["gone_a_b-cd_000007_000017"]
    assert manifest.read(out).origin["missing_files"] == 1


def test_the_command_names_the_first_that_are_missing(tmp_path, capsys):
    source, out = lay(tmp_path / "src", RELEASE), tmp_path / "out"
    command("kinetics400", Options(str(source), str(out)))
    said = capsys.readouterr().out
    assert f"1 listed files are missing (gone_a_b-cd_000007_000017): {out}/missing_files" in said
    command("kinetics400", Options(str(source), str(out), json=True))
    assert json.loads(capsys.readouterr().out)["missing_files"] == 1
    lay(source, {"train/gone_a_b-cd_000007_000017.mp4": clip(n=15)})
    command("kinetics400", Options(str(source), str(out), overwrite=True))
    assert manifest.read(out).count("train") == 5 and not (out / "missing_files.jsonl").exists()


def test_clips_in_class_folders_are_the_same_samples_and_replacements_come_first(tmp_path):
    moved = {name.replace("train/", "train/some class/"): data for name, data in RELEASE.items()}
    moved["train/some class/_dbcJuKJQNs_000040_000050.mp4"] = b"damaged"
    again = "replacement/replacement_for_corrupted_k400/_dbcJuKJQNs_000040_000050.mp4"
    moved[again] = CLIPS["train/_dbcJuKJQNs_000040_000050.mp4"]
    assert prepare_clips("kinetics600", lay(tmp_path / "src", moved), tmp_path / "out") == SAMPLES


def test_class_folders_need_no_list(tmp_path):
    files = {
        "train/zumba/a_000001_000011.mp4": clip(n=10),
        "train/air drumming/b_000001_000011.mp4": clip(n=11),
        "val/zumba/c_000001_000011.mp4": clip(n=12),
    }
    samples = prepare_clips("kinetics400", lay(tmp_path / "src", files), tmp_path / "out")
    assert samples == {
        "train": [
            ("train/air drumming/b_000001_000011.mp4", "air drumming", list(range(11))),
            ("train/zumba/a_000001_000011.mp4", "zumba", list(range(10))),
        ],
        "val": [("val/zumba/c_000001_000011.mp4", "zumba", list(range(12)))],
    }


@pytest.mark.parametrize("comma", [" ", ","])
def test_lists_of_paths_and_labels_of_another_machine_are_read(tmp_path, comma):
    train = [
        f"/data/k400/train/zumba/-3B32lodo2M_000059_000069.mp4{comma}1",
        f"/data/k400/train/air drumming/_dbcJuKJQNs_000040_000050.mp4{comma}0",
        f"/data/k400/train/air drumming/AbCdEfGhIjK_001100_001110.mp4{comma}0",
        f"/data/k400/train/air drumming/abcdefghijk_000000_000010.mp4{comma}0",
    ]
    val = [f"/data/k400/val/air drumming/0zzzzzzzzzz_000003_000013.mp4{comma}0", ""]
    files = CLIPS | {"train.csv": "\n".join(train), "val.csv": "\n".join(val)}
    assert prepare_clips("kinetics400", lay(tmp_path / "src", files), tmp_path / "out") == SAMPLES


def test_labels_of_lists_that_do_not_name_classes_are_numbers(tmp_path):
    lists = {"train.csv": "train/a.mp4 2\ntrain/b.mp4 0\n", "val.csv": "val/c.mp4 2\n"}
    clips = dict.fromkeys(("train/a.mp4", "train/b.mp4", "val/c.mp4"), b"x")
    found = listing(lay(tmp_path, lists | clips))
    assert found.classes == ("0", "1", "2")
    assert [(i.id, i.label) for i in map(found.item, "abc")] == [("a", 2), ("b", 0), ("c", 2)]


def test_classes_are_those_of_the_lists_however_many_clips_are_gone(tmp_path):
    few = {"train/AbCdEfGhIjK_001100_001110.mp4": b"x", "train.csv": TRAIN, "val.csv": VAL}
    found = listing(lay(tmp_path, few), max_missing=0.9)
    assert found.classes == ("air drumming", "zumba") and len(found.missing) == 5
    with pytest.raises(
        UserError, match=r"lacks 5 of the 6 clips .*first is -3B.*--max_missing=0.84"
    ):
        listing(tmp_path, max_missing=0.5)


def test_a_clip_that_is_listed_twice_is_stored_once_and_counted(tmp_path):
    twice = RELEASE | {"val.csv": VAL + TRAIN.splitlines()[1] + "\n"}
    found = listing(lay(tmp_path, twice))
    assert len(found.splits["train"]) == 4 and len(found.splits["val"]) == 1
    assert found.ignored["names that a list repeats"] == 1


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        ({"k400/x": ""}, {}, "neither train.csv and val.csv nor class folders .*it holds k400"),
        ({"train/part_0.tar.gz": ""}, {}, "neither train.csv .*extract its archives first"),
        ({"train.csv": TRAIN}, {}, "has train.csv and no val.csv beside it; it holds train.csv"),
        (
            {"train.csv": TRAIN, "val.csv": VAL, "t/part_0.tar.gz": "", "t/part_1.tar.gz": ""},
            {},
            r"has none of the 6 clips .*2 archives \(t/part_0.tar.gz\): extract",
        ),
        (
            {"train.csv": TRAIN, "val.csv": VAL, "other.mp4": ""},
            {},
            "has none of the 6 clips .*1 other clips",
        ),
        (
            {"train.csv": HEAD + "zumba,abc,now,2,train,0", "val.csv": VAL},
            {},
            "train.csv cannot be used .*now",
        ),
        (
            {"train.csv": "youtube_id,label\na,b\n", "val.csv": VAL},
            {},
            "train.csv cannot be used .no column 'time_start'",
        ),
        (
            {"train.csv": "a.mp4 0\nno label\n", "val.csv": "b.mp4 0\n"},
            {},
            "train.csv cannot be used .line 2 is no path and label: 'no label'",
        ),
        ({}, {"val": 0.1}, "--val=0.1, but Kinetics has splits of its own"),
        ({}, {"kind": "image"}, "--kind=image, but Kinetics holds clips"),
    ],
)
def test_what_is_wrong_with_a_download_is_said_in_one_line(tmp_path, files, options, says):
    with pytest.raises(UserError, match=says) as error:
        listing(lay(tmp_path, files), **options)
    assert "\n" not in str(error.value)
