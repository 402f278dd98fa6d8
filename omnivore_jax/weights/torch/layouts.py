"""Who wrote a state dict, told from its keys and shapes, and its keys' released names.

FACTS 2 lists the layouts. A layout renames, and says which tensors are to be joined and whose
channels stand in another order; arrange.py does it.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.torch.names import BUFFER, torch_name
from omnivore_jax.weights.torch.renames import from_mmpretrain, from_transformers, third_of

PATCHES = "patch_embed.proj.weight"
TORCHVISION_2D = "features.0.0.weight"
TRANSFORMERS = "embeddings.patch_embeddings.projection.weight"
MMPRETRAIN = "patch_embed.projection.weight"
ANCHORS = (PATCHES, TORCHVISION_2D, TRANSFORMERS, MMPRETRAIN)
"""By one of these keys a trunk is told; what stands before it is its prefix."""
NUMBERED_HEADS = {"0": "image", "1": "rgbd", "2": "video"}
"""Order of the three heads in the released trainer's files: IN1K, SUN RGB-D, K400."""
EPIC_HEAD = "epic"
BUFFERS = (BUFFER, "attn_mask")
TRAINING = (
    "optimizer", "optimizer_states", "scaler", "amp_scaler", "lr_scheduler", "lr_schedulers",
    "param_schedulers", "scheduler", "meta", "epoch", "loss", "steps", "config", "max_accuracy",
    "classy_state_dict", "phase_idx", "iteration", "train_phase_idx", "callbacks", "loops",
    "hparams_name", "hyper_parameters", "pytorch-lightning_version", "global_step", "message_hub",
    "args", "version", "metric",
)  # fmt: skip
"""First parts of keys of a trainer's file beside the model: they are no weights."""
COUNTERS = ("n_averaged", "num_updates", "steps", "step", "decay", "num_batches_tracked")
"""Last parts of keys, beside a trunk, that hold one number of an average of weights."""

NESTED = "classy_state_dict."
"""Before the models of a trainer whose other entries are none."""

Shapes = Mapping[str, tuple[int, ...]]


class Origin(NamedTuple):
    """The tensors of a file that a parameter is made of."""

    keys: tuple[str, ...]
    """Several are joined along their first axis."""
    unfold: bool = False
    """Whether merged channels stand in the order of nn.Unfold."""

    @property
    def rule(self) -> str:
        """What is done to them, in words; empty where nothing is."""
        if self.unfold:
            return "channels of a merging from the order of nn.Unfold"
        return f"{len(self.keys)} tensors joined" if len(self.keys) > 1 else ""


@dataclass(frozen=True)
class Layout:
    """How a file holds its model."""

    title: str
    """For people: "released Omnivore"."""
    names: dict[str, Origin]
    """What the file has of a parameter, by the released name ("trunk...", "heads...")."""
    buffers: list[str]
    """Keys that hold nothing learned."""
    training: list[str]
    """Keys of the optimiser and the like."""
    others: list[str]
    """Keys of the file's other models."""
    unknown: list[str]
    """Keys that no layout explains."""


def detect(shapes: Shapes, where: str, prefix: str | None = None) -> Layout:
    """Finds the layout of a file from the shapes of its tensors by dotted key.

    `where` is its name, for messages.

    `prefix` says which model is meant where the file holds several.

    Raises:
        UserError: there is no Swin in it, or several, or two of its keys mean the same parameter.

    """
    trunk, others = _trunk_prefix(shapes, where, prefix)
    if any(
        key.startswith(trunk) and key.endswith(("logit_scale", "cpb_mlp.0.weight"))
        for key in shapes
    ):
        raise UserError(
            f"{where} holds a Swin V2, whose attention is another; use weights of Swin V1 or Video "
            "Swin"
        )
    family = _family(shapes, trunk)
    return _named(shapes, where, trunk, tuple(map(_outer, others)), family)


def _outer(trunk: str) -> str:
    """What stands before all keys of a model, its heads included."""
    return trunk.removesuffix("trunk.").removesuffix("backbone.").removesuffix("swin.")


