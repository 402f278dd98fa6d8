"""The account of a process adds up to its wall time, whatever lies within what."""

import jax
import pytest

from omnivore_jax.core.wall_time import COMPILING, WallTime


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_every_second_is_booked_once():
    clock = Clock()
    with WallTime(7, began=90.0, clock=clock) as wall:
        with wall.spent_on("step"):
            clock.now += 20
            jax.monitoring.record_event_duration_secs(COMPILING[1], 4.0)
            with wall.spent_on("evaluation"):
                clock.now += 5
                jax.monitoring.record_event_duration_secs(COMPILING[0], 1.0)
            clock.now += 10
        clock.now += 2
        row = wall.row(waited=3.0)
    assert (row["began"], row["at"], row["from_step"]) == (90.0, 137.0, 7)
    expected = {"start": 12, "step": 23, "evaluation": 4, "compile": 5, "checkpoint": 0, "data": 3}
    assert row["seconds"] == expected and sum(expected.values()) == pytest.approx(47)
    jax.monitoring.record_event_duration_secs(COMPILING[1], 9.0)  # it listens no more
    assert wall.row(0.0)["seconds"]["compile"] == 5
