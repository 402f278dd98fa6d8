"""A whole conversion into a file of ours.

Opened, planned, every tensor accounted for, written with its card.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from omnivore_jax.core import config as builder
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_other, check_output, new_file, sha256
from omnivore_jax.core.types import Size
from omnivore_jax.model.embed import DepthEmbed
from omnivore_jax.model.params import Params
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.weights import accounts, provenance
from omnivore_jax.weights.bias_forms import Keep
from omnivore_jax.weights.card import Origin, card_file, check_card_file, make_card
from omnivore_jax.weights.class_names import class_names
from omnivore_jax.weights.fit import (
    Plan,
    check_finite,
    choose_heads,
    make_plan,
    parameter_count,
    target_config,
)
from omnivore_jax.weights.lazy import LazyArray
from omnivore_jax.weights.load import read_params
from omnivore_jax.weights.opening import WeightsFile, open_weights
from omnivore_jax.weights.safetensors import read_safetensors, replace_card, write_safetensors
from omnivore_jax.weights.torch import certificate
from omnivore_jax.weights.torch.state_dict import State, torch_state

SUFFIX = ".safetensors"
SHOWN = 3
"""Outputs that an error names."""


@dataclass(frozen=True)
class Request:
    """What a conversion is asked for; by default the file's own model."""

    variant: str | None = None
    prefix: str | None = None
    heads: Sequence[str] | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    window: Size | None = None
    source_window: Size | None = None
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
    certificate: Literal["none", "recorded", "required"] = "none"
    """Whether the result is compared with PyTorch's, and whether it must pass."""


@dataclass
class Conversion:
    """What is converted, and how."""

    request: Request
    source: WeightsFile
    plan: Plan
    card: dict[str, Any]
    parameters: int
    not_finite: dict[str, int]
    """Numbers of values that are NaN or infinity, by path; known when the arrays have been read."""
    seconds: float = 0.0

    @property
    def arrays(self) -> dict[str, LazyArray]:
        """All parameters of the result, by path; none once the file is closed."""
        return self.plan.arrays

    @property
    def untouched(self) -> bool:
        """Whether the result has all tensors of a PyTorch file, and has them as they are."""
        taken = {row.path for row in self.plan.rows if row.kind == "matched"}
        return (
            taken == self.source.tensors.keys() == self.arrays.keys()
            and self.plan.heads == self.source.heads
        )

    def close(self) -> None:
        """Lets go of the file, whose mapped pages count as memory; what is told of it stays."""
        self.source = replace(self.source, arrays={}, tensors={})
        self.plan = replace(self.plan, arrays={})

    def certify(
        self, theirs: Callable[[], State], ours: Callable[[], Params], compared: str
    ) -> None:
        """Compares PyTorch with `theirs` and JAX with `ours`, and enters in the card how far they are apart.

        `compared` says what `theirs` is. A 2-D model is compared with its inflation, too.

        Raises:
            UserError: the certificate is required, and they are too far apart or PyTorch is missing.

        """
        if self.request.certificate == "none":
            return
        if self.not_finite:
            found = certificate.not_comparable(self.not_finite)
        else:
            what: dict[str, Any] = {"compared": compared, "flat": self._flat()}
            found = certificate.certify(self.plan.config, self.plan.heads, theirs, ours, **what)
        if self.request.certificate == "required" and found["status"] != certificate.PASSED:
            over = found.get("over", [])
            more = f" and {len(over) - SHOWN} more" if len(over) > SHOWN else ""
            where = f" ({', '.join(over[:SHOWN])}{more})" if over else ""
            raise UserError(
                f"{self.source.path} is not certified: {found['status']}{where}; nothing was "
                "written"
            )
        self.card["certificate"] = found

    def _flat(self) -> certificate.Flat | None:
        source, plan = self.source, self.plan
        if (
            not source.is_pytorch
            or source.config.patch[0] > 1
            or source.config.window[1:] != plan.config.window[1:]
        ):
            return None
        return certificate.Flat(source.config, source.heads, plan.head_sources, source.state)

    def json(self) -> dict[str, Any]:
        """All of it, for programs."""
        rows = [row._asdict() for row in self.plan.rows]
        figures = {
            "layout": self.source.layout,
            "parameters": self.parameters,
            "seconds": round(self.seconds, 2),
        }
        source = self.source
        skipped = {"buffers": source.buffers, "training": source.training, "others": source.others}
        skipped = {name: len(keys) for name, keys in skipped.items()}
        told = {"skipped": skipped, "not_finite": self.not_finite, "assumed": self._assumed()}
        return figures | told | {"card": self.card, "table": rows}

    def text(self) -> str:
        """What a person wants to know."""
        config, heads = self.plan.config, self.plan.heads
        lines = [
            f"{self.source.path}: {self.source.layout}, {config.name}",
            f"window {config.window}, {config.position_bias} position bias, heads "
            f"{heads or 'none'}, "
            f"{self.parameters:,} parameters",
            *accounts.lines(self.plan.rows),
        ]
        source = self.source
        skipped = {
            "buffers": source.buffers,
            "of the trainer": source.training,
            "of another model": source.others,
        }
        lines += [
            f"  {'left out':<12}{len(keys):>6,}  {name}" for name, keys in skipped.items() if keys
        ]
        lines += [
            f"  {'not finite':<12}{count:>6,}  values of {path}"
            for path, count in self.not_finite.items()
        ]
        lines += [f"assumed: {text}" for text in self._assumed()]
        return "\n".join(
            [*lines, *certificate.lines(self.card["certificate"]), f"{self.seconds:.1f} s"]
        )

    def _assumed(self) -> list[str]:
        """What a file of PyTorch's does not say, and a card of ours beside it would."""
        if self.source.card is None:
            means = dict.fromkeys(str(spec["mean"]) for spec in self.card["preprocessing"].values())
            texts = [
                f"inputs standardised with the released models' statistics (mean {mean})"
                for mean in means
            ]
            return ["the released window index", *texts]
        held = self.source.card.get("preprocessing", {})
        fresh = [head for head in self.plan.heads if self.plan.head_sources.get(head) not in held]
        return [f"inputs of head {head} standardised as those of another" for head in fresh if held]


