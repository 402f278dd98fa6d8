"""Starts the main command as a person does, in a process of its own.

The settings make a run a matter of seconds.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from omnivore_jax.checkpoint.manager import CheckpointManager
from tests.xla import FLAGS

CACHE = Path(__file__).parent.parent / ".cache" / "whole_runs"
"""Programs of other flags than those of this process: a folder of their own."""
DEMO = {
    "data.demo_image.batch_size": 8,
    "data.demo_rgbd.batch_size": 8,
    "data.demo_video.batch_size": 8,
    "data.demo_image.mixup": 0.8,
    "model.drop_path": 0.1,
    "mix.group": 4,
    "train.steps": 36,
    "checkpoint.every": 3,
    "eval.every": 0,
    "eval.retrieval": 0,
    "log.tensorboard": False,
    "log.every": 1,
}
"""The demo with all that is random switched on.

Runs of other `train.steps` compile their own programs.
"""
SMALL = DEMO | {
    "train.steps": 48,
    # A checkpoint takes its time, so a signal finds the run in its midst on any machine.
    "checkpoint.every": 2,
    **{f"data.demo_{kind}.num_val": 100 for kind in ("image", "video", "rgbd")},
}
"""The same for two processes on one machine, with less to evaluate."""


def start(config, workdir, changes, *flags, devices=1, program=("-m", "omnivore_jax.main")):
    """Starts a run; its messages go to a file, which `Run.finish` reads."""
    command = [sys.executable, *program, *flags_of(config, workdir, changes), *flags]
    said = tempfile.TemporaryFile("w+")
    environment = os.environ | compiling(devices)
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment)
    return Run(run, said)


def flags_of(config, workdir, changes):
    """The flags that name a run and change its config."""
    changed = [f"--config.{key}={value}" for key, value in changes.items()]
    return [f"--config={config}", f"--workdir={workdir}", *changed]


def compiling(devices=1):
    """The variables with which a run compiles as tests do, and keeps what it compiles."""
    return {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{FLAGS} --xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(CACHE),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@dataclass
class Run:
    """A command that has been started."""

    process: subprocess.Popen
    said: IO[str]
    """Its stderr."""

    def running(self):
        return self.process.poll() is None

    def finish(self):
        """Waits; gives exit code, stdout and stderr."""
        with self.said:
            out, _ = self.process.communicate(timeout=300)
            self.said.seek(0)
            return self.process.returncode, out, self.said.read()

    def wait_for(self, condition, pause=0.002):
        """Waits until `condition()` holds or the run ends; tells whether it holds."""
        while self.running():
            if condition():
                return True
            time.sleep(pause)
        return condition()


def complete(*arguments, **options):
    """Runs to the end, which must be a good one; gives stdout and stderr."""
    code, out, err = start(*arguments, **options).finish()
    assert code == 0, err[-3000:]
    return out, err


def rows(workdir):
    """The rows of metrics.jsonl that are whole."""
    path = Path(workdir) / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def training_rows(workdir):
    return [row for row in rows(workdir) if "train" in row]


def last_step(workdir):
    return max((row["step"] for row in rows(workdir)), default=0)


def state_of(workdir, step=None):
    """Every array of a checkpoint, the newest one by default, by path."""
    with CheckpointManager(Path(workdir) / "checkpoints", read_only=True) as manager:
        step = manager.latest_good_step() if step is None else step
        return manager.restore_part(manager.saved_shapes(step), step).state


def assert_same_run(first, second):
    """Parameters, optimiser state, EMA and metrics.jsonl of two runs are the same to the bit."""
    a, b = state_of(first), state_of(second)
    assert a.keys() == b.keys() and {path.split(".")[0] for path in a} >= {
        "params",
        "opt_state",
        "ema",
        "step",
    }
    for path, array in a.items():
        assert array.dtype == b[path].dtype and array.shape == b[path].shape, path
        assert np.asarray(array).tobytes() == np.asarray(b[path]).tobytes(), path
    assert (Path(first) / "metrics.jsonl").read_bytes() == (
        Path(second) / "metrics.jsonl"
    ).read_bytes()
