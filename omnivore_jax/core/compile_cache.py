"""Keeps compiled programs on the disk, so that a run that is started again does not compile again.

Only a command opens the cache: in a notebook the settings of JAX are not ours.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from omnivore_jax.core.memory import return_after_compilation

OFF = "off"
MIN_SECONDS = 1.0
"""Programs that compile faster are not kept."""
EVENTS = {
    "/jax/compilation_cache/cache_hits": "hits",
    "/jax/compilation_cache/cache_misses": "misses",
}


def folder(choice: str) -> Path | None:
    """Says where programs are kept: the folder chosen, by default that of this user; None: off.

    What JAX was told already, by JAX_COMPILATION_CACHE_DIR for example, wins over the default.
    """
    if choice == OFF:
        return None
    chosen = choice or _present()
    if chosen:
        return Path(chosen)
    return cache_home() / "jax"


def cache_home() -> Path:
    """Names the folder of what this user could do without: $XDG_CACHE_HOME/omnivore_jax."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "omnivore_jax"


def open_cache(choice: str) -> Callable[[], str]:
    """Makes JAX keep its programs, and no memory of its compiler; call before the first one.

    Returns what says, at any later time, where they are and how many came from there.
    """
    return_after_compilation()
    place = folder(choice)
    if place is None:
        jax.config.update("jax_enable_compilation_cache", False)
        return lambda: "compile cache: off"
    if str(place) != _present():
        jax.config.update("jax_compilation_cache_dir", str(place))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    counts: Counter[str] = Counter()

    def count(event: str, **_: object) -> None:
        if event in EVENTS:
            counts[EVENTS[event]] += 1

    jax.monitoring.register_event_listener(count)
    return lambda: f"compile cache: {place}, {counts['hits']} hits, {counts['misses']} misses"


def _present() -> str | None:
    config: Any = jax.config  # its names are made at run time
    return config.jax_compilation_cache_dir
