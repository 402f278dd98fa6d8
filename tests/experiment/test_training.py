"""Whole runs of the demo.

What is compiled, both kinds of batches, several devices, a loss that is not finite.
"""

import json
import shutil
from pathlib import Path

import pytest

from omnivore_jax.weights.opening import open_run
from tests.whole_runs import DEMO, complete, last_step, rows, start, state_of, training_rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("training")]
CONFIG = "configs/demo.py"
COUNTED = str(Path(__file__).parent / "counted_main.py")
DATASETS = ("demo_image", "demo_rgbd", "demo_video")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder runs/ with a joint run in runs/demo, evaluated twice on its way."""
    folder = tmp_path_factory.mktemp("runs")
    complete(CONFIG, folder / "demo", DEMO | {"eval.every": 18}, program=(COUNTED,))
    return folder


def test_a_step_is_compiled_once_for_every_dataset_and_nothing_is_transferred_unasked(runs):
    counts = json.loads((runs / "demo" / "counts.json").read_text())
    trained = training_rows(runs / "demo")
    assert {name for row in trained for name in row["train"]} == set(DATASETS)
    assert counts["compiled"]["jit(step)"] == len(DATASETS)
    modes = len(DATASETS) + 2  # every dataset as it is, depth alone, colour alone
    # Of evaluation, in training and for the report alike.
    assert counts["compiled"]["jit(_run_judge)"] == modes
    assert counts["guarded"] == {"closed": len(trained)}


def test_evaluations_fall_where_the_config_says_and_at_the_end(runs):
    assert [row["step"] for row in rows(runs / "demo") if "eval" in row] == [18, 36]
    assert all(set(row["eval"]) == set(DATASETS) for row in rows(runs / "demo") if "eval" in row)


def test_mixed_batches_train_the_demo_and_each_page_compares_the_two(runs):
    out, _ = complete(
        "configs/demo.py:mixed",
        runs / "demo-mixed",
        DEMO | {"train.batch_size": 24, "train.steps": 6},
    )
    trained = training_rows(runs / "demo-mixed")
    assert len(trained) == 6 and all(set(row["train"]) == set(DATASETS) for row in trained)
    samples = [sum(task["n"] for task in row["train"].values()) for row in trained]
    assert all(abs(n - 24) < 6 for n in samples) and 0 <= 6 * 24 - sum(samples) < 6
    page = (runs / "demo-mixed" / "report.html").read_text()
    assert "mixed" in page and "separate" in page and "demo-mixed" in out


def test_a_run_of_eight_devices_goes_on_on_one_with_the_same_losses(tmp_path):
    settings = (
        DEMO
        | {f"data.{name}.batch_size": 16 for name in DATASETS}
        | {"mix.group": 2, "train.steps": 12}
    )
    eight = settings | {"mesh.data": 2, "mesh.fsdp": 4, "mesh.tensor": 1}
    moved, alone = tmp_path / "moved", tmp_path / "alone"
    run = start(CONFIG, moved, eight, devices=8)
    assert run.wait_for(lambda: last_step(moved) >= 3)
    run.process.terminate()
    code, _, err = run.finish()
    assert code == 42, err[-3000:]
    stopped = last_step(moved)
    _, err = complete(CONFIG, moved, settings)
    assert f"resuming from step {stopped}" in err and state_of(moved)["step"] == 12
    complete(CONFIG, alone, settings)
    first, second = training_rows(moved), training_rows(alone)
    assert [row["step"] for row in first] == [row["step"] for row in second] == list(range(1, 13))
    for ours, theirs in list(zip(first, second, strict=True))[:stopped]:
        for name, figures in theirs["train"].items():
            assert ours["train"][name]["loss"] == pytest.approx(figures["loss"], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_with_step_dataset_and_samples(tmp_path):
    workdir = tmp_path / "run"
    changes = {
        "data.demo_image.batch_size": 8,
        "optimizer.peak": 1e30,
        "train.steps": 36,
        "checkpoint.every": 1,
    }
    code, out, err = start(
        "configs/demo.py:image", workdir, changes | {"log.tensorboard": False}
    ).finish()
    assert (code, out) == (2, "") and "Traceback" not in err
    said, good = err.splitlines()[-1], last_step(workdir)
    assert (
        f"is not finite at step {good + 1} " in said
        and "samples demo_image: " in said
        and "optimizer.peak" in said
    )
    assert state_of(workdir)["step"] == good


def test_a_run_begins_from_weights_and_goes_on_with_the_configs_settings_when_they_are_gone(
    runs, tmp_path
):
    weights, workdir = shutil.copytree(runs / "demo", tmp_path / "weights"), tmp_path / "run"
    code, _, err = start(CONFIG, workdir, DEMO | {"init_from": tmp_path / "typo"}).finish()
    assert code == 2 and "typo is not there" in err.splitlines()[-1] and not workdir.exists()
    run = start(CONFIG, workdir, DEMO | {"init_from": weights})
    assert run.wait_for(lambda: last_step(workdir) >= 3)
    run.process.terminate()
    code, _, err = run.finish()
    assert (
        code == 42 and f"starting from {weights}" in err and "matched" in err and "fresh" not in err
    )
    shutil.rmtree(weights)
    changed = DEMO | {"init_from": weights, "model.init_std": 0.3}
    _, err = complete(CONFIG, workdir, changed, "--allow_config_change")
    assert "resuming from step" in err and open_run(workdir).config.init_std == 0.3
    first, alone = training_rows(workdir)[0]["train"], training_rows(runs / "demo")[0]["train"]
    assert all(
        figures["loss"] < alone[name]["loss"] for name, figures in first.items()
    )  # it has learned before
