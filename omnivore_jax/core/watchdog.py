"""Shows where every thread is when a run has made no step for long; the run itself goes on."""

import faulthandler
import sys


class Watchdog:
    """Writes the stacks of all threads to stderr, again and again, while nothing happens.

    A context manager. What stops a run that waits for a dead host is core/peers.py; this is for a
    person who looks at a job that hangs.
    """

    def __init__(self, minutes: float) -> None:
        """`minutes`: without a sign of life; 0: none is watched for."""
        self._seconds = 60 * minutes

    def alive(self) -> None:
        """Says that something was done: the time begins anew."""
        if self._seconds and sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(self._seconds, repeat=True, file=sys.__stderr__)

    def __enter__(self) -> "Watchdog":
        self.alive()
        return self

    def __exit__(self, *_: object) -> None:
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()
