"""The models by name: sizes of the paper's four, of the one that the golden cases use, and of the demo."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from omnivore_jax.core.types import Size

MOST_BLOCKS = 1000


@dataclass(frozen=True)
class ModelConfig:
    """All that fixes a trunk and how it computes; its parameters depend on nothing else but the heads."""

    name: str
    embed_dim: int
    """Channels of the first stage; every merging doubles them."""
    depths: tuple[int, ...]
    """Blocks of each stage; any number of stages."""
    num_heads: tuple[int, ...]
    window: Size
    patch: Size = (2, 4, 4)
    mlp_ratio: int = 4
    position_bias: Literal["factored", "joint"] = "factored"
    """One table over space and one over time (paper, section 3.1), or one over all three axes (released weights)."""
    window_index: Literal["geometric", "released"] = "geometric"
    """How a window that the input clamps reads its table; released weights need `released`."""
    depth_embed: Literal["summed", "separate", "shared", "none"] = "summed"
    """The depth channel: embedded, normalised and added (paper); or Table 8's ablations: all four channels by an own
    layer, or a layer for depth whose output is added before one common normalisation; or no fourth channel at all."""
    drop_path: float = 0.0
    """Stochastic depth of the last block; it grows linearly from 0 at the first."""
    dropout: float = 0.0
    """After the embedding, the softmax, both projections of a block and the GELU; 0 in every official config."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters, statistics, softmax and position bias stay float32."""
    init_std: float = 0.02
    attention_backend: str = "auto"

    def __post_init__(self):
        if not len(self.depths) == len(self.num_heads) > 0:
            raise ValueError(f"depths={self.depths} and num_heads={self.num_heads}; give one of each per stage")
        if min(self.embed_dim, self.mlp_ratio, *self.depths, *self.num_heads) < 1 or sum(self.depths) > MOST_BLOCKS:
            raise ValueError(
                f"embed_dim={self.embed_dim}, depths={self.depths}, num_heads={self.num_heads}, "
                f"mlp_ratio={self.mlp_ratio}; use numbers of 1 or more, and up to {MOST_BLOCKS} blocks"
            )
        for stage, heads in enumerate(self.num_heads):
            if self.width(stage) % heads:
                raise ValueError(f"num_heads={self.num_heads}: {heads} does not divide width {self.width(stage)}")
        for name, extent in (("window", self.window), ("patch", self.patch)):
            if len(extent) != 3 or min(extent) < 1:
                raise ValueError(f"{name}={extent}; use three numbers of 1 or more (t, h, w)")
        for name in ("drop_path", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; use a number from 0 to below 1")

    def width(self, stage: int) -> int:
        """Channels of a stage, before its merging."""
        return self.embed_dim * 2**stage

    @property
    def feature_dim(self) -> int:
        """Channels of the pooled feature (8C where there are four stages)."""
        return self.width(len(self.depths) - 1)


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
        raise ValueError(f"model {name!r} is not known; use one of {', '.join([*VARIANTS, *HUB_NAMES])}")
    known = {field.name for field in fields(ModelConfig)} - {"name"}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise ValueError(
            f"{unknown[0]}={overrides[unknown[0]]!r} is not a field of a model; use one of {sorted(known)}"
        )
    values: dict[str, Any] = {"name": variant} | VARIANTS[variant] | changes | overrides
    return ModelConfig(**values)
