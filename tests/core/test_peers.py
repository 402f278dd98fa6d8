import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from omnivore_jax.core.peers import LOST, Peers, differences
from tests.core.test_dist import free_port


def test_what_differs_is_named_with_both_values_and_the_host():
    first = {"train.seed": 0, "jax": "0.11.0", "model.name": "demo", "log.every": 1}
    own = {"train.seed": 1, "jax": "0.10.2", "model.name": "demo", "eval.every": 5}
    assert differences(first, own, 3) == [
        "eval.every=5 on host 3, none on host 0",
        "jax=0.10.2 on host 3, 0.11.0 on host 0",
        "log.every=none on host 3, 1 on host 0",
        "train.seed=1 on host 3, 0 on host 0",
    ]


def test_a_process_alone_has_no_peers_and_its_error_is_its_own():
    with pytest.raises(OSError, match="full"), Peers() as peers, peers.fails_early():
        peers.compare("config", {"seed": 1})
        raise OSError("the disk is full")


TWO = """
import os, signal, sys, threading, jax, numpy as np
from jax.experimental import multihost_utils
from omnivore_jax.core import command, dist
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.peers import Peers

port, process, fails, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
heartbeat = 3.0 if how in ("SIGKILL", "SIGSTOP") else dist.HEARTBEAT
dist.initialize(f"127.0.0.1:{port}", 2, process, heartbeat=heartbeat)

def main(argv):
    with Peers(heartbeat) as peers, peers.fails_early():
        if how == "seed":
            peers.compare("config", {"train.seed": process})
        for step in range(4):
            if step == 3 and process == fails and how == "disk":
                raise UserError("metrics.jsonl cannot be written (No space left on device)")
            if step == 3 and process == fails and how.startswith("SIG"):
                threading.Event().wait(1)  # the other is in its collective
                os.kill(os.getpid(), getattr(signal, how))
            multihost_utils.process_allgather(np.ones(3))
        threading.Event().wait(120)

del sys.argv[1:]
command.run(main)
"""


def outcome(fails, how):
    """Exit code, stderr and seconds of two processes of which one fails."""
    port = str(free_port())
    with ExitStack() as stack:
        both = []
        for process in range(2):
            call = [sys.executable, "-c", TWO, port, str(process), str(fails), how]
            run = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)
            both.append(stack.enter_context(run))
            stack.callback(run.kill)
        began = time.monotonic()
        if how == "SIGSTOP":
            both[1 - fails].wait(90)
            both[fails].kill()
        said = [process.communicate(timeout=90)[1] for process in both]
        return [process.returncode for process in both], said, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("fails", [0, 1])
def test_a_process_that_fails_alone_ends_the_other_in_a_collective_with_its_name(fails):
    codes, said, seconds = outcome(fails, "disk")
    assert codes == [2, 2] and seconds < 60, said
    assert f"host {fails} failed: metrics.jsonl cannot be written (No space" in said[1 - fails]
    assert "metrics.jsonl cannot be written (No space left on device)" in said[fails]
    assert "Traceback" not in "".join(said)


@pytest.mark.slow
def test_hosts_that_disagree_end_with_a_line_that_names_key_and_host():
    codes, said, _ = outcome(-1, "seed")
    assert codes == [2, 2], said
    assert all("train.seed=1 on host 1, 0 on host 0" in text for text in said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails", "how"), [(1, "SIGKILL"), (1, "SIGSTOP"), (0, "SIGSTOP")], ids=str
)
def test_a_host_that_is_dead_or_frozen_ends_the_other_within_the_heartbeat_and_is_named(fails, how):
    codes, said, seconds = outcome(fails, how)
    assert codes[1 - fails] == LOST and seconds < 60, said
    ours = said[1 - fails]
    assert f"host {fails} gave no sign of life for" in ours and "is dead or frozen" in ours
    assert "Traceback" not in ours


@pytest.mark.slow
def test_the_death_of_host_0_ends_the_other_at_once_by_the_word_of_jax():
    codes, said, _ = outcome(0, "SIGKILL")
    assert codes == [-signal.SIGKILL, -signal.SIGABRT], said
    assert "leader task" in said[1]
