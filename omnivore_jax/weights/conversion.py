"""A whole conversion into a file of ours, phase after phase.

Open and plan, write a draft, let PyTorch say what it computes, keep the account, let the source
go, compare with what JAX computes, write the card. Only frozen values pass from one to the next.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from omnivore_jax.core import config as builder
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_other, check_output, new_file, sha256
from omnivore_jax.model.heads import linear_heads
from omnivore_jax.model.params import Params
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.weights import accounts, provenance
from omnivore_jax.weights.card import Origin, card_file, check_card_file, make_card
from omnivore_jax.weights.class_names import class_names
from omnivore_jax.weights.fit import (
    Plan,
    check_finite,
    choose_heads,
    make_plan,
    target_config,
)
from omnivore_jax.weights.load import read_params
from omnivore_jax.weights.opening import WeightsFile, open_weights
from omnivore_jax.weights.request import Request
from omnivore_jax.weights.result import Result, make_result
from omnivore_jax.weights.safetensors import read_safetensors, replace_card, write_safetensors
from omnivore_jax.weights.torch import certificate
from omnivore_jax.weights.torch.certificate import Expected
from omnivore_jax.weights.torch.state_dict import State, torch_state

SUFFIX = ".safetensors"
SHOWN = 3
"""Outputs that an error names."""


@dataclass(frozen=True)
class Job:
    """What is converted into what; holds the file open, whose mapped pages count as memory."""

    request: Request
    source: WeightsFile
    plan: Plan
    card: Mapping[str, Any]
    not_finite: Mapping[str, int]

    @property
    def untouched(self) -> bool:
        """Whether the result has all tensors of a PyTorch file, and has them as they are."""
        matched = {row.path for row in self.plan.rows if row.kind == "matched"}
        return (
            matched == self.source.tensors.keys() == self.plan.arrays.keys()
            and self.plan.heads == self.source.heads
        )


class Drafts(NamedTuple):
    """Two files to be: the weights, and their card beside them."""

    weights: Path
    card: Path


def convert(src: Path, dst: Path, request: Request) -> Result:
    """Writes DST and the card beside it, or nothing.

    Raises:
        UserError: something is wrong with the file, the request or the destination.

    """
    if dst.suffix != SUFFIX:
        raise UserError(f"{dst} should end in {SUFFIX}")
    check_other(src, dst)
    began = time.monotonic()
    job = open_job(src, request)
    with new_weights(dst) as drafts:
        write_safetensors(drafts.weights, job.plan.arrays, job.card)
        expected = _expect(job, drafts.weights)
        result = make_result(job.source, job.plan, job.card, job.not_finite)
        del job  # so that one side at a time is in memory
        result = certify(
            result, request, expected, lambda: read_params(read_safetensors(drafts.weights)[0])
        )
        replace_card(drafts.weights, result.card)
        write_card(drafts.card, result.card)
    return replace(result, seconds=time.monotonic() - began)


def open_job(src: Path, request: Request) -> Job:
    """Opens a file, plans and accounts for every parameter, and looks for what is no number.

    Raises:
        UserError: something is wrong with the file or the request.

    """
    source = open_weights(
        src,
        variant=request.variant,
        prefix=request.prefix,
        source_window=request.source_window,
        weights=request.weights,
    )
    plan = plan_for(source, request)
    card = card_for(source, plan, request)
    return Job(request, source, plan, card, check_finite(plan, request.allow_nonfinite))


def _expect(job: Job, written: Path) -> Expected | None:
    """Runs PyTorch on the file itself where no tensor was changed, else on the result."""
    if job.untouched:
        return expect(job, job.source.state, "the file")
    return expect(job, lambda: _linear_state(job, written), "the result")


def _linear_state(job: Job, written: Path) -> State:
    """What PyTorch can run of a file of ours: the trunk and the linear classifiers."""
    parts = {"trunk", *(f"heads.{name}" for name in linear_heads(job.plan.heads))}
    arrays = read_safetensors(written)[0]
    return torch_state(
        {path: x for path, x in arrays.items() if {path.split(".")[0], _owner(path)} & parts}
    )


def _owner(path: str) -> str:
    """The head of a parameter, `heads.NAME`."""
    return ".".join(path.split(".")[:2])


def expect(job: Job, state: Callable[[], State], what: str) -> Expected | None:
    """Runs PyTorch on a state dict; None where nothing is to be compared.

    `what` says what the state dict is. An inflated 2-D model is run as it was, too.
    """
    asked = job.request.certificate or job.request.certify
    if not asked or job.not_finite or not certificate.has_torch():
        return None
    plan = job.plan
    expected = certificate.run_torch(plan.config, plan.heads, state(), what)
    flat = _flat(job)
    return expected if flat is None else certificate.add_flat(expected, plan.config, flat)


def _flat(job: Job) -> certificate.Flat | None:
    source, plan = job.source, job.plan
    if (
        not source.is_pytorch
        or source.config.patch[0] > 1
        or source.config.window[1:] != plan.config.window[1:]
    ):
        return None
    return certificate.Flat(source.config, source.heads, plan.head_sources, source.state)


def certify(
    result: Result, request: Request, expected: Expected | None, ours: Callable[[], Params]
) -> Result:
    """Compares what JAX makes of the parameters with what PyTorch said; the card holds it.

    `ours` reads the parameters, which need not be read where PyTorch said nothing.

    Raises:
        UserError: they must agree and do not, or PyTorch is missing.

    """
    if not (request.certificate or request.certify):
        return result
    if expected is None:
        report = certificate.not_run(result.not_finite)
    else:
        report = certificate.compare(expected, result.config, result.heads, ours())
    if request.certify and report["status"] != certificate.PASSED:
        over = report.get("over", [])
        more = f" and {len(over) - SHOWN} more" if len(over) > SHOWN else ""
        where = f" ({', '.join(over[:SHOWN])}{more})" if over else ""
        raise UserError(
            f"{result.path} is not certified: {report['status']}{where}; nothing was written"
        )
    return replace(result, card={**result.card, "certificate": report})


@contextmanager
def new_weights(dst: Path) -> Iterator[Drafts]:
    """Gives drafts of a file of weights and of the card beside it (files.new_file).

    The weights come about first: they hold the card, or are told from those that an older card was
    written with.

    Raises:
        UserError: they cannot be there, or something else is in the card's place.

    """
    check_output(dst)
    with new_file(card_file(dst)) as beside, new_file(dst) as draft:
        check_card_file(card_file(dst))
        yield Drafts(draft, beside)


def write_card(draft: Path, card: Mapping[str, Any]) -> None:
    """Writes the card that lies beside weights."""
    draft.write_text(json.dumps(card, indent=1) + "\n")


def plan_for(source: WeightsFile, request: Request) -> Plan:
    """Plans what a request asks for.

    Raises:
        UserError: something is missing or left over without permission.

    """
    changes = {"position_bias": request.position_bias, "depth_embed": request.depth_embed}
    if request.keep_image and not request.allow_lossy:
        raise UserError("--keep-image says how --allow-lossy makes factored tables; give both")
    config = target_config(
        source, request.window, **{key: value for key, value in changes.items() if value}
    )
    heads = choose_heads(request.heads, source.heads)
    plan = make_plan(
        source,
        config,
        heads,
        lossy=request.allow_lossy,
        keep="image" if request.keep_image else "all",
        seed=request.seed,
    )
    asked = tuple(f"heads.{name}.*" for name, head in heads.items() if head.source is None)
    kept = {head.source for head in heads.values()}
    dropped = tuple(
        source.names[p]
        for p in source.arrays
        if p.startswith("heads.") and p.split(".")[1] not in kept
    )
    accounts.check_accounted(
        plan.rows, source.path, (*request.allow_missing, *asked), (*request.allow_unused, *dropped)
    )
    return plan


def card_for(source: WeightsFile, plan: Plan, request: Request) -> dict[str, Any]:
    """Describes the result; what a card of the source says of its heads goes on.

    Raises:
        UserError: classes are named of a head that has none.

    """
    before: Mapping[str, Any] = source.card or _assumed_card(source, plan)
    kept = plan.head_sources
    names = {
        new: before["classes"][old] for new, old in kept.items() if old in before.get("classes", {})
    }
    inputs = before.get("inputs", {})
    origin: dict[str, Any] = {"file": source.path.name, "layout": source.layout}
    if source.path.is_file():
        origin["sha256"] = sha256(source.path)
    if before.get("source"):
        origin["before"] = before["source"]
    return make_card(
        plan.config,
        plan.heads,
        {head: _preprocessing(before, kept.get(head)) for head in plan.heads},
        classes=names | _named(plan, request.classes),
        inputs={new: inputs[old] for new, old in kept.items() if old in inputs},
        origin=Origin(origin, request.licence or before.get("licence", "")),
    )


def _assumed_card(source: WeightsFile, plan: Plan) -> dict[str, Any]:
    """What is known of weights that have no card."""
    return {
        "inputs": provenance.inputs_of(source.layout, source.heads, plan.config.window[2]),
        "licence": provenance.licence_of(source.layout),
    }


def _named(plan: Plan, classes: Mapping[str, str]) -> dict[str, list[str]]:
    """Names of classes by head, from files or libraries by head."""
    for head in classes:
        if head not in plan.heads:
            raise UserError(
                f"--classes={head}=...: the result has the heads {plan.heads}; name one of them"
            )
        if not isinstance(plan.heads[head], int):
            raise UserError(
                f"--classes={head}=...: head {head!r} is no linear classifier; leave it out"
            )
    return {head: class_names(origin, plan.heads[head]) for head, origin in classes.items()}


def _preprocessing(card: Mapping[str, Any], head: str | None) -> Preprocessing:
    """The source's, of any head where it is a fresh one; or that of released weights."""
    specs = card.get("preprocessing", {})
    spec = specs.get(head) or next(iter(specs.values()), {})
    return builder.build(Preprocessing, spec, head or "preprocessing")
