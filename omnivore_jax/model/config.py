"""What the parameters of a model mean: sizes of the trunk and the rules by which they are read."""

from dataclasses import dataclass
from typing import Literal

from omnivore_jax.core.types import Size

DepthEmbed = Literal["summed", "separate", "shared", "none"]
PositionBias = Literal["factored", "joint"]
WindowIndex = Literal["geometric", "released"]

MAX_BLOCKS = 1000


@dataclass(frozen=True)
class ModelConfig:
    """All that fixes a trunk: the function that its parameters define depends on nothing else."""

    name: str
    embed_dim: int
    """Channels of the first stage; every merging doubles them."""
    depths: tuple[int, ...]
    """Blocks of each stage; any number of stages."""
    num_heads: tuple[int, ...]
    window: Size
    patch: Size = (2, 4, 4)
    mlp_ratio: int = 4
    position_bias: PositionBias = "factored"
    """One table over space and one over time (paper, section 3.1), or one over all three axes
    (released weights)."""
    window_index: WindowIndex = "geometric"
    """How a window that the input clamps reads its table; released weights need `released`."""
    depth_embed: DepthEmbed = "summed"
    """The depth channel: embedded, normalised and added (paper); or Table 8's ablations: all four
    channels by an own layer, or a layer for depth whose output is added before one common
    normalisation; or no fourth channel at all."""
    init_std: float = 0.02
    """Of the normal distribution that weights and tables are drawn from."""

    def __post_init__(self):
        if not len(self.depths) == len(self.num_heads) > 0:
            raise ValueError(
                f"depths={self.depths} and num_heads={self.num_heads}; give one of each per stage"
            )
        smallest = min(self.embed_dim, self.mlp_ratio, *self.depths, *self.num_heads)
        if smallest < 1 or sum(self.depths) > MAX_BLOCKS:
            raise ValueError(
                f"embed_dim={self.embed_dim}, depths={self.depths}, num_heads={self.num_heads}, "
                f"mlp_ratio={self.mlp_ratio}; use numbers of 1 or more, and up to {MAX_BLOCKS} "
                "blocks"
            )
        for stage, heads in enumerate(self.num_heads):
            if self.width(stage) % heads:
                raise ValueError(
                    f"num_heads={self.num_heads}: {heads} does not divide width {self.width(stage)}"
                )
        for name, extent in (("window", self.window), ("patch", self.patch)):
            if len(extent) != 3 or min(extent) < 1:
                raise ValueError(f"{name}={extent}; use three numbers of 1 or more (t, h, w)")

    def width(self, stage: int) -> int:
        """Channels of a stage, before its merging."""
        return self.embed_dim * 2**stage

    @property
    def feature_dim(self) -> int:
        """Channels of the pooled feature (8C where there are four stages)."""
        return self.width(len(self.depths) - 1)
