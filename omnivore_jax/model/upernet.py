"""UPerNet: a head that labels every pixel from the maps of all stages (FACTS 6.4).

Xiao et al., ECCV 2018, in the form that mmsegmentation gives it behind Swin: pooled context on the
last map, top-down sums to the others, all of them joined at stride 4; and the auxiliary FCN on the
last map but one, which is the third. Group norm stands where mmsegmentation has SyncBN: then a
sample's scores depend on no other sample, whatever the batch and the devices. The head computes in
float32.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.layers import LayerNorm, Linear
from omnivore_jax.model.noise import Keys, child_keys, dropout_factors

POOLS = (1, 2, 3, 6)
"""Rows and columns of the pooled maps."""
GROUPS = 32
GROUP_NORM_EPS = 1e-5
CLASSIFIER_STD = 0.01


class PixelScores(NamedTuple):
    """Scores of the classes on a grid of a quarter of the input's rows and columns, or less."""

    scores: Float[Array, "b h w classes"]
    auxiliary: Float[Array, "b h2 w2 classes"]
    """Of the FCN, for its part of the loss."""


@dataclass(frozen=True)
class UPerNetSpec:
    """How to make the head (heads.HeadSpec)."""

    classes: int
    channels: int = 512
    auxiliary_channels: int = 256

    def __post_init__(self):
        if self.classes < 2:
            raise ValueError(f"classes={self.classes}; use 2 or more, pixels are told apart")
        for name in ("channels", "auxiliary_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; use 1 or more")

    def make(self, config: ModelConfig, *, key: PRNGKeyArray) -> "UPerNet":
        """Draws the module."""
        return UPerNet(config, self, key=key)

    def products(self, maps: Sequence[tuple[int, int]]) -> int:
        """Counts multiplications for one sample, by (channels, pixels) of the maps."""
        (_, near), (last, small), c = maps[0], maps[-1], self.channels
        total = sum(pixels * (width + 9 * c) * c for width, pixels in maps[:-1])
        total += sum(side * side for side in POOLS) * last * c
        total += small * 9 * (last + len(POOLS) * c) * c
        total += near * (9 * len(maps) * c + self.classes) * c
        width, pixels = maps[-2]
        return total + pixels * (9 * width + self.classes) * self.auxiliary_channels

    def activation_bytes(self, maps: Sequence[tuple[int, int]], pixels: int) -> int:
        """Estimates what one sample takes in a training step, all in float32.

        The joined maps at stride 4, twice, with their gradients; and the scores of all pixels,
        their logarithms and gradients.
        """
        near = maps[0][1] * (2 * len(maps) + 6) * self.channels
        return 4 * (2 * near + 3 * pixels * self.classes)


class ConvNormRelu(nnx.Module):
    """Convolution of 1 x 1 or 3 x 3 pixels, which keeps the size of the map; norm; ReLU."""

    def __init__(self, channels: int, features: int, side: int, *, key: PRNGKeyArray):
        std = math.sqrt(2 / (side * side * channels))  # He's, as mmsegmentation
        self.kernel = nnx.Param(std * jax.random.normal(key, (side, side, channels, features)))
        self.norm = GroupNorm(features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w features"]:
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, self.kernel[...], (1, 1), "SAME", dimension_numbers=layout
        )
        return jax.nn.relu(self.norm(x))


