"""Steps are traced where the config or a signal asks for it."""

import os
import signal

import jax
import jax.numpy as jnp
import pytest

from omnivore_jax.core.profiler import STEPS, Profiler, parse_span


def traces(folder):
    return list(folder.glob("profile/plugins/profile/*/*.xplane.pb"))


def test_the_steps_of_a_span_are_traced(tmp_path):
    with Profiler(tmp_path, parse_span("2:4")) as profiler:
        for step in range(1, 7):
            jnp.ones(3).sum().block_until_ready()
            profiler.step_done(step)
            assert len(traces(tmp_path)) == (step >= 4)


def test_a_signal_traces_the_next_steps_and_the_former_handler_comes_back(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    before = signal.getsignal(signal.SIGUSR1)
    with Profiler(tmp_path, parse_span("")) as profiler:
        profiler.step_done(1)
        os.kill(os.getpid(), signal.SIGUSR1)
        for step in range(2, 2 + STEPS):
            profiler.step_done(step)
            assert calls == ["start"]
        profiler.step_done(2 + STEPS)
        assert calls == ["start", "stop"]
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize("text", ["5", "5:5", "a:b", "7:3", "-1:4"])
def test_a_span_that_means_nothing_is_refused(text):
    with pytest.raises(ValueError, match="use FIRST:LAST in updates"):
        parse_span(text)
