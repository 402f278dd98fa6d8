"""What changes the pixels of a sample on the device; all frames of a clip alike.

Order: colours and erasing to 0 (values in 0..1), then standardising, then erasing with noise and
the RGB drop. A change is a draw (random, of one sample) and an `apply` (plain arithmetic).
Semantics: torchvision (ColorJitter, RandomErasing), which the released recipe uses, and timm.
"""

from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from omnivore_jax.train.mix import inside
from omnivore_jax.train.recipe import Recipe

BRIGHTNESS, CONTRAST, SATURATION = range(3)
GREY = (0.2989, 0.587, 0.114)
AREA = (0.02, 0.33)
"""Share of a frame that random erasing takes."""
RATIO = (0.3, 3.3)
"""Height over width of what it takes, log-uniform."""
ATTEMPTS = 10


class Jitter(NamedTuple):
    """One draw of the colour jitter."""

    factors: Float[Array, "3"]
    """Of brightness, contrast and saturation; 1 leaves things as they are."""
    hue: Float[Array, ""]
    """Turn of the colour circle, in -.5 .. .5."""
    order: Int[Array, "3"]
    """In which order brightness, contrast and saturation come."""
    hue_after: Int[Array, ""]
    """How many of the three come before the hue."""


def colour(
    x: Float[Array, "b t h w c"], keys: Key[Array, "b"], recipe: Recipe
) -> Float[Array, "b t h w c"]:
    """Colour jitter, channel shuffle and gain of the RGB channels.

    Depth, the fourth, is left alone.
    """

    def change(key, rgb):
        jitter, rest = jax.random.split(key)
        if any(recipe.jitter):
            rgb = apply_jitter(rgb, draw_jitter(jitter, recipe.jitter))
        order, gain = jax.random.uniform(rest, (2, 3))
        if recipe.channel_shuffle:
            rgb = rgb[..., jnp.argsort(order)]
        return jnp.clip(rgb * (1 + recipe.gain * (2 * gain - 1)), 0, 1) if recipe.gain else rgb

    if not (any(recipe.jitter) or recipe.channel_shuffle or recipe.gain):
        return x
    return jnp.concatenate([jax.vmap(change)(keys, x[..., :3]), x[..., 3:]], axis=-1)


def draw_jitter(key: PRNGKeyArray, strength: tuple[float, float, float, float]) -> Jitter:
    """Draws factors in 1 - s .. 1 + s (never below 0), a turn in -hue .. hue, and an order."""
    # one draw for all: it is a large part of a small program
    uniform = jax.random.uniform(key, (8,))
    strengths = jnp.array(strength[:3])
    low, high = jnp.maximum(1 - strengths, 0), 1 + strengths
    return Jitter(
        factors=low + (high - low) * uniform[:3],
        hue=strength[3] * (2 * uniform[3] - 1),
        order=jnp.argsort(uniform[4:7]),
        hue_after=(4 * uniform[7]).astype(jnp.int32),
    )


def apply_jitter(rgb: Float[Array, "t h w 3"], jitter: Jitter) -> Float[Array, "t h w 3"]:
    """Applies brightness, contrast, saturation and hue in the order drawn.

    The hue is by far the dearest of the four: it is computed once, between those that precede and
    those that follow it.
    """
    for slot in range(3):
        rgb = jnp.where(slot < jitter.hue_after, _blend(rgb, jitter, slot), rgb)
    rgb = turn_hue(rgb, jitter.hue)
    for slot in range(3):
        rgb = jnp.where(slot >= jitter.hue_after, _blend(rgb, jitter, slot), rgb)
    return rgb


def _blend(rgb: Float[Array, "t h w 3"], jitter: Jitter, slot: int) -> Float[Array, "t h w 3"]:
    """Blends with black (brightness), the mean grey (contrast) or the own grey (saturation)."""
    operation = jitter.order[slot]
    factor = jitter.factors[operation]
    grey = (rgb * jnp.array(GREY)).sum(-1, keepdims=True)
    mean = grey.mean((1, 2, 3), keepdims=True)
    base = jnp.where(operation == SATURATION, grey, jnp.where(operation == CONTRAST, mean, 0.0))
    return jnp.clip(factor * rgb + (1 - factor) * base, 0, 1)


