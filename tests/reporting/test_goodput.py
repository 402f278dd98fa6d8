"""The lives of a run add up to its wall time from the first start to the last row."""

import pytest

from omnivore_jax.reporting.goodput import goodput


def row(began, at, count, from_step, **seconds):
    spent = dict.fromkeys(("start", "step", "checkpoint", "evaluation", "compile", "data"), 0.0)
    wall = {"began": began, "at": at, "from_step": from_step, "seconds": spent | seconds}
    return {"step": count, "steps_per_second": 2.0, "mfu": 0.4, "wall": wall}


def test_lives_add_up_and_steps_that_were_done_again_do_not_count():
    rows = [
        row(0.0, 50.0, 60, 0, start=10.0, step=40.0),
        row(0.0, 100.0, 160, 0, start=10.0, step=80.0, data=10.0),
        row(130.0, 200.0, 240, 100, start=10.0, step=60.0),
    ]
    found = goodput(rows)
    assert found is not None and found.total == pytest.approx(200.0) and found.lives == 2
    assert found.seconds["away"] == 30 and found.seconds["lost"] == 30  # 60 steps at 2 a second
    assert found.seconds["step"] == 110 and found.share == pytest.approx(0.55)
    assert found.mfu == pytest.approx(0.4)


def test_rows_of_before_tell_nothing():
    assert goodput([]) is None and goodput([{"step": 5, "steps_per_second": 1.0}]) is None
