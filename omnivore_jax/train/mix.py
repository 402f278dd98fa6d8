"""Mixup and cutmix of neighbours, in groups that share one lambda and one box (Appendix A).

Slots 2i and 2i + 1 of a batch are partners. Timm's batch mode, the released recipe, reverses the
batch of a GPU instead; as the order of the samples is random, the pairs are the same in
distribution. A group is `mix.group` consecutive slots, that batch of a GPU. It may span devices: a
pair never does, so no pixel moves between devices, and the draws of a group depend on its number
alone, so the result does not depend on how many devices there are.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from omnivore_jax.train.recipe import Recipe


@dataclass(frozen=True)
class MixConfig:
    """Who is mixed with whom: the section `mix`."""

    group: int = 32
    """Consecutive samples that share one lambda (the released batch of a GPU), an even number.

    The last group of a batch may be smaller.
    """

    def __post_init__(self):
        if self.group < 2 or self.group % 2:  # a pair must not lie in two groups
            raise ValueError(
                f"group={self.group}; use an even number of 2 or more, as neighbours are mixed"
            )


class Blend(NamedTuple):
    """How samples are blended with their partners: of every group, or of every sample."""

    own: Float[Array, "b"]
    """Share of the sample's own label and, with mixup, of its own pixels."""
    box: Int[Array, "b 4"]
    """Top, left, bottom, right of what cutmix takes from the partner."""
    paste: Bool[Array, "b"]
    """Cutmix rather than mixup."""


def draw_blend(keys: Key[Array, "g"], recipe: Recipe, size: tuple[int, ...]) -> Blend:
    """Draws the blend of each group from its key.

    `size` is (rows, columns) of a frame.
    """
    return Blend(*jax.vmap(lambda key: _draw(key, recipe, size))(keys))


def _draw(key: PRNGKeyArray, recipe: Recipe, size: tuple[int, ...]):
    # one draw for all that is uniform
    mix, switch, *at = jax.random.uniform(jax.random.fold_in(key, 0), (4,))
    chance = recipe.switch_prob if recipe.mixup and recipe.cutmix else float(recipe.cutmix > 0)
    paste = switch < chance
    alpha = jnp.where(paste, recipe.cutmix, recipe.mixup)
    share = jnp.where(
        mix < recipe.mix_prob, jax.random.beta(jax.random.fold_in(key, 1), alpha, alpha), 1.0
    )
    box = cut_box(share, (jnp.stack(at) * jnp.array(size)).astype(jnp.int32), size)
    # lambda follows the box that the border clipped
    pasted = (box[2] - box[0]) * (box[3] - box[1]) / (size[0] * size[1])
    return jnp.where(paste, 1 - pasted, share), box, paste


def cut_box(
    share: Float[Array, ""], centre: Int[Array, "2"], size: tuple[int, ...]
) -> Int[Array, "4"]:
    """Box around `centre` with 1 - share of a frame's area until the border clips it.

    Top, left, bottom, right.
    """
    frame = jnp.array(size)
    half = (frame * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
    return jnp.concatenate([jnp.clip(centre - half, 0, frame), jnp.clip(centre + half, 0, frame)])


def blend_pixels(
    x: Float[Array, "b t h w c"], other: Float[Array, "b t h w c"], blend: Blend
) -> Float[Array, "b t h w c"]:
    """Blends samples with their partners, all frames of a clip alike."""
    own = blend.own[:, None, None]
    weight = jnp.where(blend.paste[:, None, None], 1.0 - inside(blend.box, x.shape[2:4]), own)
    weight = weight[:, None, :, :, None]
    return x * weight + other * (1 - weight)


def inside(box: Int[Array, "b 4"], size: tuple[int, ...]) -> Bool[Array, "b h w"]:
    """Tells which pixels of a frame lie in a box of (top, left, bottom, right)."""
    top, left, bottom, right = jnp.moveaxis(box[..., None], 1, 0)
    row, column = jnp.arange(size[0]), jnp.arange(size[1])
    return ((row >= top) & (row < bottom))[:, :, None] & ((column >= left) & (column < right))[
        :, None, :
    ]
