"""Seals a checkpoint with the SHA-256 of every file of it, because Orbax restores flipped bits without a word.

A step directory is sealed by one file per process, `digests/process_0_of_2.json`, each written at once and last:
a step that lacks one of them was never finished. Every process digests the shards that it wrote, the first one also the
rest.
"""

import hashlib
import json
import os
from pathlib import Path

FOLDER = "digests"


def seal(step: Path, process: int, processes: int) -> None:
    """Writes the digests of the files that are this process's to digest."""
    files = [file for file in _files(step) if _owner(file.relative_to(step), processes) == process]
    digests = {str(file.relative_to(step)): sha256(file) for file in files}
    (step / FOLDER).mkdir(exist_ok=True)
    write_at_once(step / FOLDER / _name(process, processes), {"files": digests})


def is_sealed(step: Path) -> bool:
    """Says whether every process that wrote the step sealed its part; reads no data."""
    names = {file.name for file in (step / FOLDER).glob("process_*_of_*.json")}
    return any(name.startswith("process_0_of_") for name in names) and all(
        _name(process, processes) in names
        for processes in {int(name.removesuffix(".json").rpartition("_")[2]) for name in names}
        for process in range(processes)
    )


def find_damage(step: Path) -> str | None:
    """Names the first file of a sealed step that is not as it was written; None where all are."""
    for seal_file in sorted((step / FOLDER).glob("process_*.json")):
        try:
            digests = json.loads(seal_file.read_text())["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return f"{FOLDER}/{seal_file.name} cannot be read"
        for name, digest in digests.items():
            if not (step / name).is_file():
                return f"{name} is missing"
            if sha256(step / name) != digest:
                return f"{name} differs from its digest"
    return None


def write_at_once(path: Path, content: object) -> None:
    """Writes JSON so that a reader, also after a crash, finds the whole file or none."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _files(step: Path) -> list[Path]:
    return sorted(
        file
        for file in step.rglob("*")
        if file.is_file() and file.relative_to(step).parts[0] != FOLDER
    )


def _owner(file: Path, processes: int) -> int:
    """Says which process digests a file.

    Orbax writes the shards of process 3 below a folder ocdbt.process_3.
    """
    for part in file.parts:
        name, _, process = part.rpartition("_")
        if name == "ocdbt.process" and process.isdigit() and int(process) < processes:
            return int(process)
    return 0


def _name(process: int, processes: int) -> str:
    return f"process_{process}_of_{processes}.json"


def sha256(file: Path) -> str:
    """Digest of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
