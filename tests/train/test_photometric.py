"""Each change against numpy or colorsys on a real photograph.

Each draw against the ranges of FACTS 3.3.
"""

import colorsys
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from omnivore_jax.train import photometric
from omnivore_jax.train.photometric import Jitter, apply_jitter, draw_erasing, draw_jitter, turn_hue
from omnivore_jax.train.recipe import Recipe

KEYS = jax.random.split(jax.random.key(0), 600)
# Each is one program: called one by one, every operation of a draw is one of its own.
colour = jax.jit(photometric.colour, static_argnums=2)
erase = jax.jit(photometric.erase, static_argnums=2)
erase_with_noise = jax.jit(photometric.erase_with_noise, static_argnums=2)
drop_rgb = jax.jit(photometric.drop_rgb, static_argnums=2)
jitter_once = jax.jit(apply_jitter)


@pytest.fixture(scope="module")
def clip():
    """Two frames of 24 x 32 pixels, cut from a photograph."""
    picture = load_sample_image("flower.jpg").astype(np.float32) / 255
    return np.stack([picture[100:292:8, 200:456:8], picture[140:332:8, 220:476:8]])


def brightness(x, factor):
    return np.clip(factor * x, 0, 1)


def contrast(x, factor):
    grey = (x * [0.2989, 0.587, 0.114]).sum(-1).mean((1, 2))[:, None, None, None]
    return np.clip(factor * x + (1 - factor) * grey, 0, 1)


def saturation(x, factor):
    return np.clip(
        factor * x + (1 - factor) * (x * [0.2989, 0.587, 0.114]).sum(-1, keepdims=True), 0, 1
    )


def hue(x, turn):
    def change(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + turn) % 1, s, v)

    return np.apply_along_axis(change, -1, x.astype(np.float64))


@pytest.mark.parametrize("turn", [-0.4, 0.0, 0.17, 0.5])
def test_the_hue_is_turned_as_colorsys_does(clip, turn):
    x = np.concatenate(
        [clip, np.full_like(clip[:1], 0.5), np.zeros_like(clip[:1])]
    )  # greys have no hue
    np.testing.assert_allclose(turn_hue(jnp.asarray(x), jnp.float32(turn)), hue(x, turn), atol=2e-6)


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("order", list(permutations(range(3)))[::2], ids=str)
def test_jitter_applies_the_four_in_the_order_drawn(clip, order, after):
    factors, turn = (1.3, 0.7, 1.4), 0.2
    steps = [
        lambda x, op=op: (brightness, contrast, saturation)[op](x, factors[op]) for op in order
    ]
    steps.insert(after, lambda x: hue(x, turn))
    expected = clip
    for step in steps:
        expected = step(expected)
    jitter = Jitter(jnp.array(factors), jnp.float32(turn), jnp.array(order), jnp.int32(after))
    np.testing.assert_allclose(jitter_once(jnp.asarray(clip), jitter), expected, atol=5e-6)


def test_jitter_is_drawn_from_its_ranges_and_every_order_comes_up():
    jitter = jax.jit(jax.vmap(lambda key: draw_jitter(key, (0.4, 1.5, 0.0, 0.1))))(KEYS)
    factors = np.asarray(jitter.factors)
    low, high = factors.min(0), factors.max(0)
    np.testing.assert_allclose(low, [0.6, 0, 1], atol=0.02)
    np.testing.assert_allclose(high, [1.4, 2.5, 1], atol=0.02)
    np.testing.assert_allclose([jitter.hue.min(), jitter.hue.max()], [-0.1, 0.1], atol=0.005)
    orders = {
        (*map(int, order), int(after))
        for order, after in zip(jitter.order, jitter.hue_after, strict=True)
    }
    assert len(orders) == 24