def _trunk_prefix(shapes: Shapes, where: str, wanted: str | None) -> tuple[str, list[str]]:
    """What stands before the first layer of the trunk, and before those of other models."""
    found = {}
    for key in shapes:
        for anchor in ANCHORS:
            moments = key.startswith("optimizer.")  # which may be called like the parameters
            if (key == anchor or key.endswith(f".{anchor}")) and not moments:
                found[key.removesuffix(anchor)] = None
    every = list(found)
    if wanted is not None:
        found = (
            {wanted: None} if wanted in found else {p: None for p in found if p.startswith(wanted)}
        )
    if not found:
        inside = "" if wanted is None else f" below --prefix={wanted}"
        raise UserError(
            f"{where} holds no Swin trunk{inside} (no {PATCHES}); its first keys are "
            f"{_some(shapes)}"
        )
    if len(found) > 1:
        raise UserError(
            f"{where} holds {len(found)} models; convert one, by "
            f"--prefix={' or --prefix='.join(found)}"
        )
    chosen = next(iter(found))
    return chosen, [prefix for prefix in every if prefix != chosen]


@dataclass(frozen=True)
class _Family:
    title: str
    rename: Callable[[str], str]
    """Names of a trunk's keys, behind the prefix, as the released code has them."""
    head: str
    """What a head without a name is for."""
    joins: bool = False
    """Whether query, key and value are tensors of their own."""
    unfolds: bool = False
    """Whether its mergings are made by nn.Unfold."""


def _family(shapes: Shapes, trunk: str) -> _Family:
    inflated = len(shapes.get(trunk + PATCHES, ())) == 5
    if trunk + TORCHVISION_2D in shapes:
        return _Family(
            "torchvision Swin 2-D", _from_torchvision(1, {"0.0": "proj", "0.2": "norm"}), "image"
        )
    if trunk + TRANSFORMERS in shapes:
        return _Family("Hugging Face transformers Swin 2-D", from_transformers, "image", True)
    if trunk + MMPRETRAIN in shapes:
        stages = {key.split(".")[0] for key in _behind(shapes, f"{trunk}stages.")}
        rename = from_mmpretrain(len(stages) - 1)
        return _Family("MMPretrain Swin 2-D", rename, "image", unfolds=True)
    if any(key.startswith(f"{trunk}features.") for key in shapes):
        return _Family("torchvision Swin 3-D", _from_torchvision(0, {}), "video")
    if inflated and trunk.endswith("backbone."):
        return _Family("Video Swin (mmaction)", _same, "video")
    if inflated:
        return _Family("released Omnivore", _same, EPIC_HEAD)
    stages = {
        key.removeprefix(f"{trunk}layers.").split(".", 1)[0]
        for key in shapes
        if ".downsample." in key
    }
    if "0" not in stages and stages:
        return _Family("timm Swin 2-D", _from_timm, "image")
    return _Family("Microsoft Swin 2-D", _same, "image")


def _behind(shapes: Shapes, prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in shapes if key.startswith(prefix)]


def _same(key: str) -> str:
    return key


def _from_timm(key: str) -> str:
    """There a merging belongs to the stage that it leads to."""
    return re.sub(
        r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) - 1}.downsample.", key
    )


def _from_torchvision(first: int, embed: Mapping[str, str]) -> Callable[[str], str]:
    """There one list holds stages and mergings in turn, from index `first` on."""

    def rename(key: str) -> str:
        found = re.match(r"^features\.(\d+)\.(.*)$", key)
        if found is None:
            return key
        index, rest = int(found[1]) - first, found[2]
        if index < 0:
            layer, _, leaf = f"{found[1]}.{rest}".rpartition(".")
            return f"patch_embed.{embed[layer]}.{leaf}" if layer in embed else key
        if index % 2:
            return f"layers.{index // 2}.downsample.{rest}"
        block, _, inner = rest.partition(".")
        inner = re.sub(r"^mlp\.(0|3)\.", lambda m: {"0": "mlp.fc1.", "3": "mlp.fc2."}[m[1]], inner)
        return f"layers.{index // 2}.blocks.{block}.{inner}"

    return rename


def _named(
    shapes: Shapes, where: str, trunk: str, others: tuple[str, ...], family: _Family
) -> Layout:
    names: dict[str, Origin] = {}
    buffers, training, other, unknown = [], [], [], []
    outer = _outer(trunk)
    heads = _heads(shapes, trunk, outer, family)
    for key, shape in shapes.items():
        if _owner(key, outer, others) != outer:
            beside = is_training(key, shape) and not key.startswith(NESTED)
            (training if beside else other).append(key)
        elif key.rpartition(".")[2] in BUFFERS:
            buffers.append(key)
        elif key in heads:
            _enter(names, heads[key], Origin((key,)), where)
        elif is_training(key, shape) and not (trunk and key.startswith(trunk)):
            training.append(key)
        elif key.startswith(trunk):
            inner = key.removeprefix(trunk)
            name = "trunk." + family.rename(inner)
            third = third_of(inner) if family.joins else None
            if third is not None:
                name = f"{name} {third}"  # no parameter's name, until all three are there
            unfold = family.unfolds and ".downsample." in name
            _enter(names, name, Origin((key,), unfold), where)
        else:
            unknown.append(key)
    named = _with_joined(names)
    return Layout(_title(family, named, outer, trunk), named, buffers, training, other, unknown)


