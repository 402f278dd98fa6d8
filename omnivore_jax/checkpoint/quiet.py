"""Keeps Orbax's chatter off the terminal.

What it prints of a failure it also raises, and we say that in one line.
"""

import logging
import os
import sys
import traceback

ORBAX = f"{os.sep}orbax{os.sep}"


def quiet_orbax() -> None:
    """Drops Orbax's progress messages, its tracebacks, and the echoes of writes that a failed one abandoned."""
    logger = logging.getLogger("absl")
    if _is_worth_a_line not in logger.filters:
        logger.addFilter(_is_worth_a_line)
        logging.getLogger("asyncio").addFilter(_is_no_echo)
        sys.unraisablehook = _without_abandoned_writes(sys.unraisablehook)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    from_orbax = ORBAX in record.pathname
    return not from_orbax or (record.levelno >= logging.WARNING and not record.exc_info)


def _is_no_echo(record: logging.LogRecord) -> bool:
    """Drops what asyncio says of each further write that failed, of which Orbax raises the first alone."""
    error = record.exc_info[1] if record.exc_info else None
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return not any(ORBAX in frame.filename for frame in frames)


def _without_abandoned_writes(hook):
    """Wraps the hook for exceptions that nobody can catch.

    When one write of a step fails, Orbax closes the event loop at once; each of the other writes
    then fails to report to it, from a thread of TensorStore, with a traceback.
    """

    def quieter(unraisable) -> None:
        if not (
            isinstance(unraisable.exc_value, RuntimeError)
            and str(unraisable.exc_value) == "Event loop is closed"
        ):
            hook(unraisable)

    return quieter
