import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from omnivore_jax.core import signals
from omnivore_jax.core.peers import Peers, Stopped
from omnivore_jax.core.signals import AGAIN, SIGNALS, Preemption
from tests.core.test_dist import free_port, words_after


def kill(number):
    os.kill(os.getpid(), number)


@pytest.fixture
def clock(monkeypatch):
    """The seconds that pass between two signals."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_training_asks_to_stop_and_repeats_are_ignored(number):
    before = signal.getsignal(number)
    with Preemption(Peers()) as preemption, pytest.raises(Stopped) as stopped:
        with preemption.deferred():
            assert not preemption.requested(1)
            for _ in range(3):
                kill(number)
            assert preemption.requested(2) and preemption.requested(3)
            raise preemption.stop("at step 3, which is saved", together=True)
    assert "at step 3, which is saved; the same command goes on from there" in str(stopped.value)
    assert stopped.value.code == (130 if number == signal.SIGINT else 42)
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_a_run_that_does_not_react_but_never_while_it_saves(clock):
    with Preemption(Peers()) as preemption, pytest.raises(KeyboardInterrupt):
        with preemption.deferred():
            with preemption.saving():
                for _ in range(3):
                    kill(signal.SIGINT)
                    clock[0] += 2 * AGAIN
            for _ in range(3):
                kill(signal.SIGTERM)
                clock[0] += 2 * AGAIN
            kill(signal.SIGINT)


@pytest.mark.parametrize("early", [True, False])
def test_when_nothing_is_left_to_be_saved_the_signal_ends_the_work_at_once(early):
    with (
        Preemption(Peers()) as preemption,
        pytest.raises(Stopped, match="SIGTERM when nothing was left to save"),
    ):
        with preemption.deferred():
            if early:
                kill(signal.SIGTERM)
        kill(signal.SIGTERM)
        time.sleep(60)


def test_in_an_evaluation_all_of_whose_steps_are_saved_the_signal_ends_the_work_at_once():
    with Preemption(Peers()) as preemption, pytest.raises(Stopped):
        with preemption.deferred(), preemption.at_once():
            kill(signal.SIGHUP)
            time.sleep(60)


TWO = """
import sys, time, jax
from omnivore_jax.core import dist
from omnivore_jax.core.peers import Peers
from omnivore_jax.core.signals import Preemption
port, process = sys.argv[1], int(sys.argv[2])
dist.initialize(f"127.0.0.1:{port}", 2, process)
with Peers() as peers, Preemption(peers) as preemption:
    try:
        with preemption.deferred():
            print("ready", flush=True)
            for step in range(1, 100_000):
                if preemption.requested(step):
                    break
                time.sleep(0.002)
            with preemption.saving():
                print("saving", step, flush=True)
                time.sleep(3)
            raise preemption.stop("saved", together=True)
    except Exception as stop:
        print("stopped", dist.broadcast(step), step, stop.code, flush=True)
"""


@pytest.mark.slow
def test_signals_to_one_of_two_processes_stop_both_after_the_same_step_and_repeats_kill_no_save():
    port = str(free_port())
    with ExitStack() as stack:
        both = []
        for process in range(2):
            call = [sys.executable, "-c", TWO, port, str(process)]
            both.append(
                stack.enter_context(subprocess.Popen(call, stdout=subprocess.PIPE, text=True))
            )
            stack.callback(both[-1].kill)
        assert [words_after("ready", process) for process in both] == [["ready"], ["ready"]]
        both[1].send_signal(signal.SIGTERM)
        saving = [words_after("saving", process) for process in both]
        for _ in range(2):
            for process in both:
                process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
        said = [words_after("stopped", process) for process in both]
        assert said[0] == said[1] and said[0][1] == said[0][2] == saving[0][1]
        assert said[0][3] == "42"
        assert [process.wait(60) for process in both] == [0, 0]
