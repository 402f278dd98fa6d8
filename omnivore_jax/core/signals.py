"""What SIGTERM, SIGHUP and Ctrl-C do to a run.

While training, the first one asks all processes to save after the same step and to stop; further
ones are ignored, so that nobody who repeats or passes on a signal kills the save. Where nothing is
left to be saved the first one ends the run at once. A second Ctrl-C, a second or more after the
first signal, ends it at once even if steps are lost, but never while a checkpoint is written.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from omnivore_jax.core.peers import Peers, Stopped

PREEMPTED, INTERRUPTED = 42, 130
"""Exit codes: a scheduler may start the same command again; a person pressed Ctrl-C."""
AGAIN = 1.0
"""Seconds within which signals are one: a terminal tells a whole group, a script passes it on."""
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Preemption:
    """Takes the signals that ask a run to stop. A context manager; made in the main thread."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._first: signal.Signals | None = None
        self._latest, self._deferred, self._saving = 0.0, False, False
        self._previous = {number: signal.signal(number, self._take) for number in SIGNALS}

    def requested(self, step: int) -> bool:
        """Says whether to save and stop after `step`; every process must ask after every step."""
        return self._peers.stops_at(step)

    def stop(self, what: str, together: bool = False) -> Stopped:
        """Words the end of a run: how it was stopped and what is saved."""
        name = "another host's signal" if self._first is None else self._first.name
        by = "Ctrl-C" if self._first is signal.SIGINT else name
        code = INTERRUPTED if self._first is signal.SIGINT else PREEMPTED
        return Stopped(
            f"stopped by {by} {what}; the same command goes on from there", code, together
        )

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Lets a signal wait for `requested`, while there are steps that no checkpoint has."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self._raise_if_taken()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Lets a signal end the run at once in the midst of `deferred`: all steps are saved."""
        self._deferred = False
        try:
            self._raise_if_taken()
            yield
        finally:
            self._deferred = True

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Ignores every signal until a checkpoint is whole; the first one still counts."""
        self._saving = True
        try:
            yield
        finally:
            self._saving = False

    def __enter__(self) -> "Preemption":
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: object) -> None:
        again = self._first is not None
        if again and time.monotonic() - self._latest < AGAIN:
            return
        self._latest = time.monotonic()
        self._first = self._first or signal.Signals(number)
        self._peers.ask_to_stop()
        if not self._deferred:
            self._raise_if_taken()
        if again and number == signal.SIGINT and not self._saving:
            raise KeyboardInterrupt

    def _raise_if_taken(self) -> None:
        if self._first is not None:
            raise self.stop("when nothing was left to save")
