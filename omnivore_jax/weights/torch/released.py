"""Our weights as PyTorch code wants them: in the released layout or as a folder for torch.hub."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_other, sha256
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import describe_spec
from omnivore_jax.model.variants import HUB_NAMES, model_config
from omnivore_jax.weights.card import FILE_SHA256
from omnivore_jax.weights.conversion import (
    Job,
    certify,
    expect,
    new_weights,
    open_job,
    write_card,
)
from omnivore_jax.weights.load import read_params
from omnivore_jax.weights.request import Request
from omnivore_jax.weights.result import Result, make_result
from omnivore_jax.weights.torch.arrange import arranged
from omnivore_jax.weights.torch.file import read_torch, write_torch
from omnivore_jax.weights.torch.hub import WEIGHTS, new_hub, write_texts
from omnivore_jax.weights.torch.layouts import EPIC_HEAD, detect
from omnivore_jax.weights.torch.state_dict import State, released_state, torch_state

SIZES = ("embed_dim", "depths", "num_heads", "window", "patch", "mlp_ratio")
HEADS = {"image": 1000, "rgbd": 19, "video": 400}
EPIC, EPIC_VARIANT = {EPIC_HEAD: 3806}, "omnivore_swin_b"
"""What the released models have (FACTS 2.1)."""


def write_released(src: Path, dst: Path, request: Request) -> Result:
    """Writes {"trunk", "heads"} as torch.save does, and the card beside it.

    The released code loads it strictly.

    Raises:
        UserError: something is wrong with the file, the request or the destination, or PyTorch is
        missing.

    """
    check_other(src, dst)
    began = time.monotonic()
    job = _open(src, request)
    with new_weights(dst) as drafts:
        state = torch_state(job.plan.arrays)
        write_torch(drafts.weights, released_state(state, job.plan.config.window))
        del state  # so that it is not in memory beside what PyTorch runs
        result = _certified(job, drafts.weights)
        proof = result.card["certificate"]
        proof |= {"differences": differences(result.config, result.heads, proof)}
        result = replace(result, card={**result.card, "certificate": proof})
        write_card(drafts.card, result.card)
    return replace(result, seconds=time.monotonic() - began)


def write_hub_folder(src: Path, dst: Path, request: Request) -> Result:
    """Writes a folder that `torch.hub.load(DST, name, source="local")` opens.

    Nothing of ours need be installed for it.

    Raises:
        UserError: something is wrong with the file, the request or the destination, or PyTorch is
        missing.

    """
    check_other(src, dst)
    began = time.monotonic()
    job = _open(src, request)
    with new_hub(dst) as draft:
        write_torch(draft / WEIGHTS, torch_state(job.plan.arrays))
        result = _certified(job, draft / WEIGHTS)
        write_texts(draft, dst.name, result.card)
    return replace(result, seconds=time.monotonic() - began)


def _open(src: Path, request: Request) -> Job:
    """Plans a model as PyTorch has it: with joint tables and linear heads."""
    if request.position_bias == "factored":
        raise UserError(
            "--position_bias=factored: PyTorch's models have joint tables; leave it out"
        )
    job = open_job(src, replace(request, position_bias="joint"))
    for name, spec in job.plan.heads.items():
        if not isinstance(spec, int):
            raise UserError(
                f"head {name!r} {describe_spec(spec)}, and PyTorch's models have linear "
                "classifiers; leave it out by --heads=..., which names the heads to keep"
            )
    return job


def _certified(job: Job, written: Path) -> Result:
    """Runs PyTorch on what was written for it, ours on what it was made from.

    The card is told which file it is.
    """
    card = {**job.card, FILE_SHA256: sha256(written)}
    expected = expect(job, lambda: _read_state(written), "the file that was written")
    result = make_result(job.source, job.plan, card, job.not_finite)
    return certify(result, job.request, expected, lambda: read_params(job.plan.arrays))


def _read_state(written: Path) -> State:
    tensors, _ = read_torch(written)
    layout = detect({key: tensor.shape for key, tensor in tensors.items()}, str(written))
    return {name: tensor.read() for name, tensor in arranged(layout, tensors).items()}


def differences(
    config: ModelConfig, heads: Mapping[str, int], certificate: Mapping[str, Any]
) -> list[str]:
    """Says what the released code would compute otherwise, or needs to be told."""
    lines = []
    if config.window_index == "geometric":
        measured = certificate.get("as_released", {})
        name = max(measured, key=measured.__getitem__, default=None)
        here = f"; features by {measured[name]} on the input {name!r}" if name else ""
        lines.append(
            "window_index=geometric: outputs differ where the input clamps a window along its "
            "width, or its height "
            f"in more than one frame (maps of a stage below {config.window[1]} x "
            f"{config.window[2]} tokens){here}"
        )
    if config.depth_embed in ("separate", "shared"):
        lines.append(
            f"depth_embed={config.depth_embed}: four channels need the released code's depth_mode "
            "of Table 8"
        )
    if not _has_hub_name(config):
        sizes = {key: getattr(config, key) for key in SIZES}
        depth = (
            "no depth_patch_embed"
            if config.depth_embed == "none"
            else f"depth {config.depth_embed}"
        )
        lines.append(f"no hub name builds this trunk; give its constructor {sizes} and {depth}")
    if dict(heads) not in (HEADS, EPIC):
        lines.append(
            f"no hub name has the heads {dict(heads)}; give its MultiHead linear layers of these "
            "sizes"
        )
    return lines


def _has_hub_name(config: ModelConfig) -> bool:
    """Says whether a released model has this trunk; the EPIC model alone has no depth."""
    variants = {variant for variant, _ in HUB_NAMES.values()}
    usual = model_config(config.name) if config.name in variants else None
    depth = "summed" if config.depth_embed != "none" or config.name != EPIC_VARIANT else "none"
    return (
        usual is not None
        and depth == config.depth_embed
        and all(getattr(usual, key) == getattr(config, key) for key in SIZES)
    )
