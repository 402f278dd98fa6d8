"""Seals a checkpoint with the SHA-256 of every file, as Orbax restores flipped bits without a word.

A step directory is sealed by one file per process, `digests/process_0_of_2.json`, each written at
once and last: a step that lacks one of them was never finished. Every process digests the shards
that it wrote. The first one comes last and digests the rest: also what the others did not list,
because a network disk showed it to them late. So every file is sealed by somebody, and a file that
is not makes the step damaged.
"""

import json
from pathlib import Path

from omnivore_jax.core import files
from omnivore_jax.core.buckets import files_below
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.patience import Patience

FOLDER = "digests"
OPEN_ELSEWHERE = ".nfs"
"""How NFS calls a file that was deleted while a process had it open: no part of the step."""
VISIBLE = Patience(30.0)
"""For a file to become visible that another host wrote."""
SEALED = Patience(900.0)
"""For the other processes to digest what they wrote."""


def seal(
    step: Path,
    process: int,
    processes: int,
    visible: Patience = VISIBLE,
    sealed: Patience = SEALED,
) -> None:
    """Writes the digests of the files that are this process's to digest.

    Raises:
        UserError: the step or a file of it does not become visible, another process does not seal
        its part, or the disk does not take the file.

    """
    if not visible.until(step.is_dir):
        raise UserError(
            f"{step} was not visible here within {visible.seconds:g} s; choose a workdir on a disk "
            "that all hosts share"
        )
    if process == 0:
        names = _files(step) - _sealed_by_others(step, processes, visible, sealed)
    else:
        names = {name for name in _files(step) if _owner(name, processes) == process}
    digests = {name: _digest(step / name, visible) for name in sorted(names)}
    files.write_json(step / FOLDER / _name(process, processes), {"files": digests})


def is_sealed(step: Path) -> bool:
    """Says whether every process that wrote the step sealed its part; reads no data."""
    names = {file.name for file in (step / FOLDER).glob("process_*_of_*.json")}
    counts = {int(name.removesuffix(".json").rpartition("_")[2]) for name in names}
    needed = {_name(process, count) for count in counts for process in range(count)}
    return any(name.startswith("process_0_of_") for name in names) and needed <= names


def find_damage(step: Path, visible: Patience = VISIBLE) -> str | None:
    """Names the first file of a sealed step that is not as it was written; None where all are.

    A file that no process sealed is damage too: nobody can say whether it is as it was written.
    """
    digests: dict[str, str] = {}
    for file in sorted((step / FOLDER).glob("process_*.json")):
        part = _read(file)
        if part is None:
            return f"{FOLDER}/{file.name} cannot be read"
        digests |= part
    for name, digest in digests.items():
        try:
            if _digest(step / name, visible) != digest:
                return f"{name} differs from its digest"
        except FileNotFoundError:
            return f"{name} is missing"
        except UserError:
            return f"{name} cannot be read"
    unknown = _files(step) - digests.keys()
    return f"{min(unknown)} is sealed by no process" if unknown else None


def _sealed_by_others(step: Path, processes: int, visible: Patience, sealed: Patience) -> set[str]:
    """Waits for the seals of all processes but the first; gives the files that they list."""
    names: set[str] = set()
    for process in range(1, processes):
        file = step / FOLDER / _name(process, processes)
        if not sealed.until(file.is_file):
            raise UserError(
                f"process {process} did not seal its part of {step} within {sealed.seconds:g} s; "
                "see what it says, and start the run again"
            )
        names |= (_read(file) or {}).keys()
    return names


def _read(file: Path) -> dict[str, str] | None:
    """The digests of one seal by the name of the file; None where it cannot be read."""
    try:
        digests = json.loads(file.read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digests if isinstance(digests, dict) else None


def _digest(file: Path, visible: Patience) -> str:
    """Digests a file that a listing named, which may come before the file itself is visible."""
    if not visible.until(file.is_file):
        raise FileNotFoundError(f"{file} is missing")
    return files.sha256(file)


def _files(step: Path) -> set[str]:
    """Names of all files that a step consists of, but for its seals."""
    paths = (path.relative_to(step) for path in files_below(step))
    return {
        str(path)
        for path in paths
        if path.parts[0] != FOLDER and not path.name.startswith(OPEN_ELSEWHERE)
    }


def _owner(name: str, processes: int) -> int:
    """Says which process digests a file: Orbax writes the shards of 3 below ocdbt.process_3."""
    for part in Path(name).parts:
        folder, _, process = part.rpartition("_")
        if folder == "ocdbt.process" and process.isdigit() and int(process) < processes:
            return int(process)
    return 0


def _name(process: int, processes: int) -> str:
    return f"process_{process}_of_{processes}.json"
