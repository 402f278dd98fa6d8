"""A block of the trunk (shifted-window attention, MLP) and the merging between stages."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from omnivore_jax.model.attention.table import window_attention
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.layers import LayerNorm, Linear, gelu
from omnivore_jax.model.noise import Keys, child_keys, dropout, dropout_factors, scale_samples
from omnivore_jax.model.position_bias import FactoredBias, JointBias
from omnivore_jax.model.window import WindowGrid, merge, partition, shift_masks, window_grid


class WindowAttention(nnx.Module):
    """Attention inside windows, all heads at once, with a relative position bias."""

    def __init__(self, config: ModelConfig, stage: int, *, key: PRNGKeyArray):
        qkv, proj, table = jax.random.split(key, 3)
        width, heads, std = config.width(stage), config.num_heads[stage], config.init_std
        bias = {"factored": FactoredBias, "joint": JointBias}[config.position_bias]
        self.qkv = Linear(width, 3 * width, std=std, key=qkv)
        self.relative_position_bias_table = bias(
            config.window, heads, corner=config.window_index == "released", std=std, key=table
        )
        self.proj = Linear(width, width, std=std, key=proj)

    def __call__(
        self, x: Float[Array, "b t h w c"], grid: WindowGrid, keys: Keys | None, compute: Compute
    ) -> Float[Array, "b t h w c"]:
        rate = compute.dropout
        qkv = self.qkv(partition(x, grid))
        bias = self.relative_position_bias_table(grid.window)
        keep = dropout_factors(child_keys(keys, 0), (qkv.shape[0] // x.shape[0], *bias.shape), rate)
        with jax.named_scope("windows"):
            out = window_attention(
                qkv,
                bias,
                shift_masks(grid),
                backend=compute.attention,
                keep=None if keep is None else keep.reshape(-1, *bias.shape),
            )
        return dropout(self.proj(merge(out, grid)), child_keys(keys, 1), rate)


class Mlp(nnx.Module):
    def __init__(self, config: ModelConfig, stage: int, *, key: PRNGKeyArray):
        one, two = jax.random.split(key)
        width, hidden = config.width(stage), config.mlp_ratio * config.width(stage)
        self.fc1 = Linear(width, hidden, std=config.init_std, key=one)
        self.fc2 = Linear(hidden, width, std=config.init_std, key=two)

    def __call__(
        self, x: Float[Array, "b t h w c"], keys: Keys | None, compute: Compute
    ) -> Float[Array, "b t h w c"]:
        hidden = dropout(gelu(self.fc1(x)), child_keys(keys, 0), compute.dropout)
        return dropout(self.fc2(hidden), child_keys(keys, 1), compute.dropout)


class Block(nnx.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); odd blocks of a stage shift their windows."""

    def __init__(self, config: ModelConfig, stage: int, index: int, *, key: PRNGKeyArray):
        attn, mlp = jax.random.split(key)
        self.window, self.shifted = config.window, index % 2 == 1
        self.norm1 = LayerNorm(config.width(stage))
        self.attn = WindowAttention(config, stage, key=attn)
        self.norm2 = LayerNorm(config.width(stage))
        self.mlp = Mlp(config, stage, key=mlp)

    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        *,
        keys: Keys | None = None,
        drop_path: Float[Array, "2 b"] | None = None,
        compute: Compute = Compute(),
    ) -> Float[Array, "b t h w c"]:
        """Refines tokens; `drop_path` holds the factors of the two branches.

        The first factor lies outside what `compute.remat` recomputes, as in the released code.
        """
        grid = window_grid((x.shape[1], x.shape[2], x.shape[3]), self.window, self.shifted)
        first, second = (None, None) if drop_path is None else drop_path

        def attention(x):
            with jax.named_scope("attention"):
                return self.attn(self.norm1(x), grid, child_keys(keys, 0), compute)

        def mlp(x):
            with jax.named_scope("mlp"):
                out = self.mlp(self.norm2(x), child_keys(keys, 1), compute)
                return scale_samples(out, second)

        x = x + scale_samples(_maybe_remat(attention, compute.remat != "none")(x), first)
        return x + _maybe_remat(mlp, compute.remat == "block")(x)


def _maybe_remat(function: Callable, remat: bool) -> Callable:
    return jax.checkpoint(function) if remat else function


class PatchMerging(nnx.Module):
    """Joins 2 x 2 neighbours in space: half the height and width, twice the channels."""

    def __init__(self, width: int, *, std: float, key: PRNGKeyArray):
        self.norm = LayerNorm(4 * width)
        self.reduction = Linear(4 * width, 2 * width, std=std, bias=False, key=key)

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 c2"]:
        with jax.named_scope("merging"):
            x = jnp.pad(x, [(0, 0), (0, 0), (0, x.shape[2] % 2), (0, x.shape[3] % 2), (0, 0)])
            # Neighbours in the order (h, w) = (0, 0), (1, 0), (0, 1), (1, 1), as in the released
            # weights.
            x = rearrange(x, "b t (h q) (w r) c -> b t h w (r q c)", q=2, r=2)
            return self.reduction(self.norm(x))
