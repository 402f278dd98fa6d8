"""Any file or run with weights, opened.

What model is in it and its arrays by our paths, not yet read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from absl import logging

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Size
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.weights.card import card_beside, parse_card, read_card
from omnivore_jax.weights.lazy import Lazy
from omnivore_jax.weights.safetensors import CARD, read_safetensors
from omnivore_jax.weights.torch import layouts
from omnivore_jax.weights.torch import sizes as geometry
from omnivore_jax.weights.torch.hub import WEIGHTS
from omnivore_jax.weights.torch.names import from_torch, path_of, torch_name

if TYPE_CHECKING:
    from omnivore_jax.checkpoint.manager import CheckpointManager

RUN = "run of omnivore_jax"
OURS = "omnivore_jax"


@dataclass(frozen=True)
class Source:
    """An opened file of weights, or the checkpoint of a run."""

    path: Path
    layout: str
    config: ModelConfig
    """Of the model as it is in the file; a 2-D Swin is 1 long in time."""
    heads: dict[str, int]
    arrays: dict[str, Lazy]
    """By our path, in our layout."""
    names: dict[str, str]
    """The file's key by our path."""
    tensors: dict[str, Lazy] = field(default_factory=dict)
    """By our path, as PyTorch lays them out (a 2-D patch kernel 1 long in time).

    Empty where the file is ours.
    """
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


def open_source(
    path: str | Path,
    *,
    variant: str | None = None,
    prefix: str | None = None,
    source_window: Size | None = None,
    weights: Literal["ema", "params"] = "ema",
) -> Source:
    """Opens a run's folder, a safetensors file of ours or any PyTorch layout of FACTS 2, whatever its name.

    A folder that we wrote for torch.hub is its file of weights. `variant`, `prefix` and `source_window` are as
    `geometry.read_config` and `layouts.detect` take them; `weights` says which of a run's to take.

    Raises:
        UserError: it is none of these, or damaged; one line says what was found.

    """
    path = Path(path)
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
        return _of_variant(_ours(path, arrays, parse_card(metadata[CARD], path)), variant)
    return _theirs(path, arrays, others, variant, prefix, source_window)


def _read(path: Path) -> tuple[dict[str, Lazy], dict[str, str], list[str]]:
    """Tells the format by the first bytes."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{" and start[:4] != b"PK\x03\x04":
        return *read_safetensors(path), []
    if start[:2] not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise UserError(f"{path} is neither a safetensors nor a PyTorch file; get it again")
    from omnivore_jax.weights.torch.file import read_torch

    tensors, others = read_torch(path)
    return tensors, {}, others


def _ours(path: Path, arrays: Mapping[str, Lazy], card: Mapping[str, Any]) -> Source:
    config, heads, _ = read_card(card)
    return Source(
        path, OURS, config, heads, dict(arrays), {name: name for name in arrays}, card=card
    )


def _of_variant(source: Source, variant: str | None) -> Source:
    return replace(source, config=geometry.check_variant(source.config, variant, str(source.path)))


def open_run(folder: Path, weights: Literal["ema", "params"] = "ema") -> Source:
    """Opens the best checkpoint of a run (the newest one where none was scored).

    Raises:
        UserError: there is none, or it is damaged.

    """
    from omnivore_jax.checkpoint.manager import CheckpointManager

    checkpoints = folder / "checkpoints"
    if not checkpoints.is_dir():
        raise UserError(f"{folder} holds no checkpoints/; give the folder of a run")
    with CheckpointManager(checkpoints, read_only=True) as manager:
        step = _best_or_newest(manager)
        if step is None:
            raise UserError(f"{checkpoints} has no finished checkpoint; train first")
        shapes = {
            k: v for k, v in manager.saved_shapes(step).items() if k.startswith(f"{weights}.")
        }
        card = parse_card(json.dumps(manager.metadata(step).get("card")), folder)

    @cache
    def state() -> Mapping[str, np.ndarray]:
        with CheckpointManager(checkpoints, read_only=True) as manager:
            return manager.restore_part(shapes, step).state

    names = {key.removeprefix(f"{weights}."): key for key in shapes}
    arrays = {
        path: Lazy(shapes[k].shape, str(shapes[k].dtype), lambda k=k: state()[k])
        for path, k in names.items()
    }
    config, heads, _ = read_card(card)
    return Source(
        folder, f"{RUN}, {weights} of step {step}", config, heads, arrays, names, card=card
    )


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
    tensors: Mapping[str, Lazy],
    others: list[str],
    variant: str | None,
    prefix: str | None,
    window: Size | None,
) -> Source:
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    layout = layouts.detect(shapes, str(path), prefix)
    named = {name: shapes[key] for name, key in layout.names.items()}
    card = card_beside(path)
    if card is None:
        tokens = geometry.window_tokens({key: shapes[key] for key in layout.buffers})
        config = geometry.read_config(named, str(path), variant, tokens, window)
    else:
        config = geometry.check_variant(read_card(card)[0], variant, str(path))
    arrays, names, held, unknown = {}, {}, {}, []
    for name, key in layout.names.items():
        try:
            ours = path_of(name)
        except ValueError:
            unknown.append(key)
            continue
        held[ours], names[ours] = _with_time(name, tensors[key]), key
        arrays[ours] = _transposed(name, held[ours])
    rest = [key for key in others if layouts.is_training(key)]
    heads = {
        p.split(".")[1]: a.shape[-1]
        for p, a in arrays.items()
        if p.startswith("heads.") and p.endswith("kernel")
    }
    if card is not None and card["heads"] != heads:
        raise UserError(
            f"{path} has the heads {heads}, the card beside it {card['heads']}; delete the card"
        )
    source = Source(path, layout.title, config, heads, arrays, names, held, card)
    source = replace(
        source, buffers=layout.buffers, training=layout.training + rest, others=layout.others
    )
    return replace(source, unknown=unknown + layout.unknown)


def _with_time(name: str, tensor: Lazy) -> Lazy:
    """A 2-D patch kernel becomes one that is 1 long in time."""
    if not name.endswith("patch_embed.proj.weight") or len(tensor.shape) != 4:
        return tensor
    return tensor.then((*tensor.shape[:2], 1, *tensor.shape[2:]), lambda array: array[:, :, None])


def _transposed(name: str, tensor: Lazy) -> Lazy:
    """In our layout."""
    shape = tensor.shape
    if name.endswith(".weight") and len(shape) in (2, 5):
        shape = shape[::-1] if len(shape) == 2 else (*shape[2:], shape[1], shape[0])
    return tensor.then(shape, lambda array: from_torch(name, array)[1])
