"""Keeps Orbax's chatter off the terminal: what it prints of a failure it also raises, and we say that in one line."""

import logging
import os
import sys


def quiet_orbax() -> None:
    """Drops Orbax's progress messages, its tracebacks, and the echoes of writes that a failed one abandoned."""
    logger = logging.getLogger("absl")
    if _is_worth_a_line not in logger.filters:
        logger.addFilter(_is_worth_a_line)
        sys.unraisablehook = _without_abandoned_writes(sys.unraisablehook)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    from_orbax = f"{os.sep}orbax{os.sep}" in record.pathname
    return not from_orbax or (record.levelno >= logging.WARNING and not record.exc_info)


def _without_abandoned_writes(hook):
    """Wraps the hook for exceptions that nobody can catch.

    When one write of a step fails, Orbax closes the event loop at once; each of the other writes then fails to report
    to it, from a thread of TensorStore, with a traceback.
    """

    def quieter(unraisable) -> None:
        if not (isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"):
            hook(unraisable)

    return quieter
