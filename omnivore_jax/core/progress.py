"""The line that tells a person how a run is going: live on a terminal, now and then elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import psutil
from absl import logging

from omnivore_jax.core import dist

REFRESH = 0.25
"""Seconds between two drawings of the live line."""


SHOWN = {"loss", "count", "correct"}
"""Sums of a dataset that the line tells; a task need not have all but the first two."""
COUNTED = 20
"""Steps before the time left is told; steps during which a program compiles do not count."""


class _Moment(NamedTuple):
    """One step as it was reported, with the seconds since the report before it."""

    seconds: float
    waited: float
    datasets: Mapping[str, Mapping[str, Any]]
    compiles: bool


class Progress:
    """Shows a line over the last `every` steps. A context manager.

    A terminal gets its live line back when it ends.

    On a terminal the line is renewed with every step, elsewhere it is logged every `every` steps.
    Processes other than the first show nothing.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start: int = 0,
        every: int = 100,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`start`: steps done before, in an earlier process. `live`.

        By default, whether stderr is a terminal.
        """
        if every < 1:
            raise ValueError(f"log.every={every}; use 1 or more steps")
        self._total, self._every = total_steps, every
        self._live = (sys.stderr.isatty() if live is None else live) and dist.is_primary()
        self._clock, self._idle = clock, 0.0
        self._window: deque[_Moment] = deque(maxlen=every)
        self._pace: deque[float] = deque(maxlen=max(every, 5 * COUNTED))
        self._last, self._waited, self._step = clock(), 0.0, start
        self._signatures: set[frozenset[str]] = set()
        self._shown: dict[str, str] = {}
        self._display, self._drawn = None, clock() - REFRESH

    def update(
        self, step: int, metrics: Mapping[str, Any], epoch: float, waited: float = 0.0
    ) -> None:
        """Takes the figures of a step: what the train step returns, fetched from the device.

        Args:
            step: updates done.
            metrics: `learning_rate`, and in `datasets` the sums of each dataset in the step.
            epoch: passes done, for display.
            waited: seconds that the run has waited for data since it started.

        """
        self._add(step, metrics["datasets"], waited)
        if self._display is not None:
            self._draw(step, metrics, epoch)
        elif dist.is_primary() and (step % self._every == 0 or step == self._total):
            logging.info("%s", self._line(step, metrics, epoch))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keeps an evaluation or a save out of the speed and out of the time left."""
        began = self._clock()
        try:
            yield
        finally:
            self._idle += self._clock() - began

    def times(self) -> dict[str, Any]:
        """The figures of the last `every` steps that a repeated run does not give again.

        A row for timing.jsonl.
        """
        steps, seconds, waited, samples = self._totals()
        return {
            "steps_per_second": steps / seconds,
            "wait_share": waited / seconds,
            "samples_per_second": {name: count / seconds for name, count in samples.items()},
            **memory(),
        }

    def __enter__(self) -> "Progress":
        if self._live:
            from rich.console import Console
            from rich.live import Live

            self._display = Live(
                "", console=Console(file=sys.stderr), transient=True, redirect_stdout=False
            )
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None

    def _draw(self, step: int, metrics: Mapping[str, Any], epoch: float) -> None:
        from rich.text import Text

        if self._display is not None and self._clock() - self._drawn >= REFRESH:
            self._drawn = self._clock()
            self._display.update(Text(self._line(step, metrics, epoch)))

    def _add(self, step: int, datasets: Mapping[str, Any], waited: float) -> None:
        now, signature = self._now(), frozenset(datasets)
        new = signature not in self._signatures
        self._signatures.add(signature)
        if new and self._window:
            # Figures come one step late: its program was compiled before the report of the last.
            before = self._window.pop()
            self._window.append(before._replace(compiles=True))
            if not before.compiles:
                self._pace.pop()
        moment = _Moment(now - self._last, waited - self._waited, datasets, new)
        self._window.append(moment)
        if not new:
            self._pace.append(moment.seconds / max(step - self._step, 1))
        self._last, self._waited, self._step = now, waited, step

    def _now(self) -> float:
        return self._clock() - self._idle

    def _totals(self) -> tuple[int, float, float, dict[str, float]]:
        """Steps, seconds, seconds waited and samples by dataset, without steps that compile."""
        moments = [moment for moment in self._window if not moment.compiles]
        samples: dict[str, float] = {}
        for moment in moments:
            for name, sums in moment.datasets.items():
                samples[name] = samples.get(name, 0.0) + float(sums["count"])
        seconds = max(sum(moment.seconds for moment in moments), 1e-9)
        return len(moments), seconds, sum((moment.waited for moment in moments), 0.0), samples

    def _sums(self) -> dict[str, dict[str, float]]:
        """Every dataset's sums over the window: loss, count, and correct where it is counted."""
        totals: dict[str, dict[str, float]] = {}
        for moment in self._window:
            for name, sums in moment.datasets.items():
                total = totals.setdefault(name, {})
                for key in SHOWN & sums.keys():
                    total[key] = total.get(key, 0.0) + float(sums[key])
        return totals

    def _line(self, step: int, metrics: Mapping[str, Any], epoch: float) -> str:
        _, seconds, waited, samples = self._totals()
        for name, sums in self._sums().items():  # a dataset that is rare keeps its last figures
            self._shown[name] = _dataset(name, sums, samples.get(name, 0.0) / seconds)
        parts = [
            f"{step:,}/{self._total:,} epoch {epoch:.1f} lr {float(metrics['learning_rate']):.1e}",
            *(self._shown[name] for name in sorted(self._shown)),
            f"wait {100 * waited / seconds:.0f}% {_memory_text()} eta {self._left(step)}",
        ]
        return " | ".join(parts)

    def _left(self, step: int) -> str:
        if step >= self._total:
            return _duration(0.0)
        if len(self._pace) < COUNTED:
            return "..."
        return _duration((self._total - step) * sum(self._pace) / len(self._pace))


def memory() -> dict[str, int]:
    """Bytes that this process has in use, and its first device, where that is known."""
    used = {"host_bytes": psutil.Process().memory_info().rss}
    stats = jax.local_devices()[0].memory_stats() or {}
    return used | ({"device_bytes": stats["bytes_in_use"]} if "bytes_in_use" in stats else {})


def _dataset(name: str, sums: Mapping[str, float], rate: float) -> str:
    """Mean loss, accuracy where the task counts what is correct, samples a second."""
    count = max(sums["count"], 1)
    accuracy = f" {sums['correct'] / count:.0%}" if "correct" in sums else ""
    return f"{name} {sums['loss'] / count:.2f}{accuracy} {rate:,.0f}/s"


def _memory_text() -> str:
    used = memory()
    on_device = f"+{used['device_bytes'] / 2**30:.1f}" if "device_bytes" in used else ""
    return f"mem {used['host_bytes'] / 2**30:.1f}{on_device}G"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
