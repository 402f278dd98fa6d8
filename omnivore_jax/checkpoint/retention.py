"""The folder of a run's checkpoints: one directory a step, and which of them stay."""

import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from omnivore_jax.checkpoint.seal import FOLDER as SEALS
from omnivore_jax.core import dist
from omnivore_jax.core.buckets import ObjectPath
from omnivore_jax.core.errors import UserError

DELETED = ".deleted"
PROBE = ".shared-"
LEFTOVERS = (f"*{DELETED}", f"{PROBE}*", "*.json.tmp", ".*.tmp", "*.orbax-checkpoint-tmp*")
"""What a killed process leaves behind: ours, and last the steps that Orbax had not finished."""


def open_folder(directory: Path) -> None:
    """Makes the folder and clears away leftovers; every process must ask.

    Raises UserError where it cannot be made, or where the processes do not all see the same folder.
    """
    probe = directory / f"{PROBE}{dist.broadcast(secrets.token_hex(8))}"
    fault = dist.broadcast(_make(probe) if dist.is_primary() else None)
    if fault is not None:
        raise UserError(f"{directory} cannot be made or written: {fault}; choose another workdir")
    shared = dist.holds_everywhere(probe.exists())
    if dist.is_primary():
        probe.unlink()
    if not shared:
        raise UserError(
            f"{directory} is not the same folder for all processes; choose a workdir on a disk "
            "that they share"
        )


def _make(probe: Path) -> str | None:
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(probe.parent)
        probe.touch()
    except OSError as error:
        return error.strerror
    except UserError as error:  # of a bucket
        return str(error)
    return None


def list_steps(directory: Path) -> list[int]:
    """Lists the steps that are there, finished or not, the newest first."""
    names = (
        [path.name for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []
    )
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def remove_step(directory: Path, step: int) -> None:
    """Deletes a step; the rename first, so that a kill midway leaves no step that looks whole."""
    folder = directory / str(step)
    if isinstance(folder, ObjectPath):
        (folder / SEALS).remove()  # first, so that what a kill leaves is no finished step
        folder.remove()
        return
    doomed = directory / f"{step}{DELETED}"
    shutil.rmtree(doomed, ignore_errors=True)
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(directory: Path) -> None:
    """Deletes what a process that was killed, or that found the disk full, left behind."""
    for pattern in LEFTOVERS:
        for path in directory.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def superfluous(
    steps: Collection[int], good: Collection[int], best: int | None, keep_last: int
) -> list[int]:
    """Lists the steps to delete: all before the newest good one but `keep_last` and the best."""
    kept = {*sorted(good)[-keep_last:], best}
    return [step for step in sorted(steps) if step not in kept and step < max(good, default=0)]
