"""The golden model's weights as other people's files hold them (FACTS 2).

Written by the safetensors library.
"""

import re
from functools import cache

import numpy as np
from safetensors.numpy import save_file

from omnivore_jax.core.tree import flatten
from omnivore_jax.weights.request import Request
from omnivore_jax.weights.torch.names import to_torch
from tests.golden import golden  # noqa: F401  (for tests, which cannot find it by themselves)
from tests.golden.released import CONFIG, arrays, channels_last, weights  # noqa: F401

STAGES = 4
PLAIN = Request(certificate=False)


@cache
def golden_params():
    return {path: np.asarray(leaf) for path, leaf in flatten(weights("fanin")).items()}


@cache
def released():
    return dict(to_torch(path, array) for path, array in golden_params().items())


def without_depth(state):
    return {name: array for name, array in state.items() if "depth_patch_embed" not in name}


def trunk_only(state):
    return {
        n.removeprefix("trunk."): a
        for n, a in without_depth(state).items()
        if n.startswith("trunk.")
    }


def renamed(state, *rules):
    """Applies regular expressions, one after another, to all keys."""
    for pattern, new in rules:
        state = {re.sub(pattern, new, name): array for name, array in state.items()}
    return state


def flat(state):
    """The 2-D Swin whose inflation is near the golden model: one frame of its kernel and tables."""
    flattened = {}
    for name, array in state.items():
        if name.endswith("patch_embed.proj.weight"):
            array = array[:, :, 0]
        elif name.endswith("bias_table"):
            array = array.reshape(7, 169, -1)[3]
        flattened[name] = np.ascontiguousarray(array)
    return flattened


def single_head(state, *, source, weight):
    """Keeps one head, under the key of a layout."""
    kept = {n: a for n, a in state.items() if not n.startswith("heads.")}
    old = "heads.video.1" if source == "video" else f"heads.{source}"
    return kept | {f"{weight}.{leaf}": state[f"{old}.{leaf}"] for leaf in ("weight", "bias")}


def torchvision(state, first):
    """One list of stages and mergings, from index `first` on."""
    rules = []
    for i in range(STAGES):
        rules += [(rf"^layers\.{i}\.blocks\.", f"features.{2 * i + first}.")]
        rules += [(rf"^layers\.{i}\.downsample\.", f"features.{2 * i + 1 + first}.")]
    return renamed(state, *rules, (r"\.mlp\.fc1\.", ".mlp.0."), (r"\.mlp\.fc2\.", ".mlp.3."))


def timm(state):
    """Mergings belong to the stage that they lead to."""
    rules = [
        (rf"^layers\.{i}\.downsample\.", f"layers.{i + 1}.downsample.")
        for i in reversed(range(STAGES - 1))
    ]
    return renamed(state, *rules)


INDEX = {"trunk.layers.0.blocks.0.attn.relative_position_index": np.zeros((196, 196), np.int64)}
OPTIMIZER = {"optimizer.state.0.exp_avg": np.zeros(3, np.float32), "epoch": np.int64(3)}
NUMBERED = (
    (r"heads\.image\.", "heads.0."),
    (r"heads\.rgbd\.", "heads.1."),
    (r"heads\.video\.", "heads.2."),
)


def files():
    """State dicts by layout, each with its title and the paths that it lacks or renames."""
    whole, plain = released(), trunk_only(released())
    nested = "classy_state_dict.base_model.model."
    epic = single_head(without_depth(whole), source="video", weight="heads.1")
    backbone = renamed(plain, (r"^", "backbone."))
    video = {leaf: whole[f"heads.video.1.{leaf}"] for leaf in ("weight", "bias")}
    image = {leaf: whole[f"heads.image.{leaf}"] for leaf in ("weight", "bias")}

    def with_head(state, place, head):
        return state | {f"{place}.{leaf}": array for leaf, array in head.items()}

    thin = flat(plain)
    embed = ((r"^patch_embed\.proj\.", "features.0.0."), (r"^patch_embed\.norm\.", "features.0.2."))
    return {
        "released": ("released Omnivore", whole | INDEX),
        "epic": ("released Omnivore, EPIC", epic),
        "omnivision": (
            "Omnivore, omnivision trainer",
            renamed(whole, *NUMBERED, (r"^", "model.")) | OPTIMIZER,
        ),
        "classy": ("Omnivore, classy_state_dict", renamed(whole, *NUMBERED, (r"^", nested))),
        "ddp": ("released Omnivore", renamed(whole, (r"^", "module."))),
        "mmaction": ("Video Swin (mmaction)", with_head(backbone, "cls_head.fc_cls", video)),
        "torchvision3d": ("torchvision Swin 3-D", with_head(torchvision(plain, 0), "head", video)),
        "microsoft": (
            "Microsoft Swin 2-D",
            renamed(with_head(thin, "head", image), (r"^", "model.")),
        ),
        "timm": ("timm Swin 2-D", with_head(timm(thin), "head.fc", image)),
        "torchvision2d": (
            "torchvision Swin 2-D",
            with_head(renamed(torchvision(thin, 1), *embed), "head", image),
        ),
    }


def save(path, state):
    save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, path)
    return path