def _enter(names: dict[str, Origin], name: str, origin: Origin, where: str) -> None:
    """Enters a parameter in a table that is being built.

    Raises:
        UserError: it is there already.

    """
    if name in names:
        raise UserError(
            f"{where}: {names[name].keys[0]!r} and {origin.keys[0]!r} are the same parameter; "
            "remove one of them"
        )
    names[name] = origin


def _with_joined(names: Mapping[str, Origin]) -> dict[str, Origin]:
    """Joins the thirds of projections; what lacks one stays as it is, and is unknown."""
    joined: dict[str, Origin] = {}
    for name, origin in names.items():
        base, _, part = name.partition(" ")
        thirds = [names.get(f"{base} {i}") for i in range(3)]
        if not part or None in thirds:
            joined[name] = origin
        elif part == "0":
            joined[base] = Origin(tuple(third.keys[0] for third in thirds if third))
    return joined


def _owner(key: str, outer: str, others: tuple[str, ...]) -> str:
    """The model of the file that a key belongs to, by what stands before its keys.

    The chosen one where none does.
    """
    return max(
        (prefix for prefix in (outer, *others) if key.startswith(prefix)), key=len, default=outer
    )


def is_training(key: str, shape: tuple[int, ...] | None) -> bool:
    """Says whether a key belongs to a trainer's file beside its model.

    By its first part; or by its last one where it holds one number. `shape`: None of what is no
    tensor.
    """
    if key.split(".", 1)[0] in TRAINING:
        return True
    return shape is not None and math.prod(shape) == 1 and key.rpartition(".")[2] in COUNTERS


def _title(family: _Family, names: Iterable[str], outer: str, trunk: str) -> str:
    if family.title != "released Omnivore":
        return family.title
    if outer.startswith(NESTED):
        return "Omnivore, classy_state_dict"
    if outer.replace("module.", "") == "model.":
        return "Omnivore, omnivision trainer"
    if not trunk.endswith("trunk."):
        return "Omnivore trunk alone"
    heads = {name.split(".")[1] for name in names if name.startswith("heads.")}
    return "released Omnivore, EPIC" if heads == {EPIC_HEAD} else family.title


def _heads(shapes: Shapes, trunk: str, outer: str, family: _Family) -> dict[str, str]:
    """Released names of the keys of heads, wherever the layout keeps them."""
    places = {f"{outer}heads.": None, f"{outer}cls_head.fc_cls.": family.head}
    places |= {f"{trunk}head.fc.": family.head, f"{trunk}head.": family.head}
    places |= {f"{outer}head.fc.": family.head} if family.unfolds else {}
    places |= {f"{outer}classifier.": family.head} if family.joins else {}
    found: dict[str, tuple[str, ...]] = {}
    for key in shapes:
        for place, head in places.items():
            if key.startswith(place) and (match := _HEAD.match(key.removeprefix(place))):
                found[key] = (head or match["name"] or "", match["index"] or "", match["leaf"])
                break
    numbers = {name for name, _, _ in found.values() if name.isdigit()} | {
        i for n, i, _ in found.values() if not n
    }
    renamed = _numbered(numbers)
    return {
        key: torch_name(
            f"heads.{renamed.get(name or index, name)}.{'kernel' if leaf == 'weight' else 'bias'}"
        )
        for key, (name, index, leaf) in found.items()
    }


_HEAD = re.compile(r"^(?:(?P<name>[^.]+)\.)??(?:(?P<index>\d+)\.)?(?P<leaf>weight|bias)$")
"""`image.weight`, `video.1.weight`, `1.weight` (EPIC), `2.1.weight` (a trainer's), `weight`."""


def _numbered(numbers: Iterable[str]) -> dict[str, str]:
    """Names for heads that have none; what no layout tells is called by its number."""
    numbers = set(numbers)
    if numbers == {"1"}:  # a single head behind its dropout
        return {"1": EPIC_HEAD}
    return (
        {number: f"head{number}" for number in numbers}
        if numbers != NUMBERED_HEADS.keys()
        else NUMBERED_HEADS
    )


def _some(keys: Iterable[str], most: int = 3) -> str:
    listed = [key for key, _ in zip(keys, range(most), strict=False)]
    return ", ".join(key[:80] for key in listed) or "none"