def turn_hue(rgb: Float[Array, "t h w 3"], turn: Float[Array, ""]) -> Float[Array, "t h w 3"]:
    """Turns the hue, keeping saturation and value of HSV."""
    value, low = rgb.max(-1), rgb.min(-1)
    chroma = value - low
    r, g, b = jnp.moveaxis(
        (value[..., None] - rgb) / jnp.where(chroma > 0, chroma, 1.0)[..., None], -1, 0
    )
    hue = (
        jnp.where(
            rgb[..., 0] == value, b - g, jnp.where(rgb[..., 1] == value, 2 + r - b, 4 + g - r)
        )
        + 6 * turn
    )
    # Each channel is a trapezoid over the colour circle: value where it leads, value - chroma where
    # it is absent.
    sector = (jnp.array([5.0, 3.0, 1.0]) + hue[..., None]) % 6
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(sector, 4 - sector), 0, 1)


def erase(
    x: Float[Array, "b t h w c"], keys: Key[Array, "b"], probability: float
) -> Float[Array, "b t h w c"]:
    """Sets a random box of some samples to 0, in all frames and channels (depth too).

    The released recipe does it before samples are standardised, so that 0 is black.
    """
    if not probability:
        return x
    return jnp.where(_erasing_mask(x, keys, probability), 0.0, x)


def erase_with_noise(
    x: Float[Array, "b t h w c"], keys: Key[Array, "b"], probability: float
) -> Float[Array, "b t h w c"]:
    """Fills the box that `erase` would set to 0 with noise of N(0, 1), anew in every frame.

    The `pixel` mode of timm, for samples that are standardised: there the noise is like a sample.
    """
    if not probability:
        return x
    # the key itself draws the box
    noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), x.shape[1:]))(keys)
    return jnp.where(_erasing_mask(x, keys, probability), noise.astype(x.dtype), x)


def _erasing_mask(
    x: Float[Array, "b t h w c"], keys: Key[Array, "b"], probability: float
) -> Bool[Array, "b 1 h w 1"]:
    boxes = jax.vmap(lambda key: draw_erasing(key, probability, x.shape[2:4]))(keys)
    return inside(boxes, x.shape[2:4])[:, None, :, :, None]


def draw_erasing(key: PRNGKeyArray, probability: float, size: tuple[int, ...]) -> Int[Array, "4"]:
    """Draws top, left, bottom, right; an empty box where nothing is erased.

    Of ten attempts the first box that is smaller than the frame along both axes counts, as in
    torchvision.
    """
    uniform = jax.random.uniform(key, (3 + 2 * ATTEMPTS,))  # one draw for all
    frame, (area, ratio) = jnp.array(size), uniform[3:].reshape(2, ATTEMPTS)
    areas = (AREA[0] + (AREA[1] - AREA[0]) * area) * (size[0] * size[1])
    ratios = jnp.exp(log(RATIO[0]) + (log(RATIO[1]) - log(RATIO[0])) * ratio)
    boxes = jnp.round(jnp.sqrt(jnp.stack([areas * ratios, areas / ratios], -1))).astype(jnp.int32)
    fits = (boxes < frame).all(-1)
    box = jnp.where((uniform[0] < probability) & fits.any(), boxes[jnp.argmax(fits)], 0)
    start = (uniform[1:3] * (frame - box + 1)).astype(jnp.int32)
    return jnp.concatenate([start, start + box])


def drop_rgb(
    x: Float[Array, "b t h w c"], keys: Key[Array, "b"], probability: float
) -> Float[Array, "b t h w c"]:
    """Sets the RGB of some standardised RGB-D samples to 0: depth alone must tell (App. A)."""
    if not probability or x.shape[-1] == 3:
        return x
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)
    return jnp.concatenate(
        [jnp.where(dropped[:, None, None, None, None], 0.0, x[..., :3]), x[..., 3:]], axis=-1
    )
