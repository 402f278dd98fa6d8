"""Where the wall time of a run goes; the share of its steps is its goodput.

A process accounts for its own life. Every row of timing.jsonl has the account so far, so that a
report can add up the lives of a run that was stopped and started again (reporting/goodput.py).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import jax
import psutil

Activity = Literal["start", "step", "checkpoint", "evaluation"]
COMPILING = (
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
"""Events of JAX that take place one after another; programs of the cache are read in the last."""


class WallTime:
    """The account of this process. A context manager; made in the thread that trains.

    What is compiled while something else goes on counts as compilation.
    """

    def __init__(
        self,
        from_step: int = 0,
        began: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`from_step`: updates done before; `began`: seconds of `clock`; None: of the process."""
        self._from_step, self._clock = from_step, clock
        self._began = psutil.Process().create_time() if began is None else began
        self._since = self._began
        self._now: list[str] = ["start"]
        self._spent = {"start": 0.0, "step": 0.0, "checkpoint": 0.0, "evaluation": 0.0}
        self._spent["compile"] = 0.0

    @contextmanager
    def spent_on(self, activity: Activity) -> Iterator[None]:
        """Books the time of a block; that of a block within it is booked there alone."""
        self._book()
        self._now.append(activity)
        try:
            yield
        finally:
            self._book()
            self._now.pop()

    def row(self, waited: float) -> dict[str, Any]:
        """Gives the account so far; `waited`: seconds of the steps that were waited for data.

        `began` and `at` are seconds since 1970: of the process, and of this row.
        """
        self._book()
        spent = self._spent | {"step": self._spent["step"] - waited, "data": waited}
        return {
            "began": self._began,
            "at": self._since,
            "from_step": self._from_step,
            "seconds": spent,
        }

    def __enter__(self) -> "WallTime":
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)

    def _book(self) -> None:
        now = self._clock()
        self._spent[self._now[-1]] += now - self._since
        self._since = now

    def _listen(self, event: str, duration_secs: float, **_: object) -> None:
        if event in COMPILING:
            self._spent["compile"] += duration_secs
            self._spent[self._now[-1]] -= duration_secs
