"""A page of queries and what they found, nearest first (paper, Figs. 1 and 4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omnivore_jax.core.files import write_text
from omnivore_jax.data.sample import Sample
from omnivore_jax.reporting import render, sheets


class Shown(NamedTuple):
    """A sample on the page."""

    name: str
    """Its class, or its id."""
    frames: Any
    """uint8 [t h w 3]: its picture, frames of its clip, or its disparity in false colours."""
    similarity: float = 1.0
    right: bool | None = None
    """Whether it has the query's class; None where that is not known."""


def shown(sample: Sample, mode: str, name: str, **more: Any) -> Shown:
    """Makes small frames of a sample, of depth alone where that is what the model saw."""
    frames = sample.rgb
    if mode == "depth" and sample.disparity is not None:
        frames = sheets.false_colours(np.asarray(sample.disparity)[None])[0]
    few = sheets.some_frames(frames[None], sheets.FRAMES["retrieval"])
    return Shown(name, sheets.thumbnails(few)[0], **more)


def write_retrieval(
    path: Path, lead: str, rows: Sequence[tuple[Shown, Sequence[Shown]]], figures: Any
) -> None:
    """Draws the page; `rows` are queries with their neighbours, `figures` those of the vote.

    Raises:
        UserError: the disk does not take it.

    """
    template = render.environment().get_template("retrieval_page.html")
    most = sheets.FRAMES["retrieval"]
    write_text(path, template.render(lead=lead, rows=rows, figures=figures, most=most))
