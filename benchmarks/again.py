"""Measures again what the files of benchmarks/results/ hold, each by its own command.

    python -m benchmarks.again [NAME...]    # then python -m benchmarks.table

Without names: all files that were measured on a machine like this one; those of benchmarks.scaling
only where the compiler of TPUs is installed (requirements-tpu.txt).
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.machine import describe, words
from benchmarks.table import RESULTS
from omnivore_jax.core import command
from omnivore_jax.core.errors import UserError


def main(argv: Sequence[str]) -> int:
    for path in chosen(RESULTS, argv[1:], words(describe())):
        print(path.stem, flush=True)
        done = subprocess.run(command_of(path), check=False)
        if done.returncode:
            return done.returncode
    return 0


def chosen(folder: Path, names: Sequence[str], machine: str) -> list[Path]:
    """Lists the files of these names, or those of a machine.

    Raises:
        UserError: there is none.

    """
    files = {path.stem: path for path in sorted(folder.glob("*.json"))}
    for name in names:
        if name not in files:
            raise UserError(f"{name} is not in {folder}; use some of {', '.join(files)}")
    told = {path: json.loads(path.read_text()) for path in files.values()}
    found = [files[name] for name in names] or [
        path
        for path, row in told.items()
        if words(row["machine"]) == machine
        and (row["benchmark"] != "scaling" or find_spec("libtpu") is not None)
    ]
    if not found:
        raise UserError(f"nothing in {folder} is of this machine ({machine}); name a file")
    return found


def command_of(path: Path) -> list[str]:
    """Makes the command that measures a file anew, into the same file."""
    given = shlex.split(json.loads(path.read_text())["command"])
    return [sys.executable, *given[1:], f"--json={path}"]


if __name__ == "__main__":
    command.run(main)
