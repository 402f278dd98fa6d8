"""What only several processes, or one that is killed, can show."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from omnivore_jax.checkpoint.manager import CheckpointConfig, CheckpointManager
from tests.checkpoint.states import abstract, assert_same_bits, numpy_state, state

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
ROWS = 1 << 20

TWO = """
import sys, jax
from pathlib import Path
from tests.checkpoint.states import abstract, assert_same_bits, numpy_state, placed, state
from omnivore_jax.checkpoint.manager import CheckpointConfig, CheckpointManager
from omnivore_jax.core import dist, tree
from omnivore_jax.core.errors import UserError

directory, port, process, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
jax.config.update("jax_num_cpu_devices", 4)
dist.initialize(f"127.0.0.1:{port}", 2, process)

def memory(line):
    status = dict(text.split(":") for text in Path("/proc/self/status").read_text().splitlines())
    return int(status[line].split()[0]) * 1024

try:
    CheckpointManager(directory.parent / f"private_{process}")
except UserError as error:
    assert "private" in str(error) and "is not the same folder for all processes" in str(error)
    assert process == 1 or not list((directory.parent / "private_0").iterdir())
else:
    raise SystemExit("a folder of one process alone was taken")

with CheckpointManager(directory, CheckpointConfig(keep_last=3)) as manager:
    assert_same_bits(manager.restore(abstract()).state, numpy_state(1))

    # held on to, so that its memory is not used again for what is measured
    on_host = numpy_state(2, rows)
    big = placed(on_host)
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    before = memory("VmRSS")
    manager.save(2, big, {})
    manager.wait()
    print("grew", (memory("VmHWM") - before) / tree.tree_bytes(big), flush=True)

    manager.save(3, state(3), {})
    manager.wait()
    if process == 0:
        written = (directory / "3/state/ocdbt.process_1/d").iterdir()
        victim = max(written, key=lambda file: file.stat().st_size)
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    dist.barrier("damaged")
    assert manager.latest_good_step() == 2
    manager.record_best(2, 0.5)
    assert manager.best_step() == 2
    manager.save(3, state(3), {})
    assert manager.latest_good_step() == 3
print("done", flush=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_and_one_read_each_others_checkpoints_and_nothing_is_gathered(tmp_path):
    run = tmp_path / "run"
    with CheckpointManager(run) as manager:
        manager.save(1, state(1), {})
    port = str(free_port())
    with ExitStack() as stack:
        both = []
        for process in range(2):
            call = [
                sys.executable,
                "-W",
                "error",
                "-c",
                TWO,
                str(run),
                port,
                str(process),
                str(ROWS),
            ]
            both.append(
                stack.enter_context(
                    subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
                )
            )
            stack.callback(both[-1].kill)
        said = [process.communicate(timeout=120)[0] for process in both]
    assert ["done" in text.splitlines() for text in said] == [True, True]

    grew = [
        float(line.split()[1])
        for text in said
        for line in text.splitlines()
        if line.startswith("grew")
    ]
    assert len(grew) == 2 and max(grew) < 0.75  # of the whole tree; a process holds half of it
    written = [
        sum(
            f.stat().st_size for f in (run / f"2/state/ocdbt.process_{k}").rglob("*") if f.is_file()
        )
        for k in (0, 1)
    ]
    assert 0.9 < written[0] / written[1] < 1.1
    assert sum(f.stat().st_size for f in (run / "2/state/d").iterdir()) < 0.01 * written[0]

    with CheckpointManager(run, read_only=True) as manager:
        assert_same_bits(manager.restore(abstract(devices=1)).state, numpy_state(3))
        assert_same_bits(
            manager.restore(abstract(rows=ROWS), manager.best_step()).state, numpy_state(2, ROWS)
        )


TRAINING = """
import sys, jax
from tests.checkpoint.states import abstract, assert_same_bits, numpy_state, placed
from omnivore_jax.checkpoint.manager import CheckpointConfig, CheckpointManager

jax.config.update("jax_num_cpu_devices", 8)
with CheckpointManager(sys.argv[1], CheckpointConfig(every=1, keep_last=1)) as manager:
    step = manager.latest_good_step()
    if step is None:
        step = 0
    else:
        assert_same_bits(manager.restore(abstract(rows=1 << 14)).state, numpy_state(step, 1 << 14))
    print("ready", flush=True)
    while True:
        step += 1
        manager.save(step, placed(numpy_state(step, 1 << 14)), {})
        print("sealed", step - 1, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_last_sealed_step_and_the_same_command_goes_on(tmp_path):
    moments, sealed = random.Random(0), 0
    for _ in range(8):
        call = [sys.executable, "-W", "error", "-c", TRAINING, str(tmp_path)]
        with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as training:
            assert training.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0, 0.5))
            training.send_signal(signal.SIGKILL)
            said = [
                int(line.split()[1])
                for line in training.stdout.read().splitlines()
                if line.count(" ")
            ]
        sealed = max([sealed, *said])
        with CheckpointManager(tmp_path, CheckpointConfig(keep_last=1), read_only=True) as manager:
            step = manager.latest_good_step()
            assert (step or 0) >= sealed
            if step:
                assert_same_bits(
                    manager.restore(abstract(rows=1 << 14)).state, numpy_state(step, 1 << 14)
                )
    assert sealed > 0  # how far they get is a matter of the machine
