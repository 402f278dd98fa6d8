"""The stacks of a process that hangs are shown; it goes on."""

import subprocess
import sys

PROGRAM = """
import time
from omnivore_jax.core.watchdog import Watchdog

def stuck():
    time.sleep(1.0)

with Watchdog({minutes}) as watchdog:
    watchdog.alive()
    stuck()
print("went on")
"""


def run(minutes):
    command = [sys.executable, "-c", PROGRAM.format(minutes=minutes)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_stacks_are_written_while_nothing_happens():
    done = run(0.3 / 60)
    assert done.returncode == 0 and done.stdout == "went on\n"
    assert "most recent call first" in done.stderr and "in stuck" in done.stderr


def test_nothing_is_written_where_none_is_watched_for():
    assert run(0).stderr == ""
