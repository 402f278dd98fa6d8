"""A whole conversion into a file of ours: opened, planned, every tensor accounted for, written with its card."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from omnivore_jax import config as builder
from omnivore_jax.checkpoint import accounts, provenance
from omnivore_jax.checkpoint.bias_forms import Keep
from omnivore_jax.checkpoint.card import card_file, make_card
from omnivore_jax.checkpoint.class_names import class_names
from omnivore_jax.checkpoint.lazy import Lazy
from omnivore_jax.checkpoint.load import read_params
from omnivore_jax.checkpoint.output import new_file
from omnivore_jax.checkpoint.source import Source, open_source
from omnivore_jax.checkpoint.surgery import Plan, check_finite, choose_heads, make_plan, parameter_count, target_config
from omnivore_jax.checkpoint.torch_names import torch_name
from omnivore_jax.checkpoint.weights import read_safetensors, replace_card, sha256, write_safetensors
from omnivore_jax.core.command import UserError
from omnivore_jax.core.types import Size
from omnivore_jax.model.embed import DepthEmbed
from omnivore_jax.model.functional import Params
from omnivore_jax.model.preprocess import Preprocessing

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Request:
    """What a conversion is asked for; by default the file's own model."""

    variant: str | None = None
    prefix: str | None = None
    heads: Sequence[str] | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    window: Size | None = None
    position_bias: Literal["joint", "factored"] | None = None
    depth_embed: DepthEmbed | None = None
    allow_missing: tuple[str, ...] = ()
    allow_unused: tuple[str, ...] = ()
    allow_lossy: bool = False
    allow_nonfinite: bool = False
    keep: Keep = "all"
    licence: str | None = None
    seed: int = 0
    weights: Literal["ema", "params"] = "ema"


@dataclass
class Conversion:
    """What is converted, and how."""

    source: Source
    plan: Plan
    card: dict[str, Any]
    seconds: float = 0.0

    @property
    def arrays(self) -> dict[str, Lazy]:
        """All parameters of the result, by path."""
        return self.plan.arrays

    def untouched(self) -> dict[str, np.ndarray] | None:
        """The tensors of a PyTorch file by released name, where the result has all of them as they are."""
        taken = {row.path for row in self.plan.rows if row.kind == "matched"}
        if not self.source.tensors or taken != self.arrays.keys() or self.plan.heads != self.source.heads:
            return None
        return {torch_name(path): tensor.read() for path, tensor in self.source.tensors.items() if path in taken}

    def json(self) -> dict[str, Any]:
        """All of it, for programs."""
        rows = [row._asdict() for row in self.plan.rows]
        figures = {
            "layout": self.source.layout,
            "parameters": parameter_count(self.plan),
            "seconds": round(self.seconds, 2),
        }
        skipped = {"buffers": len(self.source.buffers), "training": len(self.source.training)}
        return figures | {"skipped": skipped, "card": self.card, "table": rows}

    def text(self) -> str:
        """What a person wants to know."""
        config, heads = self.plan.config, self.plan.heads
        lines = [
            f"{self.source.path}: {self.source.layout}, {config.name}",
            f"window {config.window}, {config.position_bias} position bias, heads {heads or 'none'}, "
            f"{parameter_count(self.plan):,} parameters",
            *accounts.lines(self.plan.rows),
        ]
        skipped = f"{len(self.source.buffers)} buffers, {len(self.source.training)} entries of the trainer"
        certificate = self.card["certificate"].get("status", "")
        return "\n".join(
            [*lines, f"left out as no weights: {skipped}", f"certificate: {certificate}", f"{self.seconds:.1f} s"]
        )


Certify = Callable[[Conversion, Params], dict[str, Any]]
"""Compares the result, whose parameters it is given, with PyTorch's; raises UserError where that is asked and fails."""


