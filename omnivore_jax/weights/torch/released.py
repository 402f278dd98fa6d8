"""Our weights as PyTorch code wants them: in the released layout or as a folder for torch.hub."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_other, sha256
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.variants import HUB_NAMES, model_config
from omnivore_jax.weights.card import FILE_SHA256
from omnivore_jax.weights.conversion import Conversion, Request, new_weights, started
from omnivore_jax.weights.load import read_params
from omnivore_jax.weights.torch.arrange import arranged
from omnivore_jax.weights.torch.file import read_torch, write_torch
from omnivore_jax.weights.torch.hub import new_hub
from omnivore_jax.weights.torch.layouts import EPIC_HEAD, detect
from omnivore_jax.weights.torch.state_dict import State, released_state, torch_state

SIZES = ("embed_dim", "depths", "num_heads", "window", "patch", "mlp_ratio")
HEADS = {"image": 1000, "rgbd": 19, "video": 400}
EPIC, EPIC_VARIANT = {EPIC_HEAD: 3806}, "omnivore_swin_b"
"""What the released models have (FACTS 2.1)."""


def write_released(src: Path, dst: Path, request: Request) -> Conversion:
    """Writes {"trunk", "heads"} as torch.save does, loaded strictly by the released code, and the card beside it.

    Raises:
        UserError: something is wrong with the file, the request or the destination, or PyTorch is missing.

    """
    check_other(src, dst)
    with started(src, _joint(request)) as job, new_weights(dst, job.card) as draft:
        write_torch(draft, released_state(torch_state(job.arrays), job.plan.config.window))
        _certify(job, draft)
        job.card["certificate"]["differences"] = differences(
            job.plan.config, job.plan.heads, job.card["certificate"]
        )
    return job


def write_hub_folder(src: Path, dst: Path, request: Request) -> Conversion:
    """Writes a folder that `torch.hub.load(DST, name, source="local")` opens without anything of ours installed.

    Raises:
        UserError: something is wrong with the file, the request or the destination, or PyTorch is missing.

    """
    check_other(src, dst)
    with started(src, _joint(request)) as job, new_hub(dst, job.arrays, job.card) as weights:
        _certify(job, weights)
    return job


def _joint(request: Request) -> Request:
    if request.position_bias == "factored":
        raise UserError(
            "--position_bias=factored: PyTorch's models have joint tables; leave it out"
        )
    return replace(request, position_bias="joint")


def _certify(job: Conversion, written: Path) -> None:
    """Runs PyTorch on what was written for it, ours on what it was made from.

    The card is told which file it is.
    """
    job.card[FILE_SHA256] = sha256(written)

    def theirs() -> State:
        tensors, _ = read_torch(written)
        layout = detect({key: tensor.shape for key, tensor in tensors.items()}, str(written))
        return {name: tensor.read() for name, tensor in arranged(layout, tensors).items()}

    job.certify(theirs, lambda: read_params(job.arrays), "the file that was written")


def differences(
    config: ModelConfig, heads: Mapping[str, int], certificate: Mapping[str, Any]
) -> list[str]:
    """Says where the released code, given these weights, would compute something else or needs to be told something."""
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
