"""The shared trunk.

Embeds an image, a clip or an RGB-D picture and refines its tokens, stage by stage.
"""

from collections.abc import Sequence
from itertools import islice
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from omnivore_jax.model.block import Block, PatchMerging
from omnivore_jax.model.compute import Compute, Dtype
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.embed import PatchEmbed, depth_patch_embed, embed
from omnivore_jax.model.layers import LayerNorm
from omnivore_jax.model.noise import Keys, child_keys, drop_path_factors, drop_path_rates, dropout
from omnivore_jax.model.sharding import divide_batch

FEWEST_SCANNED = 8
"""Blocks of a stage that `Compute.scan` makes a loop of, if their number is even: 18 of Swin-S, B
and L, not Swin-T's 6."""


class Stage(nnx.Module):
    """Blocks at one resolution, then the merging that leads to the next (none after the last)."""

    def __init__(self, config: ModelConfig, stage: int, *, key: PRNGKeyArray):
        *blocks, merging = jax.random.split(key, config.depths[stage] + 1)
        self.blocks = nnx.List([Block(config, stage, j, key=k) for j, k in enumerate(blocks)])
        last = stage == len(config.depths) - 1
        self.downsample = (
            None if last else PatchMerging(config.width(stage), std=config.init_std, key=merging)
        )

    def refine(
        self,
        x: Float[Array, "b t h w c"],
        keys: Sequence[Keys | None],
        factors: Sequence[Float[Array, "2 b"] | None],
        compute: Compute,
    ) -> Float[Array, "b t h w c"]:
        """Applies the blocks, each with its keys of dropout and its factors of drop path."""
        if compute.scan and len(self.blocks) >= FEWEST_SCANNED and len(self.blocks) % 2 == 0:
            return _scan_pairs(self.blocks, x, (keys, factors), compute)
        for block, own, factor in zip(self.blocks, keys, factors, strict=True):
            x = divide_batch(block(x, keys=own, drop_path=factor, compute=compute))
        return x


def _scan_pairs(
    blocks: Sequence[Block],
    x: Float[Array, "b t h w c"],
    noise: tuple[Sequence[Keys | None], Sequence[Float[Array, "2 b"] | None]],
    compute: Compute,
) -> Float[Array, "b t h w c"]:
    """Loops over pairs of blocks: one of plain windows, one of shifted windows."""
    pairs = [nnx.List(pair) for pair in zip(blocks[::2], blocks[1::2], strict=True)]
    graphdef = nnx.graphdef(pairs[0])
    states = [nnx.state(pair) for pair in pairs]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def refine(x, pair):
        params, *noise = pair
        for block, keys, factors in zip(nnx.merge(graphdef, params), *noise, strict=True):
            x = divide_batch(block(x, keys=keys, drop_path=factors, compute=compute))
        return x, None

    return jax.lax.scan(refine, x, (params, *(_stack_pairs(each) for each in noise)))[0]


def _stack_pairs(noise: Sequence[Array | None]) -> tuple[Array | None, Array | None]:
    """That of all first blocks and that of all second ones; factors of a block without are 1."""
    known = next((each for each in noise if each is not None), None)
    if known is None:
        return None, None
    filled = [jnp.ones_like(known) if each is None else each for each in noise]
    return jnp.stack(filled[::2]), jnp.stack(filled[1::2])


class Trunk(nnx.Module):
    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        rgb, depth, *stages = jax.random.split(key, 2 + len(config.depths))
        self.config = config
        self.patch_embed = PatchEmbed(
            3, config.embed_dim, config.patch, shared_depth=config.depth_embed == "shared", key=rgb
        )
        self.depth_patch_embed = depth_patch_embed(
            config.depth_embed, config.embed_dim, config.patch, key=depth
        )
        self.layers = nnx.List([Stage(config, i, key=k) for i, k in enumerate(stages)])
        self.norm = LayerNorm(config.feature_dim)

    def embed(
        self, x: Float[Array, "b t h w c"], dtype: Dtype = "float32"
    ) -> Float[Array, "b t2 h2 w2 c2"]:
        """Tokens of an input, normalised."""
        kind = self.config.depth_embed
        with jax.named_scope("embed"):
            return embed(x.astype(dtype), self.patch_embed, self.depth_patch_embed, kind)

    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        *,
        keys: Keys | None = None,
        compute: Compute = Compute(),
        stages: Sequence[str] = (),
    ) -> tuple[Float[Array, "b c8"], dict[str, Float[Array, "b ..."]]]:
        """Returns the pooled feature, after the final norm, and the maps that `stages` names.

        Raises:
            ValueError: the input has a wrong number of channels, or there is no such stage
                (`stage_names` lists them).

        """
        check_stages(self.config, stages)
        tokens = self.embed(x, compute.dtype)
        x = divide_batch(dropout(tokens, child_keys(keys, 1), compute.dropout))
        noise = keys if compute.dropout else None  # keys that nothing would draw from cost time
        drop_path = self._drop_path(keys, compute.drop_path)
        maps = {}
        for i, (layer, factors) in enumerate(zip(self.layers, drop_path, strict=True)):
            first = 2 + sum(self.config.depths[:i])
            own = [child_keys(noise, first + j) for j in range(len(layer.blocks))]
            x = layer.refine(x, own, factors, compute)
            maps[f"premerge{i}"] = x
            x = x if layer.downsample is None else divide_batch(layer.downsample(x))
            maps[f"interim{i}"] = x
        normed = self._normed(x)
        for name in stages:
            if name == "last":
                maps[name] = normed
            elif name.startswith("stage"):
                maps[name] = self._normed(maps[name.replace("stage", "interim")])
        return normed.mean((1, 2, 3)), {name: maps[name] for name in stages}

    def _normed(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        return self.norm(x.astype(jnp.float32))

    def _drop_path(self, keys: Keys | None, rate: float) -> list[list[Float[Array, "2 b"] | None]]:
        """Factors of every block, by stage; None where the rate is 0."""
        depths = self.config.depths
        if keys is None or not rate:
            return [[None] * depth for depth in depths]
        rates = drop_path_rates(rate, sum(depths))
        factors = drop_path_factors(cast(Keys, child_keys(keys, 0)), rates)
        blocks = iter([f if r else None for f, r in zip(factors, rates, strict=True)])
        return [list(islice(blocks, depth)) for depth in depths]


def stage_names(config: ModelConfig) -> list[str]:
    """Lists the maps that a trunk can give; K counts stages from 0.

    last       after the last stage and the final norm
    stageK     after stage K and its merging, with the final norm: the last two stages, which have
               its width
    interimK   after stage K and its merging (the released code's intermediate outputs)
    premergeK  after the blocks of stage K, before its merging: C, 2C, 4C, ... channels, what a
               segmentation head takes
    """
    stages = range(len(config.depths))
    normed = [f"stage{k}" for k in stages if k >= len(config.depths) - 2]
    return ["last", *normed, *(f"interim{k}" for k in stages), *(f"premerge{k}" for k in stages)]


def check_stages(config: ModelConfig, stages: Sequence[str]) -> None:
    """Raises ValueError for a name that `stage_names` does not list."""
    for name in stages:
        if name in stage_names(config):
            continue
        why = "is not a map of this model"
        if name.removeprefix("stage").isdigit() and int(name.removeprefix("stage")) < len(
            config.depths
        ):
            why = f"has not the {config.feature_dim} channels of the final norm"
        raise ValueError(f"stages: {name!r} {why}; use {', '.join(stage_names(config))}")