def convert(src: Path, dst: Path, request: Request) -> Conversion:
    """Writes DST and the card beside it, or nothing.

    Raises:
        UserError: something is wrong with the file, the request or the destination.

    """
    if dst.suffix != SUFFIX:
        raise UserError(f"{dst} should end in {SUFFIX}")
    check_other(src, dst)
    with started(src, request) as job, new_weights(dst, job.card) as draft:
        write_safetensors(draft, job.arrays, job.card)
        as_it_is = job.untouched

        def theirs() -> State:
            return job.source.state() if as_it_is else torch_state(read_safetensors(draft)[0])

        def ours() -> Params:
            job.close()  # so that one side at a time is in memory
            return read_params(read_safetensors(draft)[0])

        job.certify(theirs, ours, "the file" if as_it_is else "the result")
        replace_card(draft, job.card)
    return job


@contextmanager
def started(src: Path, request: Request) -> Iterator[Conversion]:
    """Opens and plans a conversion; knows afterwards how long the block took.

    Raises:
        UserError: something is wrong with the file or the request.

    """
    began = time.monotonic()
    job = _planned(src, request)
    yield job
    job.seconds = time.monotonic() - began


def _planned(src: Path, request: Request) -> Conversion:
    source = open_weights(
        src,
        variant=request.variant,
        prefix=request.prefix,
        source_window=request.source_window,
        weights=request.weights,
    )
    plan = plan_for(source, request)
    not_finite: dict[str, int] = {}
    plan = replace(
        plan, arrays=check_finite(plan, src, not_finite if request.allow_nonfinite else None)
    )
    return Conversion(
        request, source, plan, card_for(source, plan, request), parameter_count(plan), not_finite
    )


@contextmanager
def new_weights(dst: Path, card: Mapping[str, Any]) -> Iterator[Path]:
    """Gives a draft for a file of weights (output.new_file), and writes the card beside it when the block ends.

    The weights come about first: they hold the card, or are told from those that an older card was written with.
    """
    check_output(dst)
    with new_file(card_file(dst)) as beside, new_file(dst) as draft:
        check_card_file(card_file(dst))
        yield draft
        beside.write_text(json.dumps(card, indent=1) + "\n")


def plan_for(source: WeightsFile, request: Request) -> Plan:
    """Plans what a request asks for, and checks that nothing is missing or left over without permission."""
    changes = {"position_bias": request.position_bias, "depth_embed": request.depth_embed}
    if request.keep == "image" and not request.allow_lossy:
        raise UserError("--keep-image says how --allow-lossy makes factored tables; give both")
    config = target_config(
        source, request.window, **{key: value for key, value in changes.items() if value}
    )
    heads = choose_heads(request.heads, source.heads)
    plan = make_plan(
        source, config, heads, lossy=request.allow_lossy, keep=request.keep, seed=request.seed
    )
    asked = tuple(f"heads.{name}.*" for name, head in heads.items() if head.source is None)
    taken = {head.source for head in heads.values()}
    dropped = tuple(
        source.names[p]
        for p in source.arrays
        if p.startswith("heads.") and p.split(".")[1] not in taken
    )
    accounts.check_accounted(
        plan.rows, source.path, (*request.allow_missing, *asked), (*request.allow_unused, *dropped)
    )
    return plan


def card_for(source: WeightsFile, plan: Plan, request: Request) -> dict[str, Any]:
    """Describes the result; what a card of the source says of its heads goes on."""
    held: Mapping[str, Any] = source.card or {}
    for head in request.classes:
        if head not in plan.heads:
            raise UserError(
                f"--classes={head}=...: the result has the heads {plan.heads}; name one of them"
            )
    inputs = (
        provenance.inputs_of(source.layout, source.heads, plan.config.window[2])
        if source.card is None
        else held.get("inputs", {})
    )
    licence = (
        provenance.licence_of(source.layout) if source.card is None else held.get("licence", "")
    )
    kept = plan.head_sources
    names = {
        new: held["classes"][old] for new, old in kept.items() if old in held.get("classes", {})
    }
    named = {head: class_names(given, plan.heads[head]) for head, given in request.classes.items()}
    specs = {head: _preprocessing(held, kept.get(head)) for head in plan.heads}
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
        origin=Origin(origin, request.licence or licence),
    )


def _preprocessing(card: Mapping[str, Any], head: str | None) -> Preprocessing:
    """The source's, of any head where it is a fresh one; or that of released weights."""
    specs = card.get("preprocessing", {})
    spec = specs.get(head) or next(iter(specs.values()), {})
    return builder.build(Preprocessing, spec, head or "preprocessing")
