"""What a benchmark ran on."""

import os
import platform
import re
import shlex
import sys
from pathlib import Path
from typing import Any

EXTENSIONS = ("avx2", "avx512f", "avx512_bf16", "amx_tile")
"""Of the instruction set, those on which products of matrices depend."""


def describe() -> dict[str, Any]:
    """Says what this machine is and how busy: processes that want to run, over a minute."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    flags = re.search(r"flags\s*: (.*)", text)
    has = set(flags[1].split()) if flags else set()
    return {
        "cpu": model[1].strip() if model else platform.machine(),
        "instructions": [name for name in EXTENSIONS if name in has],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def words(machine: dict[str, Any]) -> str:
    """Names a machine in a line."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {', '.join(machine['instructions'])}, "
        f"{machine['memory_gib']} GiB"
    )


def command_line(module: str) -> str:
    """Writes the command that this process was given, without the file for its figures."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith("--json")]
    return shlex.join(["python", "-m", f"benchmarks.{module}", *given])
