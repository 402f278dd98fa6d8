"""What a run tells: messages for a person, rows for programs, scalars for TensorBoard.

metrics.jsonl    what is the same to the bit when a run is repeated: one JSON object a line
timing.jsonl     what is not: times, rates, memory
tensorboard/     both, as scalars named by their path (datasets/imagenet/loss)
"""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from absl import logging

from omnivore_jax.core import dist
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import write_bytes

Row = Mapping[str, Any]
"""Figures by name, nested as deep as one likes.

Leaves are numbers (also of numpy), strings, lists or None.
"""


def setup(verbosity: int = logging.INFO) -> None:
    """Makes log messages short lines on stderr.

    Processes other than the first show only warnings, with their number.

    Call it once in a command, after `dist.initialize`.
    """
    import logging as standard

    process = "" if dist.is_primary() else f"[{jax.process_index()}] "
    handler = logging.get_absl_handler()
    handler.setFormatter(standard.Formatter(f"%(asctime)s {process}%(message)s", "%H:%M:%S"))
    handler.python_handler.stream = _Stderr()
    logging.use_absl_handler()
    logging.set_verbosity(verbosity if dist.is_primary() else logging.WARNING)


class MetricsWriter:
    """Writes the rows of a run in its workdir; on processes other than the first it does nothing.

    After a restart call `cut_back` before the first row. Every line reaches the operating system at
    once, so a killed process loses none; `flush` also survives the machine.
    """

    def __init__(self, workdir: Path | str, tensorboard: bool = True):
        self._active = dist.is_primary()
        self._tensorboard = tensorboard
        self._folder = Path(workdir)
        self._files: dict[str, IO[str]] = {}
        self._events = None
        self._restored = -1

    def write(self, step: int, row: Row) -> None:
        """Adds a row to metrics.jsonl: only what a repetition of the run gives again, bit by bit.

        Raises:
            ValueError: a figure is not finite, or no number, string, list or None.
            UserError: the disk does not take it.

        """
        self._write("metrics.jsonl", step, row)

    def write_times(self, step: int, row: Row) -> None:
        """Adds a row to timing.jsonl: seconds, samples a second, bytes."""
        self._write("timing.jsonl", step, row)

    def cut_back(self, step: int) -> None:
        """Drops the rows after `step`, the restored one, and a last line that a crash tore.

        -1 drops all rows.

        Raises:
            UserError: another line is not a row of ours.

        """
        self._restored = step
        path = self._folder / "metrics.jsonl"
        if not self._active or not path.exists():
            return
        self._close_files()
        kept = [line for number, line in _rows(path) if number <= step]
        write_bytes(path, b"".join(kept))

    def flush(self) -> None:
        """Brings everything to the disk.

        Call it before a checkpoint, which must never be ahead of its rows.
        """
        for name, file in self._files.items():
            with _one_line(self._folder / name):
                os.fsync(file.fileno())
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        self._close_files()
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, name: str, step: int, row: Row) -> None:
        if not self._active:
            return
        plain = _plain({"step": step, **row}, f"{name}, step {step}")
        with _one_line(self._folder / name):
            if name not in self._files:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._files[name] = (self._folder / name).open("a", buffering=1, encoding="utf-8")
            self._files[name].write(json.dumps(plain, sort_keys=True, allow_nan=False) + "\n")
            if self._tensorboard:
                self._scalars(step, plain)

    def _scalars(self, step: int, plain: Row) -> None:
        if self._events is None:
            from tensorboardX import SummaryWriter

            first = (
                self._restored + 1
            )  # TensorBoard forgets what an earlier process wrote from this step on
            suffix = f".{os.getpid()}.{first}"  # two starts within a second must not share a file
            self._events = SummaryWriter(
                str(self._folder / "tensorboard"), purge_step=first, filename_suffix=suffix
            )
        for path, value in _flat(plain):
            if isinstance(value, int | float) and path != "step":
                self._events.add_scalar(path, value, step)

    def _close_files(self) -> None:
        while self._files:
            name, file = self._files.popitem()
            with _one_line(self._folder / name):
                file.close()


class _Stderr:
    """Whatever stderr is at the moment.

    A live line on a terminal replaces it, to keep messages above itself.
    """

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def close(self) -> None:
        """Stays open: it is not ours."""


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turns a fault of the disk into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); mend that and start again"
        ) from error


def _rows(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields step and text of every whole line."""
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):  # torn; it is the last one
            return
        try:
            yield json.loads(line)["step"], line
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number} is not a row with a step; move the file away"
            ) from error


def _plain(value: Any, where: str) -> Any:
    """Turns numpy's numbers into Python's: their text is the shortest that gives the same bits."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{where}: {key}") for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner, where) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; only finite figures are recorded")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}; give numbers, strings, lists or None")


def _flat(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value