class GroupNorm(nnx.Module):
    """Normalises groups of channels over a whole map; 32 groups, or as many as divide."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        groups = math.gcd(GROUPS, x.shape[-1])
        parts = x.reshape(*x.shape[:3], groups, -1)
        centered = parts - parts.mean((1, 2, 4), keepdims=True)
        variance = jnp.square(centered).mean((1, 2, 4), keepdims=True)
        normed = (centered * jax.lax.rsqrt(variance + GROUP_NORM_EPS)).reshape(x.shape)
        return normed * self.scale[...] + self.bias[...]


class UPerNet(nnx.Module):
    """Scores every pixel of a picture or RGB-D picture."""

    def __init__(self, config: ModelConfig, spec: UPerNetSpec, *, key: PRNGKeyArray):
        count, channels = len(config.depths), spec.channels
        widths = [config.width(stage) for stage in range(count)]
        if count < 2:
            raise ValueError(f"depths={config.depths}; UPerNet reads two stages or more")
        self.stages = tuple(f"premerge{stage}" for stage in range(count))
        keys = iter(jax.random.split(key, 2 * count + len(POOLS) + 5))
        self.norms = nnx.List([LayerNorm(width) for width in widths])
        self.laterals = nnx.List(
            [ConvNormRelu(width, channels, 1, key=next(keys)) for width in widths[:-1]]
        )
        self.pools = nnx.List(
            [ConvNormRelu(widths[-1], channels, 1, key=next(keys)) for _ in POOLS]
        )
        joined = widths[-1] + len(POOLS) * channels
        self.bottleneck = ConvNormRelu(joined, channels, 3, key=next(keys))
        self.smooths = nnx.List(
            [ConvNormRelu(channels, channels, 3, key=next(keys)) for _ in widths[:-1]]
        )
        self.fusion = ConvNormRelu(count * channels, channels, 3, key=next(keys))
        self.classifier = Linear(channels, spec.classes, std=CLASSIFIER_STD, key=next(keys))
        self.auxiliary = ConvNormRelu(widths[-2], spec.auxiliary_channels, 3, key=next(keys))
        self.auxiliary_classifier = Linear(
            spec.auxiliary_channels, spec.classes, std=CLASSIFIER_STD, key=next(keys)
        )

    def score(
        self,
        pooled: Float[Array, "b c"],
        maps: Mapping[str, Float[Array, "b t _ _ _"]],
        keys: Keys | None,
        rate: float,
    ) -> PixelScores:
        """Scores the classes at stride 4; `rate` of the last channels is dropped in training.

        Raises:
            ValueError: the input is a clip of more frames than a patch has.

        """
        frames = maps[self.stages[0]].shape[1]
        if frames != 1:
            raise ValueError(f"{frames} steps in time; UPerNet labels the pixels of pictures")
        planes = [
            norm(maps[name][:, 0].astype(jnp.float32))
            for name, norm in zip(self.stages, self.norms, strict=True)
        ]
        joined = self._join(planes)
        near = self.auxiliary(planes[-2])
        return PixelScores(
            self.classifier(_drop_channels(joined, child_keys(keys, 0), rate)),
            self.auxiliary_classifier(_drop_channels(near, child_keys(keys, 1), rate)),
        )

    def _join(self, planes: Sequence[Float[Array, "b _ _ _"]]) -> Float[Array, "b h w c"]:
        """Brings the maps of all stages to the size of the first and makes one of them."""
        context = [planes[-1]]
        for side, conv in zip(POOLS, self.pools, strict=True):
            context.append(resize(conv(adaptive_mean(planes[-1], side)), planes[-1].shape[1:3]))
        levels = [lateral(x) for lateral, x in zip(self.laterals, planes[:-1], strict=True)]
        levels.append(self.bottleneck(jnp.concatenate(context, axis=-1)))
        for k in reversed(range(1, len(levels))):
            levels[k - 1] = levels[k - 1] + resize(levels[k], levels[k - 1].shape[1:3])
        smooth = [conv(x) for conv, x in zip(self.smooths, levels[:-1], strict=True)]
        size = levels[0].shape[1:3]
        every = [resize(x, size) for x in (*smooth, levels[-1])]
        return self.fusion(jnp.concatenate(every, axis=-1))


def resize(x: Float[Array, "b h w c"], size: Sequence[int]) -> Float[Array, "b h2 w2 c"]:
    """Resizes maps, bilinear, pixel centers in the middle: PyTorch's, align_corners off."""
    if x.shape[1:3] == tuple(size):
        return x
    shape = (x.shape[0], *size, x.shape[3])
    return jax.image.resize(x, shape, "bilinear", antialias=False)


def adaptive_mean(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b side side c"]:
    """Averages `side` x `side` parts of a map, which may overlap (PyTorch's AdaptiveAvgPool2d)."""
    rows, columns = (_parts(size, side) for size in x.shape[1:3])
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x, precision=jax.lax.Precision.HIGHEST)


def _parts(size: int, side: int) -> Float32[np.ndarray, "side size"]:
    """Weights of every row in part k, from floor(k size / side) to ceil((k + 1) size / side)."""
    k, row = np.arange(side)[:, None], np.arange(size)
    inside = (row >= k * size // side) & (row < -(-(k + 1) * size // side))
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)


def _drop_channels(
    x: Float[Array, "b h w c"], keys: Keys | None, rate: float
) -> Float[Array, "b h w c"]:
    factors = dropout_factors(keys, (1, 1, x.shape[-1]), rate)
    return x if factors is None else x * factors
