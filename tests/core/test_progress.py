import io
import sys

import pytest
from absl import logging

from omnivore_jax.core import progress
from omnivore_jax.core.progress import Progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(monkeypatch):
    """What is logged."""
    said: list[str] = []
    monkeypatch.setattr(logging, "info", lambda form, *values: said.append(form % values))
    return said


def figures(**datasets):
    sums = {
        name: dict(zip(("loss", "count", "correct"), values, strict=True))
        for name, values in datasets.items()
    }
    return {"learning_rate": 2e-3, "datasets": sums}


def test_a_line_tells_the_means_and_rates_of_the_last_steps(lines, monkeypatch):
    monkeypatch.setattr(
        progress, "memory", lambda: {"host_bytes": 3 * 2**29, "device_bytes": 2**33}
    )
    clock = Clock()
    with Progress(3000, every=4, live=False, clock=clock) as shown:
        for step in range(1, 9):  # a second each, a quarter of it waiting; photos and clips in turn
            clock.now += 1
            loss = 64.0 if step <= 4 else 32.0  # the first four are forgotten
            one = figures(photos=(loss, 64, 16)) if step % 2 else figures(clips=(loss, 32, 24))
            shown.update(step, one, epoch=step / 100, waited=step / 4)
    assert len(lines) == 2
    assert lines[1] == (
        "8/3,000 epoch 0.1 lr 2.0e-03 | clips 1.00 75% 16/s | photos 0.50 25% 32/s | wait 25% mem "
        "1.5+8.0G eta ..."
    )
    times = shown.times()
    assert times["steps_per_second"] == 1 and times["wait_share"] == 0.25
    assert times["samples_per_second"] == {"clips": 16, "photos": 32}


def test_the_last_step_of_a_run_is_told_and_a_rare_dataset_keeps_its_last_figures(lines):
    clock = Clock()
    shown = Progress(5, every=2, live=False, clock=clock)
    for step in range(1, 6):
        clock.now += 1
        shown.update(
            step, figures(rare=(9.0, 3, 3)) if step == 1 else figures(photos=(6.0, 3, 0)), epoch=0.0
        )
    assert [line.split(" ")[0] for line in lines] == ["2/5", "4/5", "5/5"]
    assert "rare 3.00 100% 0/s" in lines[2] and "eta 0:00" in lines[2]


def test_an_evaluation_does_not_count_as_slow_training(lines):
    clock = Clock()
    shown = Progress(123, every=23, live=False, clock=clock)
    for step in range(1, 24):
        clock.now += 1
        with shown.paused():
            clock.now += 1000
        shown.update(step, figures(photos=(1.0, 10, 1)), epoch=0.0)
    assert "10/s" in lines[0] and "eta 1:40" in lines[0]


def test_steps_during_which_a_program_is_compiled_count_neither_in_the_rates_nor_in_the_time_left(
    lines,
):
    clock, order = Clock(), ["photos", "clips", "photos", "depth"] + ["photos", "clips"] * 11
    shown = Progress(126, every=26, live=False, clock=clock)
    new = {0, 1, 3}  # compiled before the figures of the step before are fetched
    for step, name in enumerate(order):
        clock.now += 500 if {step, step + 1} & new else 1
        shown.update(step + 1, figures(**{name: (10.0, 10, 5)}), epoch=0.0)
    assert lines[0].endswith("eta 1:40")
    assert shown.times()["steps_per_second"] == 1


def test_before_twenty_steps_have_counted_no_time_left_is_told(lines):
    clock = Clock()
    shown = Progress(1000, every=1, live=False, clock=clock)
    for step in range(1, 22):
        clock.now += 1
        shown.update(step, figures(photos=(1.0, 10, 1)), epoch=0.0)
    assert lines[-2].endswith("eta ...") and lines[-1].endswith("eta 16:19")


def test_a_task_that_counts_nothing_correct_shows_its_loss_alone(lines):
    sums = {"learning_rate": 2e-3, "datasets": {"scenes": {"loss": 20.0, "count": 10}}}
    Progress(2, every=1, live=False, clock=Clock()).update(1, sums, epoch=0.0)
    assert "| scenes 2.00 0/s |" in lines[0]


def test_the_line_of_the_demo_fits_160_columns(lines):
    clock = Clock()
    shown = Progress(3000, every=1, live=False, clock=clock)
    clock.now += 0.05
    demo = {name: (64 * 1.234, 64, 40) for name in ("demo_image", "demo_rgbd", "demo_video")}
    shown.update(2999, figures(**demo), epoch=32.0, waited=0.01)
    assert len("12:34:56 " + lines[0]) <= 160


def test_a_terminal_gets_one_live_line_that_goes_away(monkeypatch, lines):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with Progress(2, every=1) as shown:
        shown.update(1, figures(photos=(1.0, 10, 1)), epoch=0.0)
        print("a message", file=sys.stderr)
    said = terminal.getvalue()
    assert "photos 0.10 10%" in said and "a message\n" in said and not lines
    assert said.endswith("\x1b[2K")  # the line is erased
    assert sys.stderr is terminal


@pytest.mark.parametrize(
    ("steps", "says"), [(60, "eta 1:00"), (3600, "eta 1:00:00"), (100_000, "eta 27:46:40")]
)
def test_the_time_left_is_told_in_hours_minutes_and_seconds(lines, steps, says):
    clock = Clock()
    shown = Progress(steps + 21, every=21, live=False, clock=clock)
    for step in range(1, 22):
        clock.now += 1
        shown.update(step, figures(photos=(1.0, 10, 1)), epoch=0.0)
    assert lines[0].endswith(says)


def test_a_period_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="log.every=0; use 1 or more steps"):
        Progress(10, every=0)
