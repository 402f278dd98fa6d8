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


class _Moment(NamedTuple):
    """One step as it was reported."""

    step: int
    seconds: float
    waited: float
    datasets: Mapping[str, Mapping[str, Any]]


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
        self._window: deque[_Moment] = deque([_Moment(start, clock(), 0.0, {})], maxlen=every + 1)
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
        self._window.append(_Moment(step, self._now(), waited, metrics["datasets"]))
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
        steps, seconds, waited, sums = self._totals()
        return {
            "steps_per_second": steps / seconds,
            "wait_share": waited / seconds,
            "samples_per_second": {
                name: figures["count"] / seconds for name, figures in sums.items()
            },
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

    def _now(self) -> float:
        return self._clock() - self._idle

    def _totals(self) -> tuple[int, float, float, dict[str, dict[str, float]]]:
        """Steps, seconds, seconds waited and every dataset's sums over the window."""
        first, *rest = self._window
        last = self._window[-1]
        sums: dict[str, dict[str, float]] = {}
        for moment in rest:
            for name, figures in moment.datasets.items():
                total = sums.setdefault(name, {"loss": 0.0, "count": 0.0, "correct": 0.0})
                for key in total:
                    total[key] += float(figures[key])
        return (
            last.step - first.step,
            max(last.seconds - first.seconds, 1e-9),
            last.waited - first.waited,
            sums,
        )

    def _line(self, step: int, metrics: Mapping[str, Any], epoch: float) -> str:
        steps, seconds, waited, sums = self._totals()
        for name, figures in sums.items():  # a dataset that is rare keeps its last figures
            self._shown[name] = _dataset(name, figures, seconds)
        left = (self._total - step) * seconds / max(steps, 1)
        parts = [
            f"{step:,}/{self._total:,} epoch {epoch:.1f} lr {float(metrics['learning_rate']):.1e}",
            *(self._shown[name] for name in sorted(self._shown)),
            f"wait {100 * waited / seconds:.0f}% {_memory_text()} eta {_duration(left)}",
        ]
        return " | ".join(parts)


def memory() -> dict[str, int]:
    """Bytes that this process has in use, and its first device, where that is known."""
    used = {"host_bytes": psutil.Process().memory_info().rss}
    stats = jax.local_devices()[0].memory_stats() or {}
    return used | ({"device_bytes": stats["bytes_in_use"]} if "bytes_in_use" in stats else {})


def _dataset(name: str, figures: Mapping[str, float], seconds: float) -> str:
    count = max(figures["count"], 1)
    return f"{name} {figures['loss'] / count:.2f} {figures['correct'] / count:.0%} {figures['count'] / seconds:,.0f}/s"


def _memory_text() -> str:
    used = memory()
    on_device = f"+{used['device_bytes'] / 2**30:.1f}" if "device_bytes" in used else ""
    return f"mem {used['host_bytes'] / 2**30:.1f}{on_device}G"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
