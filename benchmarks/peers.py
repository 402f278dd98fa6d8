"""Models of torchvision and timm of any size with our parameters in them."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.job import CLASSES, Job
from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.torch.hub import WEIGHTS
from omnivore_jax.weights.torch.layouts import detect
from tests.weights.torch.foreign import torchvision_models


def make_peer(library: str, job: Job, hub: Path) -> torch.nn.Module:
    """Makes the model of another library and gives it the parameters of a folder for torch.hub.

    Raises:
        UserError: the library's model has parameters that ours has not.

    """
    sizes = json.loads((hub / "card.json").read_text())["model"]
    torchvision_models()  # declares the operators that the imports ask for
    model = {"torchvision": _torchvision, "timm": _timm}[library](sizes, job)
    ours = torch.load(hub / WEIGHTS, weights_only=True)
    state = model.state_dict()
    layout = detect({key: tuple(tensor.shape) for key, tensor in state.items()}, library)
    if layout.unknown:
        raise UserError(f"{library}: {layout.unknown[0]} is a parameter that no layout knows")
    for name, origin in layout.names.items():
        state[origin.keys[0]] = _fitted(ours[name], state[origin.keys[0]], sizes["window"][0])
    model.load_state_dict(state)
    return model.eval()


def _fitted(ours: torch.Tensor, theirs: torch.Tensor, frames: int) -> torch.Tensor:
    """Our parameter as a model of pictures has it.

    One frame meets the first part of the patch kernel, and offsets in time are 0: the middle rows
    of a table.
    """
    if ours.ndim == theirs.ndim + 1:
        return ours[:, :, 0]
    if ours.shape != theirs.shape:
        return ours.unflatten(0, (2 * frames - 1, -1))[frames - 1]
    return ours


def _torchvision(sizes: dict[str, Any], job: Job) -> torch.nn.Module:
    clips = job.kind == "video"
    place = f"torchvision.models.{'video.' if clips else ''}swin_transformer"
    make = getattr(import_module(place), "SwinTransformer3d" if clips else "SwinTransformer")
    first = 0 if clips else 1  # of (t, h, w)
    return make(
        patch_size=list(sizes["patch"][first:]),
        embed_dim=sizes["embed_dim"],
        depths=list(sizes["depths"]),
        num_heads=list(sizes["num_heads"]),
        window_size=list(sizes["window"][first:]),
        mlp_ratio=sizes["mlp_ratio"],
        stochastic_depth_prob=0.0,
        num_classes=CLASSES[job.kind],
    )


def _timm(sizes: dict[str, Any], job: Job) -> torch.nn.Module:
    return import_module("timm.models.swin_transformer").SwinTransformer(
        img_size=job.size,
        patch_size=sizes["patch"][1],
        num_classes=CLASSES[job.kind],
        embed_dim=sizes["embed_dim"],
        depths=tuple(sizes["depths"]),
        num_heads=tuple(sizes["num_heads"]),
        window_size=sizes["window"][1],
        mlp_ratio=sizes["mlp_ratio"],
        drop_path_rate=0.0,
    )