def test_colours_change_alike_in_all_frames_and_never_the_depth(clip):
    recipe = Recipe(jitter=(0.4, 0.0, 0.4, 0.4), channel_shuffle=True, gain=0.2)
    frame = np.concatenate([clip[:1], np.full((1, 24, 32, 1), 0.3, np.float32)], -1)
    x = jnp.asarray(np.broadcast_to(np.concatenate([frame, frame]), (6, 2, 24, 32, 4)))
    changed = np.asarray(colour(x, KEYS[:6], recipe))
    np.testing.assert_array_equal(changed[:, 0], changed[:, 1])
    np.testing.assert_array_equal(changed[..., 3], np.float32(0.3))
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(changed[1:], changed[:-1], strict=True))
    assert 0 <= changed.min() and changed.max() <= 1


def test_shuffle_permutes_the_channels_and_gain_multiplies_them(clip):
    x = jnp.asarray(np.broadcast_to(clip * 0.5, (40, *clip.shape)))
    shuffled = np.asarray(colour(x, KEYS[:40], Recipe(channel_shuffle=True)))
    orders = [
        p
        for s in shuffled
        for p in permutations(range(3))
        if np.array_equal(s, np.asarray(x[0])[..., list(p)])
    ]
    assert len(orders) == 40 and len(set(orders)) == 6
    gained = np.asarray(colour(x, KEYS[:40], Recipe(gain=0.2)))
    factors = gained.sum((1, 2, 3)) / np.asarray(x).sum((1, 2, 3))
    np.testing.assert_allclose(gained, np.asarray(x) * factors[:, None, None, None], atol=1e-5)
    assert 0.8 <= factors.min() < 0.83 and 1.17 < factors.max() <= 1.2


def test_erased_boxes_have_the_area_shape_and_frequency_of_the_recipe():
    boxes = np.asarray(jax.jit(jax.vmap(lambda key: draw_erasing(key, 0.25, (224, 224))))(KEYS))
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    erased = height > 0
    assert 0.2 < erased.mean() < 0.3
    area, ratio = (height * width / 224**2)[erased], (height / width.clip(1))[erased]
    assert 0.019 < area.min() < 0.04 and 0.3 < area.max() < 0.335
    assert 0.29 < ratio.min() < 0.4 and 2.5 < ratio.max() < 3.4
    assert abs(np.log(ratio).mean()) < 0.15, "log-uniform: as often high as wide"
    assert boxes.min() >= 0 and boxes.max() <= 224


def test_erasing_sets_one_box_of_all_frames_and_channels_to_zero():
    x = np.asarray(erase(jnp.ones((8, 2, 24, 32, 4)), KEYS[:8], 1.0))
    assert (x == x[:, :1, :, :, :1]).all(), "the same in all frames and channels"
    for sample in x[:, 0, :, :, 0]:
        rows, columns = (sample == 0).any(1), (sample == 0).any(0)
        assert 0 < rows.sum() * columns.sum() == (sample == 0).sum(), "a box"


def test_noise_fills_the_same_box_anew_in_every_frame_and_channel():
    """Timm's pixel mode: N(0, 1) in a standardised sample."""
    x = jnp.full((8, 2, 24, 32, 4), 7.0)
    noisy = np.asarray(erase_with_noise(x, KEYS[:8], 1.0))
    black = np.asarray(erase(x, KEYS[:8], 1.0))
    assert np.array_equal(noisy != 7, black != 7), "the box that is set to 0 in the other mode"
    noise = noisy[black == 0]
    n = len(noise)
    assert n > 3000 and len(np.unique(noise)) > 0.99 * n
    assert abs(noise.mean()) < 4 / np.sqrt(n) and abs(noise.var() - 1) < 4 * np.sqrt(2 / n)
    assert np.array_equal(noisy, erase_with_noise(x, KEYS[:8], 1.0))
    assert photometric.erase_with_noise(x, KEYS[:8], 0.0) is x


def test_rgb_is_dropped_from_half_of_the_samples_with_depth_and_from_none_without():
    x = jnp.ones((600, 1, 1, 1, 4))
    dropped = np.asarray(drop_rgb(x, KEYS, 0.5))[:, 0, 0, 0]
    assert set(map(tuple, dropped.tolist())) == {(1, 1, 1, 1), (0, 0, 0, 1)}
    assert 0.44 < (dropped[:, 0] == 0).mean() < 0.56
    assert photometric.drop_rgb(x[..., :3], KEYS, 0.5).min() == 1
