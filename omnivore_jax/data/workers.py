"""Why a worker process that reads data has ended, in the words of whom it concerns.

Grain's workers hand batches over in shared memory. Where that is full the system ends them with
SIGBUS, where memory is, with SIGKILL; Grain knows no more than the exit code.
"""

import re
import shutil
import signal
from pathlib import Path

from omnivore_jax.core.errors import UserError

SHARED = Path("/dev/shm")
ENDED = re.compile(r"Worker process was terminated unexpectedly with exit code (-?\d+)")
MIB = 2**20


def explain(error: RuntimeError, workers: int) -> UserError | None:
    """Makes one line with the remedy of what Grain says; None where it is about something else."""
    ended = ENDED.search(str(error))
    if ended is None:
        return None
    code = -int(ended[1])
    if code == signal.SIGBUS:
        return UserError(
            f"{SHARED} is too small ({_size()}) for the batches of data.workers={workers}; give "
            "the container more (docker run --shm-size=16g; on Kubernetes an emptyDir of medium "
            f"Memory at {SHARED}), or read in threads: data.workers=0"
        )
    if code == signal.SIGKILL:
        return UserError(
            f"a worker process of data.workers={workers} was killed, by the system if memory ran "
            "out; use fewer data.workers or a smaller data.max_host_gib, then start the run again: "
            "it goes on from its last checkpoint"
        )
    return UserError(
        f"a worker process of data.workers={workers} ended with exit code {ended[1]}; start the "
        "run again, it goes on from its last checkpoint, or read in threads: data.workers=0"
    )


def _size() -> str:
    try:
        usage = shutil.disk_usage(SHARED)
    except OSError:
        return "it cannot be read"
    return f"{usage.total // MIB:,} MiB, {usage.free // MIB:,} of them free"
