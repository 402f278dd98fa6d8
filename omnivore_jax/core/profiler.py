"""Traces of a few steps for TensorBoard, Perfetto or XProf: asked for by the config or a signal.

WORKDIR/profile/plugins/profile/DATE/HOST.xplane.pb    one file a host
"""

import signal
from pathlib import Path

import jax
from absl import logging

FOLDER = "profile"
STEPS = 5
"""That a signal asks for."""


def parse_span(text: str) -> range:
    """Reads "100:105": steps 101 to 105 (after 100 updates and until there are 105); "": none.

    Raises:
        ValueError: it says something else.

    """
    if not text:
        return range(0)
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ValueError(f"profile={text!r}; use FIRST:LAST in updates, 100:105 for example")
    return range(int(first), int(last))


class Profiler:
    """Traces the steps of a span, and the next ones whenever SIGUSR1 comes. A context manager.

    Every host that gets the signal traces itself.
    """

    def __init__(self, workdir: Path, span: range) -> None:
        self._folder, self._span = workdir / FOLDER, span
        self._asked, self._tracing = False, False
        self._previous = signal.getsignal(signal.SIGUSR1)

    def step_done(self, step: int) -> None:
        """Begins or ends a trace after so many updates; call it after every step."""
        if self._asked:
            self._asked, self._span = False, range(step, step + STEPS)
        if self._tracing and step >= self._span.stop:
            self._stop()
        elif not self._tracing and step in self._span:
            self._folder.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(self._folder)
            self._tracing = True

    def __enter__(self) -> "Profiler":
        signal.signal(signal.SIGUSR1, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._tracing:
            self._stop()
        signal.signal(signal.SIGUSR1, self._previous or signal.SIG_DFL)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _stop(self) -> None:
        self._tracing = False
        jax.profiler.stop_trace()
        logging.info("profile of steps to %d: %s", self._span.stop, self._folder)
