import os
import signal
import subprocess
import sys
import time

import pytest

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
    script = supervise("42 137 2 0")
    _, err = script.communicate(timeout=10)
    assert script.returncode == 2 and (tmp_path / "starts").read_text() == "xxx"
    assert "ended with 42" in err and "ended with 137" in err
