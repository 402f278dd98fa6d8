"""A grid of runs: all combinations, those that have ended are not run again, the best wins."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.experiment.combinations import Outcome, Point, figures, points, run_points
from omnivore_jax.reporting.grid_page import write_grid

ROOT = Path(__file__).parents[2]


def test_all_combinations_in_order_each_once():
    made = points(["a.b=1,2,2", "c=x"])
    assert [point.name for point in made] == ["a.b=1,c=x", "a.b=2,c=x"]


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ([], "no axis given"),
        (["peak"], "'peak' is no axis"),
        (["peak="], "'peak=' is no axis"),
        (["a=1", "a=2"], "the key a is there twice"),
    ],
)
def test_what_is_no_axis_is_refused(axes, says):
    with pytest.raises(UserError, match=says):
        points(axes)


def test_the_mean_over_datasets_wins_and_is_drawn(tmp_path):
    rows = [
        Outcome(Point({"a": "1", "b": "x"}), {"one": 0.9, "two": 0.1}),
        Outcome(Point({"a": "2", "b": "x"}), {"one": 0.6, "two": 0.6}),
        Outcome(Point({"a": "2", "b": "y"}), None),
    ]
    found = figures(rows)
    assert found["winner"] == {"a": "2", "b": "x"} and found["points"][2]["score"] is None
    write_grid(tmp_path / "grid.html", "c.py", found)
    page = (tmp_path / "grid.html").read_text()
    assert "<svg" in page and "<code>a=2</code>" in page and "60.0 %" in page


def test_a_run_that_fails_leaves_the_others_and_one_that_stops_ends_the_grid(tmp_path, monkeypatch):
    codes = iter([2, 0, 42])
    ran = []
    monkeypatch.setattr(
        "omnivore_jax.experiment.combinations._run", lambda c: ran.append(c[-1]) or next(codes)
    )
    done = list(run_points("c.py", points(["a=1,2,3,4"]), tmp_path, ["--x"]))
    assert [outcome.code for outcome in done] == [2, 0, 42] and len(ran) == 3
    assert ran[0] == f"--workdir={tmp_path / 'a=1'}"


def grid(workdir, *arguments):
    command = [sys.executable, "-m", "omnivore_jax.grid", "optimizer.peak=1e-3,3e-3"]
    flags = ["--config=configs/demo.py:image", f"--workdir={workdir}", "--json"]
    changes = ["train.steps=40", "eval.retrieval=0", "checkpoint.every=1"]
    given = [f"--flags=--config.{change}" for change in changes]
    return subprocess.Popen(
        [*command, *flags, *given, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_grid_that_is_stopped_goes_on_and_ends_with_the_same_figures(tmp_path):
    whole = grid(tmp_path / "whole")
    expected = json.loads(whole.communicate()[0])
    assert whole.returncode == 0 and expected["winner_run"] is not None
    stopped = grid(tmp_path / "stopped")
    first = tmp_path / "stopped" / "optimizer.peak=1e-3" / "checkpoints"
    while not (first / "3").exists():
        assert stopped.poll() is None
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate()
    assert stopped.returncode == 42
    assert not (tmp_path / "stopped" / "optimizer.peak=3e-3").exists()
    again = grid(tmp_path / "stopped")
    assert json.loads(again.communicate()[0]) == expected
    read = grid(tmp_path / "stopped")  # nothing is left to run
    assert json.loads(read.communicate()[0]) == expected
    assert (tmp_path / "stopped" / "grid.html").exists()
