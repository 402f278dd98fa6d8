"""Waits, within a bound, for what another process does on a disk that hosts share."""

import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_PAUSE, MAX_PAUSE = 0.01, 1.0


@dataclass(frozen=True)
class Patience:
    """How long to wait: a network disk shows a file up to a minute after another host wrote it."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until(self, condition: Callable[[], bool]) -> bool:
        """Asks until `condition()` holds, less and less often; says whether it came to hold."""
        end, pause = self.clock() + self.seconds, FIRST_PAUSE
        while not condition():
            left = end - self.clock()
            if left <= 0:
                return False
            self.sleep(min(pause, left))
            pause = min(2 * pause, MAX_PAUSE)
        return True
