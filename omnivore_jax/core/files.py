"""Files that a command writes: whole or not at all, and only where the user said."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnivore_jax.core.errors import UserError


def check_output(path: Path) -> None:
    """Refuses a destination that could be elsewhere than it reads: `..` or a symbolic link in it.

    Raises:
        UserError: there is one, the folder to write into is not there, or a folder has the name of
        the file.

    """
    if ".." in path.parts:
        raise UserError(f"{path} goes up a folder (..); give the destination without")
    for place in (path, *path.parents):
        if place.is_symlink():
            raise UserError(f"{place} is a symbolic link; give the real path of the destination")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is not a folder; make it first")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")


def check_other(src: Path, dst: Path) -> None:
    """Raises UserError where a file, or one in a folder, would be replaced by what is made of it."""
    if src.exists() and src.resolve().is_relative_to(dst.resolve()):
        raise UserError(
            f"{dst} is the source or holds it, which would be lost; choose another destination"
        )


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Gives the path of a draft, which becomes the file when the block ends and is deleted when it fails.

    Raises:
        UserError: `check_output` refuses the path, or it cannot be written.

    """
    check_output(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("xb"):
            pass
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}; make room or choose another"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
