"""Exported programs: one file a head and a card, that run without this package.

OUT/HEAD.stablehlo, OUT/HEAD.onnx    take float32 [b, t, h, w, 3 or 4], standardised, with any b
OUT/card.json                        classes, statistics, shapes, differences to the model
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import new_folder, sha256, write_bytes, write_json
from omnivore_jax.core.types import Kind
from omnivore_jax.inference.trained import TrainedModel
from omnivore_jax.model.heads import linear_heads

CARD = "card.json"
SUFFIXES = {"stablehlo": ".stablehlo", "onnx": ".onnx"}
TOLERANCE = 1e-4
"""Largest difference to the model, in units of its largest output."""
BATCHES = (1, 3)
"""Sizes that a program is checked with."""


class Shape(NamedTuple):
    """Frames and size of the inputs; 0: what the weights were trained with."""

    frames: int = 0
    size: int = 0


@dataclass(frozen=True)
class Program:
    """What was exported of one head, and how near it comes to the model."""

    head: str
    kind: Kind
    shape: tuple[int, int, int, int]
    """Of one sample: [t, h, w, c]."""
    code: bytes
    difference: float
    """Largest of the checks, in units of the largest output."""
    format: str = "stablehlo"

    @property
    def file(self) -> str:
        return self.head + SUFFIXES[self.format]

    def json(self) -> dict[str, Any]:
        """Describes it for the card."""
        return {
            "file": self.file,
            "modality": self.kind,
            "input": ["b", *self.shape],
            "largest_difference": self.difference,
        }


def sample_of(
    trained: TrainedModel, head: str, shape: Shape
) -> tuple[Kind, tuple[int, int, int, int]]:
    """Says what a head takes: its modality and the shape of one sample.

    Raises:
        UserError: the card does not say the modality.

    """
    kind = trained.modalities.get(head)
    if kind is None:
        raise UserError(f"head {head!r} of {trained.path} has no modality in its card; add one")
    protocol = trained.protocol_for(kind)
    size, frames = shape.size or protocol.size, protocol.frames
    if kind == "video" and shape.frames:
        frames = shape.frames
    return kind, (frames, size, size, 4 if kind == "rgbd" else 3)


def check_program(
    trained: TrainedModel, head: str, sample: Sequence[int], run: Callable[[Any], Any]
) -> float:
    """Runs what was written beside the model, with batches of every size; gives the difference.

    Raises:
        UserError: they differ by more than rounding.

    """
    rng, worst = np.random.default_rng(0), 0.0
    for batch in BATCHES:
        x = rng.normal(size=(batch, *sample)).astype(np.float32)
        want = np.asarray(trained.model(x, head))
        gap = np.abs(np.asarray(run(x)) - want).max() / np.abs(want).max()
        worst = max(worst, float(gap))
    if not worst <= TOLERANCE:
        raise UserError(f"head {head!r}: the program differs by {worst:.1e}; nothing is written")
    return worst


def write_programs(folder: Path, trained: TrainedModel, programs: Sequence[Program]) -> None:
    """Writes programs and their card; the folder comes about whole or not at all.

    Raises:
        UserError: the destination is something else, or cannot be written.

    """
    card = dict(trained.model.card or {})
    with new_folder(folder, "exported model", _others) as draft:
        rows = {}
        for program in programs:
            file = draft / program.file
            write_bytes(file, program.code)
            rows[program.head] = program.json() | {"sha256": sha256(file)}
        write_json(draft / CARD, card | {"programs": rows, "jax": jax.__version__})


def heads_of(trained: TrainedModel, asked: str) -> list[str]:
    """Lists the heads to export: the one asked for, or all linear ones whose modality is known.

    Raises:
        UserError: there is no such head, or none at all.

    """
    linear = linear_heads(trained.model.heads)
    if asked and asked not in linear:
        raise UserError(f"--head={asked}: {trained.path} has {', '.join(linear) or 'no heads'}")
    heads = [asked] if asked else [head for head in linear if head in trained.modalities]
    if not heads:
        raise UserError(f"{trained.path} has no classifier whose modality its card says")
    return heads


def _others(names: set[str]) -> set[str]:
    """Names that are not ours; all of them where there is no card."""
    if CARD not in names:
        return names
    return {name for name in names if name != CARD and not name.endswith(tuple(SUFFIXES.values()))}
