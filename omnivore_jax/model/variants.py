"""The models by name: the paper's four sizes, that of the golden cases, that of the demo."""

from dataclasses import fields
from typing import Any

from omnivore_jax.model.config import ModelConfig

_T = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window": (8, 7, 7)}
_S = _T | {"depths": (2, 2, 18, 2)}
_B = _S | {"embed_dim": 128, "num_heads": (4, 8, 16, 32), "window": (16, 7, 7)}
_L = _S | {"embed_dim": 192, "num_heads": (6, 12, 24, 48)}

VARIANTS: dict[str, dict[str, Any]] = {
    "omnivore_swin_t": _T,  # paper, section 4
    "omnivore_swin_s": _S,
    "omnivore_swin_b": _B,
    "omnivore_swin_l": _L,
    "tiny": {
        "embed_dim": 24,
        "depths": (2, 2, 2, 2),
        "num_heads": (1, 2, 4, 8),
        "window": (4, 7, 7),
    },
    "demo": {
        "embed_dim": 32,
        "depths": (2, 2),
        "num_heads": (2, 4),
        "window": (4, 4, 4),
        "position_bias": "joint",
        "init_std": 0.15,  # .02 is made for widths of 96 and more
    },
}

DROP_PATH = {
    "omnivore_swin_t": 0.1,
    "omnivore_swin_s": 0.2,
    "omnivore_swin_b": 0.3,
    "omnivore_swin_l": 0.3,
}
"""Stochastic depth that the paper trains a variant with (App. A); 0 for the others."""

HUB_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "omnivore_swinT": ("omnivore_swin_t", {}),
    "omnivore_swinS": ("omnivore_swin_s", {}),
    "omnivore_swinB": ("omnivore_swin_b", {}),
    "omnivore_swinB_imagenet21k": ("omnivore_swin_b", {}),
    "omnivore_swinL_imagenet21k": ("omnivore_swin_l", {}),
    "omnivore_swinL_kinetics600": ("omnivore_swin_l", {}),
    "omnivore_swinB_epic": ("omnivore_swin_b", {"depth_embed": "none"}),
}
"""What the released code calls its models, and where they differ from our variant."""


def list_models() -> list[str]:
    """Lists the names of the variants."""
    return list(VARIANTS)


def model_config(name: str, **overrides: Any) -> ModelConfig:
    """Looks up a variant, by our name or by the released hub's, and changes some of its fields.

    Raises:
        ValueError: there is no such variant or no such field, or the fields do not fit each other.

    """
    variant, changes = HUB_NAMES.get(name, (name, {}))
    if variant not in VARIANTS:
        names = ", ".join([*VARIANTS, *HUB_NAMES])
        raise ValueError(f"model {name!r} is not known; use one of {names}")
    known = {field.name for field in fields(ModelConfig)} - {"name"}
    for key in sorted(set(overrides) - known):
        raise ValueError(
            f"{key}={overrides[key]!r} is not a field of a model; use one of {sorted(known)}"
        )
    values: dict[str, Any] = {"name": variant} | VARIANTS[variant] | changes | overrides
    return ModelConfig(**values)
