"""Models as StableHLO programs: one file a head, which JAX runs anywhere without this package.

    from jax import export
    logits = export.deserialize(open("image.stablehlo", "rb").read()).call(x)

x is float32 [b, t, h, w, 3 or 4], standardised as card.json says, with any b.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import new_folder, sha256, write_bytes, write_json
from omnivore_jax.core.types import Kind
from omnivore_jax.inference.trained import TrainedModel
from omnivore_jax.model.heads import linear_heads
from omnivore_jax.model.params import abstract_model, merge

CARD, SUFFIX = "card.json", ".stablehlo"
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

    def json(self) -> dict[str, Any]:
        """Describes it for the card."""
        return {
            "file": f"{self.head}{SUFFIX}",
            "modality": self.kind,
            "input": ["b", *self.shape],
            "largest_difference": self.difference,
        }


def make_program(
    trained: TrainedModel, head: str, shape: Shape, platforms: Sequence[str]
) -> Program:
    """Exports one head, for a batch of any size, and checks it against the model.

    Raises:
        UserError: the head has no modality, JAX does not know a platform, or the program differs.

    """
    kind = trained.modalities.get(head)
    if kind is None:
        raise UserError(f"head {head!r} of {trained.path} has no modality in its card; add one")
    protocol = trained.protocol_for(kind)
    size, frames = shape.size or protocol.size, protocol.frames
    if kind == "video" and shape.frames:
        frames = shape.frames
    sample = (frames, size, size, 4 if kind == "rgbd" else 3)
    model = trained.model
    # one backend for all platforms: what is not plain XLA runs on one of them alone
    compute = replace(model.compute, attention="xla") if len(platforms) > 1 else model.compute
    graphdef = abstract_model(model.config, model.heads)[0]

    def run(x: jax.Array) -> Any:
        return merge(graphdef, model.params)(x, head, compute=compute)

    (batch,) = export.symbolic_shape("b")
    try:
        exported = export.export(jax.jit(run), platforms=tuple(platforms))(
            jax.ShapeDtypeStruct((batch, *sample), jnp.float32)
        )
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"head {head!r} cannot be exported for {platforms}: {error}") from error
    code = bytes(exported.serialize())
    return Program(head, kind, sample, code, _difference(trained, head, sample, code))


def write_programs(folder: Path, trained: TrainedModel, programs: Sequence[Program]) -> None:
    """Writes programs and their card; the folder comes about whole or not at all.

    Raises:
        UserError: the destination is something else, or cannot be written.

    """
    card = dict(trained.model.card or {})
    with new_folder(folder, "exported model", _others) as draft:
        rows = {}
        for program in programs:
            file = draft / f"{program.head}{SUFFIX}"
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


def _difference(trained: TrainedModel, head: str, sample: Sequence[int], code: bytes) -> float:
    """Runs what was written beside the model on inputs of every batch size.

    Raises:
        UserError: they differ by more than rounding.

    """
    program, rng, worst = export.deserialize(bytearray(code)), np.random.default_rng(0), 0.0
    if jax.default_backend() not in program.platforms:
        raise UserError(
            f"--platforms={','.join(program.platforms)} cannot be checked on this machine, which "
            f"has {jax.default_backend()}; add it"
        )
    for batch in BATCHES:
        x = rng.normal(size=(batch, *sample)).astype(np.float32)
        want = np.asarray(trained.model(x, head))
        gap = np.abs(np.asarray(program.call(x)) - want).max() / np.abs(want).max()
        worst = max(worst, float(gap))
    if not worst <= TOLERANCE:
        raise UserError(f"head {head!r}: the program differs by {worst:.1e}; nothing is written")
    return worst


def _others(names: set[str]) -> set[str]:
    """Names that are not ours; all of them where there is no card."""
    if CARD not in names:
        return names
    return {name for name in names if name != CARD and not name.endswith(SUFFIX)}
