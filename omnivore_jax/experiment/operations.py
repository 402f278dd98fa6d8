"""What watches over the steps of a run: where its time goes, traces, and whether it hangs."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import jax

from omnivore_jax.core.peak import peak_teraflops
from omnivore_jax.core.profiler import Profiler, parse_span
from omnivore_jax.core.wall_time import WallTime
from omnivore_jax.core.watchdog import Watchdog
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.model.attention.base import platform
from omnivore_jax.train.estimate import PASSES


class Watch:
    """All of it for one process. A context manager; made in the thread that trains."""

    def __init__(self, settings: Settings, workdir: Path, start: int) -> None:
        """`start`: updates done before."""
        hardware = settings.hardware
        stated = hardware.teraflops if hardware.platform == platform() else None
        self._peak = peak_teraflops(stated)
        self._flops = {
            name: PASSES["none"] * settings.forward_flops(name) for name in settings.datasets
        }
        self._profiler = Profiler(workdir, parse_span(settings.log.profile))
        self._watchdog = Watchdog(settings.log.hang_minutes)
        self._stack = ExitStack()
        self.wall = WallTime(start)

    def step_done(self, step: int) -> None:
        """Takes note of an update; call it after every step."""
        self._watchdog.alive()
        self._profiler.step_done(step)

    def use(self, samples_per_second: Mapping[str, float]) -> dict[str, float]:
        """Computes the share of the devices' peak that the model's FLOPs take (MFU).

        What remat computes again does not count. Empty where the peak is not known.
        """
        if self._peak is None:
            return {}
        flops = sum(self._flops[name] * rate for name, rate in samples_per_second.items())
        return {"mfu": flops / (jax.device_count() * self._peak * 1e12)}

    def __enter__(self) -> "Watch":
        for part in (self.wall, self._profiler, self._watchdog):
            self._stack.enter_context(part)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
