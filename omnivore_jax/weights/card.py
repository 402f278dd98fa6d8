"""What weights say about themselves.

Enough to build and feed the model, read its answers and know its origin.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omnivore_jax.core import config as builder
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import sha256
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import check_name
from omnivore_jax.model.preprocess import Preprocessing

INTENDED_USE = "Classifying images, videos and single-view 3D (RGB-D), and as features for such tasks; for research."
LIMITS = (
    "Single-view 3D only: no voxels, no point clouds.",
    "Depth is not scale invariant: feed it in the convention that the weights were trained with.",
    "Visual modalities only; sound is not used.",
    "Pre-trained by classification alone; structured prediction may want richer representations.",
    "Look for ethical problems before deployment: performance that differs between groups of "
    "users, associations that "
    "may be harmful to some, predictions that may propagate stereotypes.",
)
"""Paper, section 6."""
FORMAT = "omnivore_jax weights"
HUB_CARD = "card.json"
"""In a folder for torch.hub."""
FILE_SHA256 = "file_sha256"
"""Key of a card that lies beside a file of PyTorch's, which cannot hold it.

The file that it was written with.
"""
HOW_TO_RUN = ("dtype", "drop_path", "dropout", "attention_backend")
"""Keys of the models in older cards that say nothing of what weights mean; they are ignored."""
NOT_CERTIFIED = {"status": "not run"}


class Card(Mapping[str, Any]):
    """A card as `model.card` shows it: a mapping that prints as JSON."""

    def __init__(self, content: Mapping[str, Any]):
        self._content = json.loads(json.dumps(content))  # a copy that nobody else holds

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __str__(self) -> str:
        return json.dumps(self._content, indent=2)

    __repr__ = __str__

    def __hash__(self) -> int:
        return id(self)  # a model's card is a static part of it, which jit hashes

    def __eq__(self, other: object) -> bool:
        return self is other


def make_card(
    model: ModelConfig,
    heads: Mapping[str, int],
    preprocessing: Mapping[str, Preprocessing],
    *,
    classes: Mapping[str, Sequence[str]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    licence: str = "",
) -> dict[str, Any]:
    """Describes a model as plain JSON.

    `preprocessing`, `classes` (their names, in order) and `inputs` are by head.

    Raises:
        ValueError: a head has another number of classes than names.

    """
    for head, names in (classes or {}).items():
        if len(names) != heads.get(head):
            raise ValueError(
                f"classes: {len(names)} names for head {head!r}, which has {heads.get(head, 'no')} "
                "classes"
            )
    return {
        "format": FORMAT,
        "variant": model.name,
        "model": dataclasses.asdict(model),
        "heads": dict(heads),
        "classes": {head: list(names) for head, names in (classes or {}).items()},
        "preprocessing": {head: dataclasses.asdict(spec) for head, spec in preprocessing.items()},
        "inputs": dict(inputs or {}),
        "source": dict(source or {}),
        "licence": licence,
        "intended_use": INTENDED_USE,
        "limits": list(LIMITS),
        "certificate": dict(NOT_CERTIFIED),
    }


def read_card(
    card: Mapping[str, Any],
) -> tuple[ModelConfig, dict[str, int], dict[str, Preprocessing]]:
    """Undoes `make_card`."""
    specs = {
        head: builder.build(Preprocessing, spec, head)
        for head, spec in card["preprocessing"].items()
    }
    model = {key: value for key, value in card["model"].items() if key not in HOW_TO_RUN}
    return builder.build(ModelConfig, model, "model"), dict(card["heads"]), specs


def parse_card(text: str, where: Path) -> dict[str, Any]:
    """Reads the card in the metadata of a file.

    Raises:
        UserError: it describes no model.

    """
    try:
        card = json.loads(text)
        _check(card)
        specs = read_card(card)[2]
    except (
        RecursionError,
        ArithmeticError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise UserError(
            f"{where}: its card describes no model of this version ({error}); convert it again"
        ) from error
    return card | {
        "preprocessing": {head: dataclasses.asdict(spec) for head, spec in specs.items()}
    }


def _check(card: Mapping[str, Any]) -> None:
    """Raises ValueError for parts of a card that `read_card` does not look at."""
    heads = card["heads"]
    for name, classes in heads.items():
        check_name(name)
        if not isinstance(classes, int) or classes < 1:
            raise ValueError(f"head {name!r} has {classes!r} classes")
    for key in ("classes", "inputs", "source", "certificate"):
        if not isinstance(card.get(key, {}), dict):
            raise ValueError(f"{key} is {card[key]!r}, no section")
    for head, spec in card.get("inputs", {}).items():
        if not isinstance(spec, dict) or not isinstance(spec.get("modality", ""), str):
            raise ValueError(f"inputs of {head!r} are {spec!r}")
    for head, names in card.get("classes", {}).items():
        if not isinstance(names, list) or len(names) != heads.get(head):
            raise ValueError(f"classes of {head!r} are no list of {heads.get(head, 'its')} names")


def card_beside(weights: Path) -> dict[str, Any] | None:
    """The card that was written with a file of PyTorch's, beside it or in its torch.hub folder.

    None without one.

    Raises:
        UserError: it describes no model.

    """
    for beside in (card_file(weights), weights.with_name(HUB_CARD)):
        try:
            digest = json.loads(beside.read_text())[FILE_SHA256]
        except (OSError, RecursionError, ValueError, KeyError, TypeError):
            continue
        if digest == sha256(weights):
            return parse_card(beside.read_text(), beside)
    return None


def check_card_file(path: Path) -> None:
    """Raises UserError for a JSON file that a card would replace and that is none."""
    try:
        format_ = json.loads(path.read_text())["format"] if path.exists() else FORMAT
    except (OSError, RecursionError, ValueError, KeyError, TypeError):
        format_ = None
    if format_ != FORMAT:
        raise UserError(
            f"{path}, where the card goes, holds something else; move it or choose another "
            "destination"
        )


def card_file(weights: Path) -> Path:
    """The card beside a file of weights.

    W.json of w.safetensors, w.torch.json of w.torch, which cannot hold one.
    """
    return (
        weights.with_suffix(".json")
        if weights.suffix == ".safetensors"
        else weights.with_name(f"{weights.name}.json")
    )
