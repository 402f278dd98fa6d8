"""Any file or run with weights, opened: its model, and its arrays by our paths, not yet read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from absl import logging

from omnivore_jax.core.buckets import ObjectPath, local_copy, place
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.mirror import CHECKPOINTS
from omnivore_jax.core.types import Size
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.weights.card import card_beside, card_file, parse_card
from omnivore_jax.weights.lazy import LazyArray
from omnivore_jax.weights.reading import kind_of
from omnivore_jax.weights.safetensors import CARD, read_safetensors
from omnivore_jax.weights.torch import layouts, sizes
from omnivore_jax.weights.torch.arrange import arranged
from omnivore_jax.weights.torch.hub import WEIGHTS
from omnivore_jax.weights.torch.names import from_torch, path_of, torch_name

if TYPE_CHECKING:
    from omnivore_jax.checkpoint.manager import CheckpointManager

RUN = "run of omnivore_jax"
OURS = "omnivore_jax"


@dataclass(frozen=True)
class WeightsFile:
    """An opened file of weights, or the checkpoint of a run."""

    path: Path
    layout: str
    config: ModelConfig
    """Of the model as it is in the file; a 2-D Swin is 1 long in time."""
    heads: dict[str, Any]
    """By name: the number of classes, or the specification of another head."""
    arrays: dict[str, LazyArray]
    """By our path, in our layout."""
    names: dict[str, str]
    """The file's key by our path, or its keys with commas between."""
    tensors: dict[str, LazyArray] = field(default_factory=dict)
    """By our path, as PyTorch lays them out (a 2-D patch kernel 1 long in time).

    Empty where the file is ours.
    """
    rules: Mapping[str, str] = field(default_factory=dict)
    """By our path: how the file's tensors were put together, where that is not as they are."""
    card: Mapping[str, Any] | None = None
    """In a file of ours; of PyTorch's, the one that we wrote beside it."""
    buffers: list[str] = field(default_factory=list)
    training: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Keys of other models in the file."""
    unknown: list[str] = field(default_factory=list)

    @property
    def is_pytorch(self) -> bool:
        """Whether the arrays are named and laid out as PyTorch does it."""
        return bool(self.tensors)

    def state(self) -> dict[str, np.ndarray]:
        """The tensors of a PyTorch file as they are, by released name."""
        return {torch_name(path): tensor.read() for path, tensor in self.tensors.items()}


class Asked(NamedTuple):
    """What a person says of a file of PyTorch's."""

    variant: str | None
    prefix: str | None
    source_window: Size | None


def open_weights(
    path: str | Path,
    *,
    variant: str | None = None,
    prefix: str | None = None,
    source_window: Size | None = None,
    weights: Literal["ema", "params"] = "ema",
) -> WeightsFile:
    """Opens a run's folder, a safetensors file of ours or a file of PyTorch's, whatever its name.

    A folder that we wrote for torch.hub is its file of weights. `variant`, `prefix` and
    `source_window` are as `sizes.read_config` and `layouts.detect` take them; `weights` says which
    of a run's to take.

    Raises:
        UserError: it is none of these, or damaged; one line says what was found.

    """
    path = here(path)
    if path.is_dir() and not (path / WEIGHTS).is_file():
        return _of_variant(open_run(path, weights), variant)
    if weights == "params":
        raise UserError(
            f"--raw, but {path} holds one set of weights; it is for the folder of a run"
        )
    path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path} is not there; give a file of weights or the folder of a run")
    arrays, metadata, others = _read(path)
    if CARD in metadata:
        card, meaning = parse_card(metadata[CARD], path)
        names = {name: name for name in arrays}
        ours = WeightsFile(path, OURS, meaning.model, meaning.heads, arrays, names, card=card)
        return _of_variant(ours, variant)
    return _theirs(path, arrays, others, Asked(variant, prefix, source_window))


def here(path: str | Path) -> Path:
    """Gives weights as this machine can read them: of a bucket a copy, but the run that is there.

    Raises:
        UserError: the bucket cannot be read, or nothing is there.

    """
    there = place(path)
    if not isinstance(there, ObjectPath) or (there / CHECKPOINTS).is_dir():
        return there
    copy, beside = local_copy(there), card_file(there)
    if copy.is_file() and beside.is_file():
        card_file(copy).write_bytes(beside.read_bytes())
    return copy


def _read(path: Path) -> tuple[dict[str, LazyArray], dict[str, str], list[str]]:
    """Opens a file by what its first bytes say: arrays, metadata, keys of what is no array."""
    if kind_of(path) == "safetensors":
        return *read_safetensors(path), []
    from omnivore_jax.weights.torch.file import read_torch

    tensors, others = read_torch(path)
    return tensors, {}, others


