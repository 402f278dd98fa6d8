"""Tar archives as they were downloaded: where their members lie. Nothing is unpacked."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.base import TarMember

BLOCK = bytes(tarfile.BLOCKSIZE)
"""What an archive ends with."""


class Archive(NamedTuple):
    """A tar that is not compressed: a file, or a member of another tar."""

    path: Path
    offset: int = 0
    """Where it begins, in bytes."""


def members(archive: Archive) -> Iterator[tuple[str, TarMember]]:
    """Lists the files of an archive in their order, and where their bytes lie in `archive.path`.

    Reads the headers only, and keeps none of them: an archive may have millions.

    Raises:
        UserError: the archive is cut short, damaged or compressed.

    """
    try:
        with archive.path.open("rb") as file:
            file.seek(archive.offset)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (entry := tar.next()) is not None:
                    tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                    if entry.isreg():
                        name = entry.name.removeprefix("./")
                        yield name, TarMember(archive.path, entry.offset_data, entry.size)
                end = tar.offset
            file.seek(end)
            # tarfile ends at the first header that it does not understand, without a word.
            if file.read(len(BLOCK)) != BLOCK:
                raise tarfile.ReadError(f"no header and no end at byte {end}")
    except tarfile.TarError as error:
        raise UserError(
            f"{archive.path} is cut short, damaged or compressed ({error}); download it again, or "
            "unpack it once if it is compressed"
        ) from error
