"""A whole conversion into a file of ours: opened, planned, every tensor accounted for, written with its card."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omnivore_jax import config as builder
from omnivore_jax.checkpoint import accounts, provenance
from omnivore_jax.checkpoint.bias_forms import Keep
from omnivore_jax.checkpoint.card import card_file, make_card
from omnivore_jax.checkpoint.class_names import class_names
from omnivore_jax.checkpoint.digests import write_at_once
from omnivore_jax.checkpoint.output import check_output, new_file
from omnivore_jax.checkpoint.source import Source, open_source
from omnivore_jax.checkpoint.surgery import Plan, check_finite, choose_heads, make_plan, parameter_count, target_config
from omnivore_jax.checkpoint.weights import read_safetensors, replace_card, sha256, write_safetensors
from omnivore_jax.core.command import UserError
from omnivore_jax.core.tree import unflatten
from omnivore_jax.core.types import Size
from omnivore_jax.model.embed import DepthEmbed
from omnivore_jax.model.functional import Params
from omnivore_jax.model.preprocess import Preprocessing

SUFFIX = ".safetensors"
Certify = Callable[[Params, Mapping[str, Any]], dict[str, Any]]
"""Compares a model with PyTorch's and says how far apart they are; raises UserError where that is too far."""


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


@dataclass(frozen=True)
class Done:
    """What was converted."""

    source: Source
    plan: Plan
    card: dict[str, Any]
    seconds: float

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


def convert(src: Path, dst: Path, request: Request, certify: Certify | None = None) -> Done:
    """Writes DST and the card beside it, or nothing; `certify` makes the certificate from parameters and card.

    Raises:
        UserError: something is wrong with the file, the request or the destination.

    """
    if dst.suffix != SUFFIX:
        raise UserError(f"{dst} should end in {SUFFIX}")
    for path in (dst, card_file(dst)):
        check_output(path)
    with timed() as seconds:
        source = open_source(
            src, variant=request.variant, prefix=request.prefix, window=request.window, weights=request.weights
        )
        plan = plan_for(source, request)
        card = card_for(source, plan, request)
        with new_file(dst) as draft:
            write_safetensors(draft, check_finite(plan, src, request.allow_nonfinite), card)
            if certify:
                params = {path: array.read() for path, array in read_safetensors(draft)[0].items()}
                card["certificate"] = certify(unflatten(params), card)
                replace_card(draft, card)
        write_at_once(card_file(dst), card)
    return Done(source, plan, card, seconds[0])


@contextmanager
def timed() -> Iterator[list[float]]:
    """Measures how long a block takes; the list holds it afterwards."""
    began, seconds = time.monotonic(), []
    yield seconds
    seconds.append(time.monotonic() - began)


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
