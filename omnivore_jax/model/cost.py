"""What a model costs, from its sizes alone.

Parameters, arithmetic, activations and the layout of its tokens.

Nothing is compiled and no device is touched. Arithmetic counts matrix products alone, a
multiply-add as 2.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from omnivore_jax.core.types import Size
from omnivore_jax.model.attention.base import Device
from omnivore_jax.model.attention.table import choose, stage_calls
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.params import abstract_model
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


def parameter_count(config: ModelConfig, heads: Mapping[str, int] | None = None) -> dict[str, int]:
    """Counts parameters: {"trunk": ..., "heads.image": ..., "total": ...}."""
    _, params = abstract_model(config, heads or {})
    parts = {"trunk": params["trunk"]} | {
        f"heads.{name}": head for name, head in params.get("heads", {}).items()
    }
    counts = {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part))
        for name, part in parts.items()
    }
    return counts | {"total": sum(counts.values())}


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


def flops(config: ModelConfig, size: Size, channels: int = 3, head: Any = 0) -> int:
    """Counts the forward pass of one sample; training takes three times as much.

    `head`: the number of classes of a linear one, or the specification of another.
    """
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
    if isinstance(head, int):
        return 2 * (products + config.feature_dim * head)
    return 2 * (products + head.products([(s.channels, math.prod(s.size)) for s in stages]))


def _embedded(config: ModelConfig, channels: int) -> int:
    """Channels that go through a patch embedding."""
    if channels not in (3, 4) or (channels == 4 and config.depth_embed == "none"):
        raise ValueError(
            f"channels={channels}; use 3 (RGB)" + (", or 4" if config.depth_embed != "none" else "")
        )
    return channels


LANES, ROWS = 128, 8
"""A TPU stores arrays in tiles of ROWS x LANES over their last two axes."""


TPU = Device("tpu")


def activation_bytes(
    config: ModelConfig, size: Size, compute: Compute = Compute(), device: Device = TPU
) -> int:
    """Estimates what one sample takes at the fullest moment of a step.

    That is the backward pass through the last block of the widest stage: what all blocks have kept,
    what that block computes again, and the gradient inside it. Arrays lie in tiles on a TPU, and
    n x n maps count where the attention backend keeps them.

    Raises:
        ValueError: the attention backend is not known or cannot serve.

    """
    width = 2 if compute.dtype == "bfloat16" else 4
    tiled = device.platform == "tpu"
    kept, largest = 0, 0
    for index, stage in enumerate(layout(config, size)):
        tokens = width * stage.tokens * _tiles(1, stage.channels, tiled)
        hidden = width * stage.tokens * _tiles(1, config.mlp_ratio * stage.channels, tiled)
        inside = _attention_bytes(stage, compute, device)
        # Normalized input and output; the exponentials, from which all gradients follow.
        attention = 2 * tokens + inside.qkv + inside.maps
        # Normalized input, and both sides of the GELU.
        mlp = tokens + 2 * hidden
        recomputed = {"none": 0, "attention": attention, "block": attention + mlp}[compute.remat]
        kept += stage.blocks * (2 * tokens + attention + mlp - recomputed)  # 2: a block's inputs
        kept += tokens if index == 0 else 0  # the embedding, before it is normalized
        fresh = recomputed + (inside.again if recomputed else 0)
        largest = max(largest, fresh + max(inside.gradients, 2 * hidden))
    return kept + largest


class AttentionBytes(NamedTuple):
    """What window attention takes for one sample."""

    qkv: int
    maps: int
    """The n x n maps that a block keeps."""
    again: int
    """What maps take beside that where they are computed again."""
    gradients: int


def _attention_bytes(stage: StageLayout, compute: Compute, device: Device) -> AttentionBytes:
    width, tiled = 2 if compute.dtype == "bfloat16" else 4, device.platform == "tpu"
    n, heads = stage.window_tokens, stage.windows * stage.heads
    dropout = compute.dropout > 0
    (call,) = stage_calls([stage], device=device, dtype=compute.dtype, dropout=dropout)
    if not choose(compute.attention, call).backend.keeps_maps:
        qkv = width * stage.windows * _tiles(n, 3 * stage.channels, tiled)
        return AttentionBytes(qkv, 0, 0, qkv)
    # Maps stand there twice, in float32 for the softmax and in the type of the products.
    whole = _tiles(n, n, tiled)
    # Where n fills no row of lanes, the compiler lays windows along the lanes of a float32 map.
    dense = min(whole, n * -(-n // ROWS) * ROWS) if n < LANES else whole
    head_dim = stage.channels // stage.heads
    qkv = 3 * width * heads * _tiles(head_dim, n, tiled)  # tokens lie along the lanes
    maps, gradients = heads * (4 * dense + width * whole), heads * (4 + width) * whole
    # Computed again, exponentials lie as their gradient does, in whole tiles.
    # The compiler also copies masked logits to another layout before it computes on.
    copy = 4 * gradients // (4 + width)
    # The gradients of the maps are gone when those of q, k and v stand there in float32.
    return AttentionBytes(qkv, maps, gradients - maps + copy, max(gradients, 4 * qkv // width))


def _tiles(rows: int, columns: int, tiled: bool) -> int:
    """Elements of a matrix, in whole tiles; a single row shares its tile with others."""
    if not tiled:
        return rows * columns
    return (rows if rows == 1 else -(-rows // ROWS) * ROWS) * -(-columns // LANES) * LANES
