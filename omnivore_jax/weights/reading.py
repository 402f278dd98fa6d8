"""Files that people give: told by their bytes, never by their names, and read or refused."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from omnivore_jax.core.errors import UserError

Kind = Literal["safetensors", "zip", "pickle"]
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How pickles of the protocols that PyTorch writes begin."""
MAX_HEADER = 100_000_000
"""Bytes; the safetensors library takes no longer header."""
MAX_TEXT = 1 << 26
"""Bytes of a text that is read whole: a card, a list of classes."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the system says of a file that is read into one line about that file.

    Raises:
        UserError: instead of the OSError.

    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise UserError(f"{path} cannot be read: {reason}; get it again or allow it") from error


def kind_of(path: Path) -> Kind:
    """Tells what a file of weights is from its first bytes.

    Raises:
        UserError: it is neither a safetensors file nor one of PyTorch's.

    """
    with reading(path), path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    # Before pickles, which begin as a safetensors header of 640 bytes and more may.
    if start[8:] == b"{" and 2 <= struct.unpack("<Q", start[:8])[0] <= MAX_HEADER:
        return "safetensors"
    if start.startswith(PICKLES):
        return "pickle"
    raise UserError(
        f"{path} is neither a safetensors nor a PyTorch file ({_described(start)}); get it again"
    )


def _described(start: bytes) -> str:
    """Says in a word what stands at the beginning of a file."""
    if not start:
        return "it is empty"
    printable = start.decode("ascii", "replace")
    return f"it begins with {printable!r}" if printable.isprintable() else "it is other data"


def read_text(path: Path) -> str:
    """Reads a text that a person gave; the mark that some editors put first is left out.

    Raises:
        UserError: it cannot be read, is no text, or larger than any list or card.

    """
    with reading(path), path.open("rb") as file:
        content = file.read(MAX_TEXT + 1)
    if len(content) > MAX_TEXT:
        raise UserError(f"{path} has more than {MAX_TEXT:,} bytes; give a list or a card")
    if b"\0" in content:
        raise UserError(f"{path} is no text; give a list or a card")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8; save it as such") from error
