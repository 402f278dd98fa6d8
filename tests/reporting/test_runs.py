import dataclasses
import json

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.reporting.report import DatasetResult, Report, RunInfo, save
from omnivore_jax.reporting.runs import config_lines, read_run, relation, siblings, specialists

DIGITS = tuple("0123456789")
DATASETS = {
    "demo_image": DatasetResult(
        "demo_image", "image", DIGITS, n=1000, top1=0.92, loss=0.3, chance=0.1
    ),
    "demo_rgbd": DatasetResult(
        "demo_rgbd", "rgbd", DIGITS, n=1000, top1=0.94, loss=0.3, chance=0.1, depth_only=0.93
    ),
}


@pytest.fixture
def stored(tmp_path):
    """Stores a run beside others; calling it again stores another one."""

    def store(name, datasets=tuple(DATASETS), batching="separate", top1=None):
        results = [DATASETS[dataset] for dataset in datasets]
        if top1 is not None:
            results = [dataclasses.replace(result, top1=top1) for result in results]
        info = RunInfo(
            name,
            "configs/demo.py",
            seed=3,
            steps=4200,
            batching=batching,
            device="cpu x 1",
            seconds=371.4,
        )
        save(Report(info, tuple(results)), tmp_path / name)
        return tmp_path / name

    return store


def test_a_run_is_read_with_all_that_its_folder_holds(stored):
    folder = stored("demo")
    config = {
        "name": "demo",
        "data": {"root": "", "demo_rgbd": {"ratio": 1.0}, "demo_image": {"ratio": 1.0}},
    }
    text = {
        "config": config,
        "versions": {"jax": "0.10.2"},
        "command": "python -m omnivore_jax.main",
    }
    (folder / "config.json").write_text(json.dumps(text))
    (folder / "metrics.jsonl").write_text('{"step": 7, "learning_rate": 0.001}\n')
    (folder / "bad_records.jsonl").write_text(
        '{"dataset": "demo_image", "id": "a", "reason": "cut off", "step": 1}\n'
    )
    run = read_run(folder)
    assert (run.name, run.command, run.versions, run.history.steps) == (
        "demo",
        text["command"],
        text["versions"],
        7,
    )
    assert run.results["demo_rgbd"].depth_only == 0.93
    assert run.datasets == list(
        DATASETS
    )  # as they were evaluated; config.json is in alphabetical order
    assert [row["id"] for row in run.bad_records] == ["a"]


def test_a_run_that_was_not_evaluated_has_its_curves(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "train": {"demo_video": {"loss": 3.4, "accuracy": 0.0}}}\n'
    )
    run = read_run(tmp_path)
    assert run.report is None and run.results == {} and run.datasets == ["demo_video"]


@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_a_folder_without_a_run_is_refused_by_name(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=f"{folder} holds no run; name a folder that"):
        read_run(tmp_path / folder)


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"config": ')
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        read_run(tmp_path)


def test_siblings_are_the_evaluated_runs_whose_names_go_on(stored, tmp_path):
    demo = stored("demo")
    stored("demo-image", ["demo_image"])
    stored("demo-mixed")
    stored("demonstration")
    (tmp_path / "demo-video").mkdir()  # not evaluated
    assert [path.name for path in siblings(demo)] == ["demo-image", "demo-mixed"]
    assert [path.name for path in siblings(tmp_path / "demo-mixed")] == ["demo"]


def test_each_run_is_told_by_what_it_shows_beside_the_joint_one(stored):
    joint = read_run(stored("demo"))
    alone = read_run(stored("demo-image", ["demo_image"]))
    mixed = read_run(stored("demo-mixed", batching="mixed"))
    seed = read_run(stored("demo-again"))
    assert [relation(joint, other) for other in (alone, mixed, seed)] == [
        "alone",
        "batching",
        "other",
    ]
    assert relation(alone, joint) == "other"


def test_a_joint_run_is_held_against_each_dataset_alone(stored):
    joint = read_run(stored("demo"))
    image = read_run(stored("demo-image", ["demo_image"], top1=0.90))
    pair = specialists(joint, [image, read_run(stored("demo-mixed", batching="mixed"))])
    assert pair is not None
    assert {name: result.top1 for name, result in pair.joint.items()} == {
        "demo_image": 0.92,
        "demo_rgbd": 0.94,
    }
    assert {name: result.top1 for name, result in pair.alone.items()} == {"demo_image": 0.90}
    assert specialists(joint, []) is None


def test_config_lines_are_the_flags_that_set_them():
    nested = {
        "train": {"steps": 4200, "batching": "separate"},
        "data": {"demo_image": {"mean": [0.35, 0.35, 0.35]}},
    }
    assert list(config_lines(nested)) == [
        ("train.steps", "4200"),
        ("train.batching", '"separate"'),
        ("data.demo_image.mean", "[0.35, 0.35, 0.35]"),
    ]