def convert(src: Path, dst: Path, request: Request, certify: Certify | None = None) -> Conversion:
    """Writes DST and the card beside it, or nothing.

    Raises:
        UserError: something is wrong with the file, the request or the destination.

    """
    if dst.suffix != SUFFIX:
        raise UserError(f"{dst} should end in {SUFFIX}")
    with started(src, request) as job, new_weights(dst, job.card) as draft:
        write_safetensors(draft, job.arrays, job.card)
        if certify:
            job.card["certificate"] = certify(job, read_params(read_safetensors(draft)[0]))
            replace_card(draft, job.card)
    return job


@contextmanager
def started(src: Path, request: Request) -> Iterator[Conversion]:
    """Opens and plans a conversion; knows afterwards how long the block took.

    Raises:
        UserError: something is wrong with the file or the request.

    """
    began = time.monotonic()
    source = open_source(
        src, variant=request.variant, prefix=request.prefix, window=request.window, weights=request.weights
    )
    plan = plan_for(source, request)
    arrays = check_finite(plan, src, request.allow_nonfinite)
    job = Conversion(source, replace(plan, arrays=arrays), card_for(source, plan, request))
    yield job
    job.seconds = time.monotonic() - began


@contextmanager
def new_weights(dst: Path, card: Mapping[str, Any]) -> Iterator[Path]:
    """Gives a draft for a file of weights (output.new_file); both it and the card beside it come about, or neither."""
    with new_file(card_file(dst)) as beside, new_file(dst) as draft:
        yield draft
        beside.write_text(json.dumps(card, indent=1) + "\n")


def plan_for(source: Source, request: Request) -> Plan:
    """Plans what a request asks for, and checks that nothing is missing or left over without permission."""
    changes = {"position_bias": request.position_bias, "depth_embed": request.depth_embed}
    config = target_config(source, request.window, **{key: value for key, value in changes.items() if value})
    heads = choose_heads(request.heads, source.heads)
    plan = make_plan(source, config, heads, lossy=request.allow_lossy, keep=request.keep, seed=request.seed)
    asked = tuple(f"heads.{name}.*" for name, head in heads.items() if head.source is None)
    taken = {head.source for head in heads.values()}
    dropped = tuple(source.names[p] for p in source.arrays if p.startswith("heads.") and p.split(".")[1] not in taken)
    accounts.check_accounted(
        plan.rows, source.path, (*request.allow_missing, *asked), (*request.allow_unused, *dropped)
    )
    return plan


def card_for(source: Source, plan: Plan, request: Request) -> dict[str, Any]:
    """Describes the result; what a card of the source says of its heads goes on."""
    held: Mapping[str, Any] = source.card or {}
    for head in request.classes:
        if head not in plan.heads:
            raise UserError(f"--classes={head}=...: the result has the heads {plan.heads}; name one of them")
    inputs = (
        provenance.inputs_of(source.heads, plan.config.window[2]) if source.card is None else held.get("inputs", {})
    )
    licence = provenance.licence_of(source.layout) if source.card is None else held.get("licence", "")
    kept = plan.head_sources
    names = {new: held["classes"][old] for new, old in kept.items() if old in held.get("classes", {})}
    named = {head: class_names(given, plan.heads[head]) for head, given in request.classes.items()}
    specs = {new: _preprocessing(held, old) for new, old in kept.items()}
    origin = {"file": source.path.name, "layout": source.layout}
    if source.path.is_file():
        origin["sha256"] = sha256(source.path)
    if held.get("source"):
        origin["before"] = held["source"]
    return make_card(
        plan.config,
        plan.heads,
        specs,
        classes=names | named,
        inputs={new: inputs[old] for new, old in kept.items() if old in inputs},
        source=origin,
        licence=request.licence or licence,
    )


def _preprocessing(card: Mapping[str, Any], head: str) -> Preprocessing:
    """The source's, or that of released weights."""
    return builder.build(Preprocessing, card.get("preprocessing", {}).get(head, {}), head)
