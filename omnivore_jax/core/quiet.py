"""Keeps the chatter of libraries off the terminal of a command.

What Orbax prints of a failure it also raises, and we say that in one line. Only a command calls
this: in a notebook the logging of a process is not ours.
"""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable

ORBAX = f"{os.sep}orbax{os.sep}"


def quiet_libraries() -> None:
    """Drops what JAX, Orbax and asyncio say beside what they raise; once a process is enough.

    Gone are: platforms that are not there, how buckets are read, Orbax's progress and tracebacks,
    the echoes of writes that a failed one abandoned, and entries of the compile cache that cannot
    be read (JAX compiles anew).
    """
    for name in ("jax", "gcsfs", "fsspec", "s3fs"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logger = logging.getLogger("absl")
    if _is_worth_a_line in logger.filters:
        return
    logger.addFilter(_is_worth_a_line)
    logging.getLogger("asyncio").addFilter(_is_no_echo)
    sys.unraisablehook = _without_abandoned_writes(sys.unraisablehook)
    for doing in ("reading", "writing"):
        warnings.filterwarnings("ignore", f"Error {doing} persistent compilation cache")


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    from_orbax = ORBAX in record.pathname
    return not from_orbax or (record.levelno >= logging.WARNING and not record.exc_info)


def _is_no_echo(record: logging.LogRecord) -> bool:
    """Drops what asyncio says of further writes that failed: Orbax raises the first one alone."""
    error = record.exc_info[1] if record.exc_info else None
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return not any(ORBAX in frame.filename for frame in frames)


def _without_abandoned_writes(hook: Callable) -> Callable:
    """Wraps the hook for exceptions that nobody can catch.

    When one write of a step fails, Orbax closes the event loop at once; each of the other writes
    then fails to report to it, from a thread of TensorStore, with a traceback.
    """

    def quieter(unraisable) -> None:
        closed = str(unraisable.exc_value) == "Event loop is closed"
        if not (closed and isinstance(unraisable.exc_value, RuntimeError)):
            hook(unraisable)

    return quieter
