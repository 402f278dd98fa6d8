"""What programs take of a host's memory: the order in which they compute, what compilers leave."""

import ctypes
import sys
from collections.abc import Mapping
from functools import cache

import jax

IN_ORDER = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
COMPILED = "/jax/core/compile/backend_compile_duration"
WORTH = 0.1
"""Seconds of a compilation from which what it leaves is given back."""


@cache
def in_order(platform: str) -> Mapping[str, str]:
    """Options of the compiler for programs of a model.

    For CPUs XLA orders a program so that much could run at once, and keeps what waits; operations
    use all cores by themselves. One after another they take fewer temporaries and no more time.
    Nothing for other platforms, and where this XLA does not know the option.
    """
    if platform != "cpu":
        return {}
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda: 0, compiler_options=IN_ORDER).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return IN_ORDER


@cache
def return_after_compilation() -> None:
    """Gives the system back, after every compilation, the memory that the compiler has freed.

    The allocator of glibc would keep it, hundreds of MiB for a training step. Elsewhere nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == COMPILED and duration_secs > WORTH:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(listen)
