"""Scores the checkpoints of a run as they come, their EMA and the parameters themselves.

RUN/watch.jsonl    a line for each: step, weights, and the figures of `evaluate --json`

What is there is not scored again, so the command may be stopped and given again.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import write_text
from omnivore_jax.core.mirror import CHECKPOINTS
from omnivore_jax.inference import score_table
from omnivore_jax.inference.exam import Request, prepare_exam, score
from omnivore_jax.inference.hall import Hall
from omnivore_jax.inference.trained import trained_of
from omnivore_jax.weights.load import load_step

FILE = "watch.jsonl"
Weights = Literal["ema", "params"]
KINDS: tuple[Weights, ...] = get_args(Weights)


def score_new(folder: Path, request: Request, hall: Hall) -> Iterator[dict[str, Any]]:
    """Scores every finished checkpoint that has no line yet, the oldest first.

    A checkpoint that the run removes meanwhile is left out.

    Raises:
        UserError: the folder holds no run, the request does not fit it, or the disk does not take
        a line.

    """
    lines = read(folder)
    asked = request._asdict()
    there = {(row["step"], row["weights"]) for row in lines if row["asked"] == asked}
    for step in steps(folder):
        for weights in KINDS:
            if (step, weights) in there:
                continue
            try:
                trained = trained_of(folder, load_step(folder, step, weights))
            except UserError:
                if step in steps(folder):
                    raise
                break
            done = score(trained, prepare_exam(trained, request), hall)
            figures = score_table.figures(done)
            row = {"step": step, "weights": weights, "asked": asked, **figures}
            lines.append(row)
            write_text(folder / FILE, "".join(json.dumps(line) + "\n" for line in lines))
            yield row


def steps(folder: Path) -> list[int]:
    """Lists the steps of the checkpoints that are finished, the oldest first.

    Raises:
        UserError: the folder holds no run.

    """
    from omnivore_jax.checkpoint.steps import Steps

    checkpoints = folder / CHECKPOINTS
    if not checkpoints.is_dir():
        raise UserError(f"{folder} holds no checkpoints/; give the folder of a run")
    return sorted(Steps(checkpoints).sealed())


def read(folder: Path) -> list[dict[str, Any]]:
    """Reads the lines that are there.

    Raises:
        UserError: the file is damaged.

    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it") from error
