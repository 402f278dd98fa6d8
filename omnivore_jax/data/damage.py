"""What is raised of a file that cannot be decoded, whichever library found out."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
from av.error import FFmpegError


class DecodeError(ValueError):
    """Media that cannot be decoded; the message says why, the caller knows the name."""


@contextmanager
def reading() -> Iterator[None]:
    """Turns whatever a library raises of a file's content into a DecodeError of one line.

    But for Python's MemoryError: the machine may be at its end, not the file. FFmpeg's is of a size
    that a damaged header states.

    Raises:
        DecodeError: the content cannot be decoded.

    """
    try:
        yield
    except DecodeError:
        raise
    # Libraries promise no type: FFmpegError, UnicodeDecodeError, cv2.error, ValueError were met.
    except Exception as error:
        if isinstance(error, MemoryError) and not isinstance(error, FFmpegError):
            raise
        raise DecodeError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Says in one line what was raised; the words of FFmpeg and OpenCV explain themselves."""
    words = " ".join(str(error).split())
    known = isinstance(error, (FFmpegError, cv2.error)) and words
    return words if known else f"{type(error).__name__}: {words}"
