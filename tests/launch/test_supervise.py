import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from tests.core.test_dist import free_port
from tests.whole_runs import SMALL, assert_same_run, compiling, flags_of, last_step

CHILD = """#!/usr/bin/env python3
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[-1])
starts = len((folder / "starts").read_text()) if (folder / "starts").exists() else 0
signals = []
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: signals.append(number))
with open(folder / "starts", "a") as file:
    file.write("x")
codes = (folder / "codes").read_text().split()
if starts < len(codes) - 1:
    sys.exit(int(codes[starts]))
while not signals:
    time.sleep(0.01)
time.sleep(0.25)  # saves; a further signal would be counted
(folder / "signals").write_text(" ".join(map(str, signals)))
sys.exit(int(codes[-1]))
"""

HEED = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Undoes what tests that run behind nohup or & inherit: bash cannot trap what is ignored."""


@pytest.fixture
def supervise(tmp_path):
    """Starts the script over a child that ends with these codes, the last one after a signal."""
    (tmp_path / "python").write_text(CHILD)
    (tmp_path / "python").chmod(0o755)

    def start(codes):
        (tmp_path / "codes").write_text(codes)
        return subprocess.Popen(
            [sys.executable, "-c", HEED, "bash", "launch/supervise.sh", str(tmp_path)],
            env=os.environ | {"PYTHON": str(tmp_path / "python")},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def starts_of(folder, number):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if (folder / "starts").exists() and len((folder / "starts").read_text()) >= number:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("to", [os.kill, os.killpg], ids=["one", "group"])
@pytest.mark.parametrize("code", [42, 3])
def test_the_child_gets_one_sigterm_however_often_it_is_asked_and_its_code_is_passed_on(
    supervise, tmp_path, number, to, code
):
    script = supervise(f"{code}")
    assert starts_of(tmp_path, 1)
    for _ in range(3):
        to(script.pid, number)
        time.sleep(0.03)
    _, err = script.communicate(timeout=10)
    assert (script.returncode, err) == (code, "")
    assert (tmp_path / "signals").read_text() == str(int(signal.SIGTERM))
    assert (tmp_path / "starts").read_text() == "x"


def test_a_run_that_stopped_or_was_killed_is_started_again_and_other_codes_are_passed_on(
    supervise, tmp_path
):
    script = supervise("42 137 134 143 2 0")
    _, err = script.communicate(timeout=10)
    assert script.returncode == 2 and (tmp_path / "starts").read_text() == "xxxxx"
    assert all(f"ended with {code}," in err for code in (42, 137, 134, 143))


def test_a_run_that_is_killed_time_and_again_is_given_up(supervise, tmp_path, monkeypatch):
    monkeypatch.setenv("MAX_RESTARTS", "2")
    script = supervise("137 42 134 42 137 0")
    script.communicate(timeout=10)
    assert script.returncode == 137 and (tmp_path / "starts").read_text() == "xxxxx"


@contextmanager
def pair(workdir):
    """Two hosts of a run, each under a script of its own."""
    flags = flags_of("configs/demo.py", workdir, SMALL)
    flags += [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"]
    environment = os.environ | compiling() | {"PYTHON": sys.executable}
    workdir.parent.mkdir()
    with ExitStack() as stack:
        scripts = []
        for host in range(2):
            log = stack.enter_context((workdir.parent / f"{host}.log").open("wb"))
            command = ["bash", "launch/supervise.sh", *flags, f"--process_id={host}"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(end, process)
            scripts.append(process)
        yield scripts


def end(script):
    """Ends a script, and the run that it would leave behind."""
    if script.poll() is None:
        for process in (script, *psutil.Process(script.pid).children(recursive=True)):
            process.kill()
        script.wait()


@pytest.mark.slow
def test_hosts_that_lose_one_begin_again_together_and_end_with_the_same_bits(tmp_path):
    whole, workdir = tmp_path / "whole/run", tmp_path / "lost/run"
    with pair(whole) as scripts:
        assert [script.wait(200) for script in scripts] == [0, 0]
    with pair(workdir) as scripts:
        deadline = time.monotonic() + 200
        while last_step(workdir) < 8 and time.monotonic() < deadline:
            time.sleep(0.05)
        (child,) = psutil.Process(scripts[1].pid).children()
        child.kill()
        assert [script.wait(200) for script in scripts] == [0, 0]
    logs = [(tmp_path / f"lost/{host}.log").read_text() for host in range(2)]
    assert "the run ended with 137, starting it again" in logs[1]
    assert "the run ended with 134, starting it again" in logs[0]
    assert_same_run(whole, workdir)
