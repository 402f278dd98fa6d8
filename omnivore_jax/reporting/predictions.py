"""A page of files and what a model says of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from omnivore_jax.core.files import write_text
from omnivore_jax.core.types import Kind
from omnivore_jax.reporting import render, sheets

SHOWN = 1000
"""Files on the page: each is a picture in it."""


class Row(NamedTuple):
    """A file, how it was seen, and the best classes with their probabilities."""

    name: str
    kind: Kind
    head: str
    view: str
    answers: Sequence[tuple[str, float]]
    fault: str
    rgb: UInt8[np.ndarray, "t h w 3"] | None
    disparity: Float[np.ndarray, "t h w 1"] | None


class Picture(NamedTuple):
    """What the page shows of a file: some frames, and its disparity in false colours."""

    frames: UInt8[np.ndarray, "t h w 3"]
    depth: UInt8[np.ndarray, "t h w 3"] | None


def write_predictions(path: Path, weights: str, rows: Sequence[Row]) -> None:
    """Draws the page.

    Raises:
        UserError: the disk does not take it.

    """
    page = (
        render.environment()
        .get_template("predictions.html")
        .render(
            weights=weights,
            rows=[(row, _picture(row)) for row in rows[:SHOWN]],
            count=len(rows),
            most=sheets.FRAMES["samples"],
        )
    )
    write_text(path, page)


def _picture(row: Row) -> Picture | None:
    if row.rgb is None:
        return None
    frames = sheets.some_frames(row.rgb[None], sheets.FRAMES["samples"])
    depth = None
    if row.disparity is not None:
        depth = sheets.thumbnails(sheets.false_colours(row.disparity[None]))[0]
    return Picture(sheets.thumbnails(frames)[0], depth)
