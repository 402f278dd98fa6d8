import json

import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.log import MetricsWriter
from omnivore_jax.reporting.history import Series, averaged, history, read_rows


@pytest.fixture
def rows(tmp_path):
    """Rows as a run writes them: two datasets in turn, one evaluation."""
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        for step in range(1, 7):
            name = "demo_image" if step % 2 else "demo_video"
            figures = {"loss": 3 / step, "accuracy": step / 10, "n": 64}
            writer.write(
                step,
                {
                    "epoch": step / 6,
                    "train": {name: figures},
                    "learning_rate": 1e-3,
                    "grad_norm": 2.0,
                },
            )
        writer.write(
            6,
            {
                "epoch": 1.0,
                "eval": {"demo_image": {"top1": 0.5, "top5": None, "loss": 1.0, "n": 1000}},
            },
        )
    return read_rows(tmp_path / "metrics.jsonl")


def test_what_a_run_writes_is_read_back_as_one_curve_a_dataset(rows):
    found = history(rows)
    assert found.loss["demo_image"] == Series([1, 3, 5], [3 / 1, 3 / 3, 3 / 5])
    assert found.accuracy["demo_video"] == Series([2, 4, 6], [0.2, 0.4, 0.6])
    assert found.validation == {"demo_image": Series([6], [0.5])}
    assert found.learning_rate.step == found.grad_norm.step == [1, 2, 3, 4, 5, 6]
    assert found.steps == 6


def test_a_figure_that_is_null_leaves_a_gap():
    found = history(
        [{"step": step, "grad_norm": value} for step, value in ((1, 1.0), (2, None), (3, 3.0))]
    )
    assert found.grad_norm == Series([1, 3], [1.0, 3.0])


def test_smoothing_takes_the_mean_of_equal_spans():
    """Against numpy, on a curve whose spans hold equally many points."""
    step = np.arange(400)
    value = np.random.default_rng(0).normal(size=400)
    smooth = averaged(Series(step.tolist(), value.tolist()), steps=400, points=10)
    np.testing.assert_allclose(smooth.value, value.reshape(10, 40).mean(1), rtol=1e-12)
    np.testing.assert_allclose(smooth.step, step.reshape(10, 40).mean(1), rtol=1e-12)


def test_smoothing_keeps_the_last_step_and_the_order():
    smooth = averaged(
        Series(list(range(1, 1001)), [float(i) for i in range(1, 1001)]), steps=1000, points=7
    )
    assert smooth.step == smooth.value == sorted(smooth.step)
    assert len(smooth.step) == 7 and smooth.step[-1] > 900


def test_a_short_curve_stays_as_it_is():
    short = Series([1, 2, 3], [0.5, 0.25, 0.125])
    assert averaged(short, steps=3) is short


def test_a_run_that_has_not_begun_has_no_rows_and_no_steps(tmp_path):
    assert history(read_rows(tmp_path / "metrics.jsonl")).steps == 0


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "tra')
    assert read_rows(path) == [{"step": 1}]


def test_another_damaged_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_rows(path)
