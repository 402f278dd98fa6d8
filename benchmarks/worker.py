"""A process for each side of a comparison, asked for one thing at a time: only one computes.

    python -m benchmarks.worker JSON    # a Job; then a word a line on stdin, an answer a line

The answers are JSON on stdout. Memory is what the process has resident (Linux), over what it had
when its libraries were imported and its inputs drawn.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.job import Job
from omnivore_jax.core.errors import UserError

MATRIX = 2048
"""Rows of the product of which the use of the machine is a share."""
GIB = 2**30


class Worker:
    """The process of one side, seen from outside. A context manager."""

    def __init__(self, job: Job):
        self.job = job
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "OMP_NUM_THREADS": str(job.threads),
            # Threads of PyTorch that wait in loops lose seconds where others want the cores.
            "OMP_WAIT_POLICY": "passive",
            "TORCHINDUCTOR_CACHE_DIR": str(Path(job.cache) / "torch"),
        }
        self._said = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "benchmarks.worker", json.dumps(job.json())]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment,
        )
        self.versions = self.ask("versions")

    def ask(self, word: str) -> Any:
        """Asks for one thing and waits for it.

        Raises:
            UserError: the process has ended.

        """
        answer = ""
        with suppress(BrokenPipeError):
            print(word, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline() if self._process.stdout else ""
        if not answer:
            raise UserError(f"--against={self.job.side}: {self._why()}")
        return json.loads(answer)

    def _why(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = [line.strip() for line in self._said if line.strip()]
        if code < 0:
            return f"its process was ended by signal {-code}; give it less, --batch=1 for example"
        return re.sub(r"^\S*Error: ", "", lines[-1]) if lines else f"it ended with {code}"

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                pipe.close()


def main() -> None:
    """Answers until nobody asks any more."""
    job = Job(**json.loads(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    side = _make(job)
    baseline = resident("VmRSS")
    actions: dict[str, Callable[[], Any]] = {
        "versions": lambda: side.versions,
        "build": lambda: timed(side.build),
        "call": lambda: timed(side.call),
        "matmul": lambda: side.matmul(MATRIX),
        "forget peak": forget_peak,
        "peak": lambda: (resident("VmHWM") - baseline) / GIB,
    }
    for line in sys.stdin:
        print(json.dumps(actions[line.strip()]()), file=answers, flush=True)


def _make(job: Job) -> Any:
    if job.side == "ours":
        from benchmarks.jax_side import JaxSide

        return JaxSide(job)
    from benchmarks.torch_side import TorchSide

    return TorchSide(job)


def timed(action: Callable[[], Any]) -> dict[str, Any]:
    """Runs an action: its wall time, what all threads of the process computed, what it gave."""
    cpu, began = time.process_time(), time.perf_counter()
    gave = action()
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "gave": gave,
    }


def resident(key: str) -> int:
    """Reads the resident memory of this process in bytes, now (VmRSS) or at most (VmHWM)."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def forget_peak() -> None:
    """Lets the peak begin anew, at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