def _of_variant(source: WeightsFile, variant: str | None) -> WeightsFile:
    return replace(source, config=sizes.check_variant(source.config, variant, str(source.path)))


def open_run(
    folder: Path, weights: Literal["ema", "params"] = "ema", at: int | None = None
) -> WeightsFile:
    """Opens the checkpoint of step `at`; None: the best of the run, the newest if none was scored.

    Raises:
        UserError: there is none, or it is damaged.

    """
    from omnivore_jax.checkpoint.manager import CheckpointManager

    checkpoints = folder / CHECKPOINTS
    if not checkpoints.is_dir():
        raise UserError(f"{folder} holds no checkpoints/; give the folder of a run")
    with CheckpointManager(checkpoints, read_only=True) as manager:
        step = _best_or_newest(manager) if at is None else manager.choose(at)
        if step is None:
            raise UserError(f"{checkpoints} has no finished checkpoint; train first")
        shapes = {
            k: v for k, v in manager.saved_shapes(step).items() if k.startswith(f"{weights}.")
        }
        card, meaning = parse_card(json.dumps(manager.metadata(step).get("card")), folder)

    @cache
    def state() -> Mapping[str, np.ndarray]:
        with CheckpointManager(checkpoints, read_only=True) as manager:
            return manager.restore_part(shapes, step).state

    names = {key.removeprefix(f"{weights}."): key for key in shapes}
    arrays = {
        path: LazyArray(shapes[k].shape, str(shapes[k].dtype), lambda k=k: state()[k])
        for path, k in names.items()
    }
    layout = f"{RUN}, {weights} of step {step}"
    return WeightsFile(folder, layout, meaning.model, meaning.heads, arrays, names, card=card)


def _best_or_newest(manager: "CheckpointManager") -> int | None:
    """The step that scored highest, where it is undamaged."""
    best = manager.best_step()
    if best is not None:
        try:
            return manager.choose(best)
        except UserError as damage:
            logging.warning("%s; taking the newest undamaged one", damage)
    return manager.latest_good_step()


def _theirs(
    path: Path,
    tensors: Mapping[str, LazyArray],
    others: list[str],
    asked: "Asked",
) -> WeightsFile:
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    layout = layouts.detect(shapes, str(path), asked.prefix)
    named = arranged(layout, tensors)
    beside = card_beside(path)
    if beside is None:
        card = None
        sizes_by_name = {name: tensor.shape for name, tensor in named.items()}
        tokens = sizes.window_tokens({key: shapes[key] for key in layout.buffers})
        config = sizes.read_config(
            sizes_by_name, str(path), asked.variant, tokens, asked.source_window
        )
    else:
        card, meaning = beside
        config = sizes.check_variant(meaning.model, asked.variant, str(path))
    arrays, names, in_torch, rules, unknown = {}, {}, {}, {}, []
    for name, origin in layout.names.items():
        try:
            ours = path_of(name)
        except ValueError:
            unknown += origin.keys
            continue
        in_torch[ours] = _with_time(name, named[name])
        arrays[ours] = _transposed(name, in_torch[ours])
        names[ours], rules[ours] = ", ".join(origin.keys), origin.rule
    heads = {
        p.split(".")[1]: a.shape[-1]
        for p, a in arrays.items()
        if p.startswith("heads.") and p.endswith("kernel")
    }
    if card is not None and card["heads"] != heads:
        raise UserError(
            f"{path} has the heads {heads}, the card beside it {card['heads']}; delete the card"
        )
    return WeightsFile(
        path,
        layout.title,
        config,
        heads,
        arrays,
        names,
        tensors=in_torch,
        rules={ours: rule for ours, rule in rules.items() if rule},
        card=card,
        buffers=layout.buffers,
        training=layout.training + [key for key in others if layouts.is_training(key, None)],
        others=layout.others,
        unknown=unknown + layout.unknown,
    )


def _with_time(name: str, tensor: LazyArray) -> LazyArray:
    """A 2-D patch kernel becomes one that is 1 long in time."""
    if not name.endswith("patch_embed.proj.weight") or len(tensor.shape) != 4:
        return tensor
    return tensor.then((*tensor.shape[:2], 1, *tensor.shape[2:]), lambda array: array[:, :, None])


def _transposed(name: str, tensor: LazyArray) -> LazyArray:
    """In our layout."""
    shape = tensor.shape
    if name.endswith(".weight") and len(shape) in (2, 5):
        shape = shape[::-1] if len(shape) == 2 else (*shape[2:], shape[1], shape[0])
    return tensor.then(shape, lambda array: from_torch(name, array)[1])
