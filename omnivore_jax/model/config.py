"""What the parameters of a model mean: the sizes of its trunk and the rules by which they are read."""

from dataclasses import dataclass
from typing import Literal

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
            raise ValueError(
                f"depths={self.depths} and num_heads={self.num_heads}; give one of each per stage"
            )
        if (
            min(self.embed_dim, self.mlp_ratio, *self.depths, *self.num_heads) < 1
            or sum(self.depths) > MOST_BLOCKS
        ):
            raise ValueError(
                f"embed_dim={self.embed_dim}, depths={self.depths}, num_heads={self.num_heads}, "
                f"mlp_ratio={self.mlp_ratio}; use numbers of 1 or more, and up to {MOST_BLOCKS} blocks"
            )
        for stage, heads in enumerate(self.num_heads):
            if self.width(stage) % heads:
                raise ValueError(
                    f"num_heads={self.num_heads}: {heads} does not divide width {self.width(stage)}"
                )
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
