"""What a model costs, from its sizes alone.

Parameters, arithmetic, activations and the layout of its tokens.

Nothing is compiled and no device is touched. Arithmetic counts matrix products alone, a
multiply-add as 2.
"""

import math
from typing import NamedTuple

import jax

from omnivore_jax.core.types import Size
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads
from omnivore_jax.model.params import Params, abstract_model
from omnivore_jax.model.window import WindowGrid, window_grid


class StageLayout(NamedTuple):
    """How one sample lies in a stage.

    Plain blocks (even ones) and shifted ones (odd ones) differ in `shift` alone.
    """

    size: Size
    """Of the map, in tokens."""
    channels: int
    heads: int
    blocks: int
    window: Size
    """Clamped to the map."""
    windows: int
    padded: Size
    """The map once it is a whole number of windows."""
    shift: Size
    """Of the odd blocks."""

    @property
    def tokens(self) -> int:
        return math.prod(self.size)

    @property
    def padded_tokens(self) -> int:
        return math.prod(self.padded)

    @property
    def window_tokens(self) -> int:
        return math.prod(self.window)


def parameter_count(config: ModelConfig, heads: Heads | None = None) -> dict[str, int]:
    """Counts parameters: {"trunk": ..., "heads.image": ..., "total": ...}."""
    _, params = abstract_model(config, heads or {})
    parts = {"trunk": params["trunk"]}
    parts |= {f"heads.{name}": head for name, head in params.get("heads", {}).items()}
    counts = {name: _elements(part) for name, part in parts.items()}
    return counts | {"total": sum(counts.values())}


def _elements(params: Params) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def layout(config: ModelConfig, size: Size) -> list[StageLayout]:
    """Lays out a sample of (frames, rows, columns) stage by stage."""
    tokens = tuple(-(-extent // patch) for extent, patch in zip(size, config.patch, strict=True))
    stages = []
    for stage, (blocks, heads) in enumerate(zip(config.depths, config.num_heads, strict=True)):
        grid: WindowGrid = window_grid(
            (tokens[0], tokens[1], tokens[2]), config.window, shifted=True
        )
        windows = math.prod(grid.padded) // math.prod(grid.window)
        channels = config.width(stage)
        stages.append(
            StageLayout(
                grid.size, channels, heads, blocks, grid.window, windows, grid.padded, grid.shift
            )
        )
        tokens = (tokens[0], -(-tokens[1] // 2), -(-tokens[2] // 2))
    return stages


def flops(config: ModelConfig, size: Size, channels: int = 3, classes: int = 0) -> int:
    """Counts the forward pass of one sample; training takes three times as much."""
    stages = layout(config, size)
    frames = min(size[0], config.patch[0])  # a shorter input meets only its part of the kernel
    products = (
        stages[0].tokens
        * config.embed_dim
        * frames
        * math.prod(config.patch[1:])
        * _embedded(config, channels)
    )
    for stage, after in zip(stages, [*stages[1:], None], strict=True):
        c = stage.channels
        attention = (
            stage.padded_tokens * (3 * c * c + 2 * stage.window_tokens * c) + stage.tokens * c * c
        )
        products += stage.blocks * (attention + stage.tokens * 2 * config.mlp_ratio * c * c)
        products += 0 if after is None else after.tokens * 4 * c * 2 * c
    return 2 * (products + config.feature_dim * classes)


def _embedded(config: ModelConfig, channels: int) -> int:
    """Channels that go through a patch embedding."""
    if channels not in (3, 4) or (channels == 4 and config.depth_embed == "none"):
        raise ValueError(
            f"channels={channels}; use 3 (RGB)" + (", or 4" if config.depth_embed != "none" else "")
        )
    return channels


def activation_bytes(config: ModelConfig, size: Size, compute: Compute = Compute()) -> int:
    """Estimates what one sample holds at the height of a training step, with unfused attention.

    A block keeps, per token and in units of C values: its two inputs (2), two normalised maps (2),
    q, k, v (3), the output of attention (1), both sides of the GELU (8); and float32 attention
    weights, heads x window tokens. Recomputed attention keeps its input alone, a recomputed block
    both inputs; the largest stands there once in full. While the largest block is differentiated,
    the gradients of its attention weights and logits stand beside them in float32, and the weights
    once more in the type of the computation.
    """
    width = 2 if compute.dtype == "bfloat16" else 4
    kept, largest, differentiated = 0, 0, 0
    for stage in layout(config, size):
        pairs = stage.padded_tokens * stage.heads * stage.window_tokens
        tokens = 2 * stage.tokens + 3 * stage.padded_tokens
        attention = width * stage.channels * tokens + 4 * pairs
        mlp = width * stage.channels * stage.tokens * (1 + 2 * config.mlp_ratio)
        inputs = 2 * width * stage.channels * stage.tokens
        recomputed = {"none": 0, "attention": attention, "block": attention + mlp}[compute.remat]
        kept += stage.blocks * (inputs + attention + mlp - recomputed)
        largest = max(largest, recomputed)
        differentiated = max(differentiated, (4 + 4 + width) * pairs)
    return kept + largest + differentiated
