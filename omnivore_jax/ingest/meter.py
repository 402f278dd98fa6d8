"""Progress of preparing and verifying: what is done, and when the rest will be."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""


@contextmanager
def show_progress(total: int, what: str = "files") -> Iterator[Callable[[], None]]:
    """Shows what is done and when the rest will be, on the error stream.

    A bar on a terminal, else a line at times.
    """
    if not sys.stderr.isatty():
        yield _lines(total, what)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _lines(total: int, what: str) -> Callable[[], None]:
    began = last = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if now - last >= EVERY or done == total:
            last = now
            left = (now - began) * (total - done) / done
            print(
                f"{done} of {total} {what}, {done / max(now - began, 1e-9):,.0f} a second, "
                f"{left:,.0f} s left",
                file=sys.stderr,
            )

    return advance
