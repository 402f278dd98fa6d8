"""The models by name.

Sizes of the paper's four, of the one that the golden cases use, and of the demo.
"""

from dataclasses import fields
from typing import Any

from omnivore_jax.model.config import ModelConfig

_SWIN = {"window": (8, 7, 7)}
VARIANTS: dict[str, dict[str, Any]] = {  # paper, section 4; drop path from App. A
    "omnivore_swin_t": _SWIN
    | {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "drop_path": 0.1},
    "omnivore_swin_s": _SWIN
    | {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24), "drop_path": 0.2},
    "omnivore_swin_b": {
        "embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32), "window": (16, 7, 7), "drop_path": 0.3,
    },
    "omnivore_swin_l": _SWIN
    | {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48), "drop_path": 0.3},
    "tiny": {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8), "window": (4, 7, 7)},
    "demo": {
        "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "window": (4, 4, 4), "position_bias": "joint",
        "init_std": 0.15,  # .02 is made for widths of 96 and more
    },
}  # fmt: skip

HUB_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "omnivore_swinT": ("omnivore_swin_t", {}),
    "omnivore_swinS": ("omnivore_swin_s", {}),
    "omnivore_swinB": ("omnivore_swin_b", {}),
    "omnivore_swinB_imagenet21k": ("omnivore_swin_b", {}),
    "omnivore_swinL_imagenet21k": ("omnivore_swin_l", {}),
    "omnivore_swinL_kinetics600": ("omnivore_swin_l", {}),
    "omnivore_swinB_epic": ("omnivore_swin_b", {"depth_embed": "none", "drop_path": 0.4}),
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
        raise ValueError(
            f"model {name!r} is not known; use one of {', '.join([*VARIANTS, *HUB_NAMES])}"
        )
    known = {field.name for field in fields(ModelConfig)} - {"name"}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise ValueError(
            f"{unknown[0]}={overrides[unknown[0]]!r} is not a field of a model; use one of "
            f"{sorted(known)}"
        )
    values: dict[str, Any] = {"name": variant} | VARIANTS[variant] | changes | overrides
    return ModelConfig(**values)
