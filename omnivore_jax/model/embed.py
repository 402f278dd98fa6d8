"""Patches to tokens.

One linear map of non-overlapping patches, and the three ways to embed the depth channel.
"""

import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from omnivore_jax.core.types import Size
from omnivore_jax.model.config import DepthEmbed
from omnivore_jax.model.layers import LayerNorm, dense


class PatchConv(nnx.Module):
    """Convolution whose stride is its kernel, written as a linear map of patches."""

    def __init__(self, channels: int, features: int, patch: Size, *, key: PRNGKeyArray):
        # PyTorch's default for convolutions, bias included, which the released initialisation
        # leaves as it is.
        bound = math.prod((channels, *patch)) ** -0.5
        kernel, bias = jax.random.split(key)
        self.kernel = nnx.Param(
            jax.random.uniform(kernel, (*patch, channels, features), minval=-bound, maxval=bound)
        )
        self.bias = nnx.Param(jax.random.uniform(bias, (features,), minval=-bound, maxval=bound))

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c2"]:
        """Zeros fill up each axis at its end.

        An input shorter than a patch in time meets only its first frames.
        """
        kernel = self.kernel[: x.shape[1]]
        patch = kernel.shape[:3]
        x = jnp.pad(
            x,
            [
                (0, 0),
                *((0, -size % p) for size, p in zip(x.shape[1:4], patch, strict=True)),
                (0, 0),
            ],
        )
        axes = dict(zip("pqr", patch, strict=True))
        patches = rearrange(x, "b (t p) (h q) (w r) c -> b t h w (p q r c)", **axes)
        return dense(patches, kernel.reshape(-1, kernel.shape[-1]), self.bias[...])


class PatchEmbed(nnx.Module):
    """Embeds patches and normalises.

    `shared_depth` adds a second map for a fourth channel before the normalisation.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        patch: Size,
        *,
        shared_depth: bool = False,
        key: PRNGKeyArray,
    ):
        proj, var_proj = jax.random.split(key)
        self.proj = PatchConv(channels, features, patch, key=proj)
        self.var_proj = (
            nnx.List([PatchConv(1, features, patch, key=var_proj)]) if shared_depth else None
        )
        self.norm = LayerNorm(features)

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c2"]:
        if self.var_proj is None or x.shape[-1] == 3:
            return self.norm(self.proj(x))
        return self.norm(self.proj(x[..., :3]) + self.var_proj[0](x[..., 3:]))


def depth_patch_embed(
    kind: DepthEmbed, features: int, patch: Size, *, key: PRNGKeyArray
) -> PatchEmbed | None:
    """Makes the layer that only inputs with depth use, where the kind has one of its own."""
    channels = {"summed": 1, "separate": 4}.get(kind)
    return None if channels is None else PatchEmbed(channels, features, patch, key=key)


def embed(
    x: Float[Array, "b t h w c"], rgb: PatchEmbed, depth: PatchEmbed | None, kind: DepthEmbed
) -> Float[Array, "b t2 h2 w2 c2"]:
    """Embeds RGB or RGB and depth (FACTS.

    `summed_rgb_d_tokens`, and the ablation "RGBD conv." of Table 8).

    Raises:
        ValueError: the input has neither three nor, where the model takes depth, four channels.

    """
    channels = x.shape[-1]
    if channels == 3 or (channels == 4 and kind == "shared"):
        return rgb(x)
    if channels != 4 or depth is None:
        takes = "3 channels (RGB)" if kind == "none" else "3 channels (RGB) or 4 (RGB and depth)"
        raise ValueError(
            f"the input has {channels} channels; this model takes {takes}, in the last axis"
        )
    return depth(x) if kind == "separate" else rgb(x[..., :3]) + depth(x[..., 3:])
