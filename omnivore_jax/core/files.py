"""Files that a command writes: whole or not at all, and only where the user said.

The one place that writes a file at once, digests one, and judges a path that a user gave.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omnivore_jax.core.buckets import ObjectPath, is_object, place
from omnivore_jax.core.errors import UserError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How a URL begins; `Path` makes one slash of two. A drive of one letter is none."""


def check_local(path: str | Path | None, name: str) -> None:
    """Refuses a URL: it would become a local folder called `gs:`; `name` is the flag or key.

    Raises:
        UserError: the path is a URL of any scheme (gs://, s3://, https://, file://, ...).

    """
    if path is not None and URL.match(str(path)):
        raise UserError(
            f"{name}={path} is a URL, and only local paths are supported; mount the storage or "
            "copy the files, and give the path here"
        )


def location(path: str | Path, name: str) -> Path:
    """Gives a path that a user said, of a disk or of a bucket; `name` is the flag or key.

    Raises:
        UserError: it is another URL, names no bucket, or lacks the package for it.

    """
    if not is_object(path):
        check_local(path, name)
    return place(path)


def check_output(path: Path) -> None:
    """Refuses a destination that could be elsewhere than it reads: `..` or a symbolic link in it.

    Raises:
        UserError: there is one, the folder to write into is not there, a folder has the name of
        the file, or the destination is a URL.

    """
    if isinstance(path, ObjectPath):
        path.check_free()
        return
    check_local(path, "destination")
    if ".." in path.parts:
        raise UserError(f"{path} goes up a folder (..); give the destination without")
    for folder in (path, *path.parents):
        if folder.is_symlink():
            raise UserError(f"{folder} is a symbolic link; give the real path of the destination")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is not a folder; make it first")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")


def check_other(src: Path, dst: Path) -> None:
    """Refuses to replace a file, or a folder that holds one, by what is made of it (UserError)."""
    if src.exists() and src.resolve().is_relative_to(dst.resolve()):
        raise UserError(
            f"{dst} is the source or holds it, which would be lost; choose another destination"
        )


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Gives a draft of a file that a user named, as `replacement` does.

    Raises:
        UserError: `check_output` refuses the path, or it cannot be written.

    """
    check_output(path)
    with replacement(path) as draft:
        yield draft


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Gives a draft, an empty file beside `path`, which becomes the file when the block ends.

    The draft is deleted when the block fails. Folders that are not there are made. A reader, also
    after a crash of the machine, finds the whole file or the one before. In a bucket the same
    holds, and the draft is a local file.

    Raises:
        UserError: the disk does not take it; the message names the file.

    """
    if isinstance(path, ObjectPath):
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / path.name
            draft.touch()
            yield draft
            path.upload(draft)
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)  # of a killed process: in a container numbers come again
        with draft.open("xb"):
            pass
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {_reason(error, draft)}; make room or choose another"
        ) from error
    finally:
        _discard(draft)


@contextmanager
def new_folder(folder: Path, what: str, others: Callable[[set[str]], set[str]]) -> Iterator[Path]:
    """Gives a draft of a folder that a user named; it comes about whole, or not at all.

    A folder that is there is replaced, unless `others` finds that names in it are not ours.
    `what`: what it is, for the error.

    Raises:
        UserError: the destination is something else, or cannot be written.

    """
    if isinstance(folder, ObjectPath):
        raise UserError(
            f"{folder}: a folder comes about at once on a disk alone; name one there, and copy it"
        )
    _check_folder(folder, what, others)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        draft.mkdir()
        yield draft
        for path in draft.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        _publish(draft, folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror or error}; make room or name another"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_folder(folder: Path, what: str, others: Callable[[set[str]], set[str]]) -> None:
    if not folder.is_dir():
        check_output(folder)
        if folder.exists():
            raise UserError(f"{folder} is a file; name a folder")
        return
    check_output(folder / "file")
    names = {path.name for path in folder.iterdir()} - {"__pycache__"}
    strange = others(names) if names else set()
    if strange:
        raise UserError(f"{folder} is no {what} of ours (it holds {min(strange)}); choose another")


def _publish(draft: Path, folder: Path) -> None:
    """Moves a draft to its place; an older folder goes when the new one is there."""
    if not folder.is_dir():
        draft.replace(folder)
        return
    old = draft.with_suffix(".old")
    folder.replace(old)
    try:
        draft.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file at once, as `replacement` does."""
    with replacement(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8 at once, as `replacement` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any, *, sort_keys: bool = False) -> None:
    """Writes a value as JSON at once; ValueError where it holds a number that is not finite."""
    write_text(path, json.dumps(value, indent=1, sort_keys=sort_keys, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Digests a file piece by piece, as 64 hexadecimal digits.

    Raises:
        UserError: it cannot be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _discard(draft: Path) -> None:
    """Deletes a draft where it is there; its folder may be a file, or gone."""
    try:
        draft.unlink(missing_ok=True)
    except OSError:
        return


def _reason(error: OSError, draft: Path) -> str:
    """Says what failed, and on which file where that is another than the draft."""
    reason = error.strerror or str(error)
    other = error.filename is not None and str(error.filename) != str(draft)
    return f"{reason} ({error.filename})" if other else reason
