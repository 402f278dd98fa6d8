"""What weights say about themselves: how to build and feed the model and read its answers."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omnivore_jax.core import config as builder
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import sha256
from omnivore_jax.core.types import DISPARITY_MAX
from omnivore_jax.data.protocol import Protocol, from_prose
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads, spec_from_json, spec_to_json
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.weights.reading import read_text

INTENDED_USE = (
    "Classifying images, videos and single-view 3D (RGB-D), and as features for such tasks; for "
    "research."
)
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
NOT_CERTIFIED = {"status": "not run"}
HOW_TO_RUN = ("dtype", "attention_backend", "drop_path", "dropout")
"""Keys of a model that cards of before hold and that say nothing of what its parameters mean."""


UNREADABLE = (
    RecursionError,
    ArithmeticError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)
"""What a card that somebody else wrote can raise."""


class Meaning(NamedTuple):
    """What a card says of how its weights are used, read."""

    model: ModelConfig
    heads: dict[str, Any]
    """By name: the number of classes, or the specification of another head."""
    preprocessing: dict[str, Preprocessing]
    """By head."""


class Origin(NamedTuple):
    """Where weights come from, and on what terms."""

    source: Mapping[str, Any] = {}
    licence: str = ""


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


def model_json(model: ModelConfig) -> dict[str, Any]:
    """Writes what the parameters of a model mean, and nothing of how it is run, as plain JSON."""
    return {key: x for key, x in dataclasses.asdict(model).items() if key not in HOW_TO_RUN}


def make_card(
    model: ModelConfig,
    heads: Heads,
    preprocessing: Mapping[str, Preprocessing],
    *,
    classes: Mapping[str, Sequence[str]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    origin: Origin = Origin(),  # noqa: B008  (a tuple, which nobody can change)
) -> dict[str, Any]:
    """Describes a model as plain JSON.

    `preprocessing`, `classes` (their names, in order) and `inputs` are by head.

    Raises:
        ValueError: a head has another number of classes than names.

    """
    for head, names in (classes or {}).items():
        if not _names_fit(names, heads.get(head, 0)):
            raise ValueError(
                f"classes: {len(names)} names for head {head!r}, which has {heads.get(head, 'no')} "
                "classes"
            )
    return {
        "format": FORMAT,
        "variant": model.name,
        "model": model_json(model),
        "heads": {name: spec_to_json(spec) for name, spec in heads.items()},
        "classes": {head: list(names) for head, names in (classes or {}).items()},
        "preprocessing": {head: dataclasses.asdict(spec) for head, spec in preprocessing.items()},
        "inputs": dict(inputs or {}),
        "source": dict(origin.source),
        "licence": origin.licence,
        "intended_use": INTENDED_USE,
        "limits": list(LIMITS),
        "certificate": dict(NOT_CERTIFIED),
    }


def _names_fit(names: Sequence[str], head: Any) -> bool:
    """Tells whether so many classes can have names; only a linear head says how many it has."""
    return not isinstance(head, int) or len(names) == head


def read_card(card: Mapping[str, Any]) -> Meaning:
    """Undoes `make_card`; what cards of before say of how to run is ignored.

    Raises:
        ConfigError: a key or value is not known.

    """
    model = {key: value for key, value in card["model"].items() if key not in HOW_TO_RUN}
    specs = {
        head: builder.build(Preprocessing, spec, head)
        for head, spec in card["preprocessing"].items()
    }
    heads = {name: spec_from_json(name, said) for name, said in card["heads"].items()}
    return Meaning(builder.build(ModelConfig, model, "model"), heads, specs)


def parse_card(text: str, where: Path) -> tuple[dict[str, Any], Meaning]:
    """Reads the card in the metadata of a file: as it is shown, and what it means.

    Raises:
        UserError: it describes no model.

    """
    try:
        card = json.loads(text)
        _check(card)
        meaning = read_card(card)
    except UNREADABLE as error:
        raise UserError(
            f"{where}: its card describes no model of this version ({error}); convert it again"
        ) from error
    specs = {head: dataclasses.asdict(spec) for head, spec in meaning.preprocessing.items()}
    return card | {"model": model_json(meaning.model), "preprocessing": specs}, meaning


def _check(card: Any) -> None:
    """Raises ValueError for what is no card, and for parts that `read_card` does not look at."""
    if not isinstance(card, dict):
        raise ValueError(f"it is a {type(card).__name__}, no section")
    for key in ("model", "heads", "preprocessing"):
        if not isinstance(card.get(key), dict):
            raise ValueError(f"{key} is {card.get(key)!r}, no section")
    heads = card["heads"]
    for name, said in heads.items():
        spec_from_json(name, said)
    for key in ("classes", "inputs", "source", "certificate"):
        if not isinstance(card.get(key, {}), dict):
            raise ValueError(f"{key} is {card[key]!r}, no section")
    for head, spec in card.get("inputs", {}).items():
        if not isinstance(spec, dict) or not isinstance(spec.get("modality", ""), str):
            raise ValueError(f"inputs of {head!r} are {spec!r}")
        if "protocol" in spec:
            Protocol.from_json(spec["protocol"])
    for head, names in card.get("classes", {}).items():
        if not isinstance(names, list) or not _names_fit(names, heads.get(head, 0)):
            raise ValueError(f"classes of {head!r} are no list of {heads.get(head, 'its')} names")


def protocols_of(card: Mapping[str, Any]) -> dict[str, Protocol]:
    """Reads by head how samples are made ready for scoring; cards of before say it in words."""
    protocols = {}
    for head, spec in card.get("inputs", {}).items():
        limit = card.get("preprocessing", {}).get(head, {}).get("disparity_max", DISPARITY_MAX)
        protocol = from_prose(spec, limit)
        if "protocol" in spec:
            protocol = Protocol.from_json(spec["protocol"])
        if protocol is not None:
            protocols[head] = protocol
    return protocols


def card_beside(weights: Path) -> tuple[dict[str, Any], Meaning] | None:
    """Finds the card that was written with a file of PyTorch's, beside it or in its hub folder.

    None without one.

    Raises:
        UserError: it describes no model.

    """
    for beside in (card_file(weights), weights.with_name(HUB_CARD)):
        text = _text_of(beside)
        digest = _key_of(text, FILE_SHA256)
        if text is not None and digest is not None and digest == sha256(weights):
            return parse_card(text, beside)
    return None


def check_card_file(path: Path) -> None:
    """Raises UserError for a JSON file that a card would replace and that is none."""
    if path.exists() and _key_of(_text_of(path), "format") != FORMAT:
        raise UserError(
            f"{path}, where the card goes, holds something else; move it or choose another "
            "destination"
        )


def _text_of(path: Path) -> str | None:
    """The text of a file that may be anything, or not there."""
    try:
        return read_text(path) if path.is_file() else None
    except UserError:
        return None


def _key_of(text: str | None, key: str) -> Any:
    """What a JSON object says of a key; None where it is none or does not."""
    try:
        return json.loads(text or "null")[key]
    except UNREADABLE:
        return None


def card_file(weights: Path) -> Path:
    """The card beside a file of weights.

    W.json of w.safetensors, w.torch.json of w.torch, which cannot hold one.
    """
    if weights.suffix == ".safetensors":
        return weights.with_suffix(".json")
    return weights.with_name(f"{weights.name}.json")
