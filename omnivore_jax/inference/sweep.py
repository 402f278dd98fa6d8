"""One evaluation again and again with one thing changed: clip length, modality, scale of depth.

Figure 5 of the paper is the sweep over clip lengths: clips get shorter and as many more, so that
the video stays covered; a clip of one frame is an image.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import write_json
from omnivore_jax.inference import score_table
from omnivore_jax.inference.exam import Request, prepare_exam, score
from omnivore_jax.inference.hall import Hall
from omnivore_jax.inference.trained import open_trained

LENGTHS = ("1", "2", "4", "8", "16", "32")
MODES = ("all", "rgb", "depth")
SCALES = ("0.25", "0.5", "1", "2", "4", "8")


class Axis(NamedTuple):
    """What is changed."""

    values: Sequence[str]
    """By default."""
    change: Callable[[Request, str], Request]
    title: str


AXES: Mapping[str, Axis] = {
    "clip_length": Axis(LENGTHS, lambda r, v: r._replace(frames=int(v)), "frames of a clip"),
    "mode": Axis(MODES, lambda r, v: r._replace(mode=v), "what of RGB-D is shown"),
    "depth_scale": Axis(
        SCALES, lambda r, v: r._replace(depth_scale=float(v)), "depth multiplied by"
    ),
}


def requests(over: str, values: Sequence[str], request: Request) -> dict[str, Request]:
    """Makes the request of every value.

    Raises:
        UserError: a value means nothing there.

    """
    axis = AXES[over]
    made = {}
    for value in values or axis.values:
        try:
            made[value] = axis.change(request, value)
            if over == "mode" and value not in MODES or over != "mode" and float(value) <= 0:
                raise ValueError(value)
        except ValueError as error:
            known = ", ".join(MODES) if over == "mode" else "numbers above 0"
            raise UserError(f"--values={value} means nothing to {over}; use {known}") from error
    return made


def run_sweep(
    weights: Sequence[str], asked: Mapping[str, Request], hall: Hall, out: Path
) -> Iterator[dict[str, Any]]:
    """Scores all weights at all values; those that `out` holds already are only given again.

    Raises:
        UserError: weights or dataset are not there or do not fit, or the disk takes no more.

    """
    rows = read(out)
    known = {json.dumps([row["weights"], row["value"], row["asked"]]): row for row in rows}
    for name in weights:
        trained = open_trained(Path(name))
        exams = {value: prepare_exam(trained, request) for value, request in asked.items()}
        for value, exam in exams.items():
            request = asked[value]._asdict()
            key = json.dumps([name, value, request])
            if key not in known:
                figures = score_table.figures(score(trained, exam, hall))
                figures.pop("classes", None)
                known[key] = {"weights": name, "value": value, "asked": request, **figures}
                rows.append(known[key])
                write_json(out, {"rows": rows})
            yield known[key]


def read(path: Path) -> list[dict[str, Any]]:
    """Reads what a sweep has found so far.

    Raises:
        UserError: the file holds something else.

    """
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())["rows"]
        if not all({"weights", "value", "asked"} <= row.keys() for row in rows):
            raise ValueError("rows without weights, value or asked")
        return rows
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--out={path} holds no sweep ({error}); name another file") from error
