import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.train import keys
from omnivore_jax.train.mix import (
    MixConfig,
    blend_pixels,
    cut_box,
    draw_blend,
)
from omnivore_jax.train.recipe import Recipe

SIZE = (12, 20)
GROUPS = 400


KEY = keys.dataset_key(0, jnp.int32(3), "imagenet")


def draw(groups=GROUPS, **settings):
    """Blends of some groups under the paper's settings, but for those that are given."""
    drawn = jax.jit(draw_blend, static_argnums=(1, 2))
    return jax.device_get(drawn(keys.group_keys(KEY, jnp.arange(groups)), Recipe(**settings), SIZE))


@pytest.fixture(scope="module")
def draws():
    """Blends of 400 groups for each way of mixing."""
    return {
        "both": draw(),
        "mixup": draw(cutmix=0.0),
        "cutmix": draw(mixup=0.0),
        "rarely": draw(mix_prob=0.1),
    }


def test_groups_differ(draws):
    assert len(np.unique(draws["both"].own)) > GROUPS / 2


@pytest.mark.parametrize("groups", [1, 7])
def test_what_a_group_draws_does_not_depend_on_how_many_there_are(draws, groups):
    for few, many in zip(draw(groups), draws["both"], strict=True):
        np.testing.assert_array_equal(few, many[:groups])


def test_lambda_of_mixup_is_beta_distributed(draws):
    own = draws["mixup"].own
    assert not draws["mixup"].paste.any()
    variance = 0.25 / (2 * 0.8 + 1)  # of Beta(a, a)
    np.testing.assert_allclose([own.mean(), own.var()], [0.5, variance], atol=0.06)


def test_half_of_the_groups_are_cut_and_a_tenth_is_mixed_when_asked(draws):
    assert 0.4 < draws["both"].paste.mean() < 0.6
    assert draws["cutmix"].paste.all()
    assert 0.03 < (draws["rarely"].own < 1).mean() < 0.2


def test_lambda_of_cutmix_is_the_area_that_stays(draws):
    own, box, _ = draws["cutmix"]
    for lam, (top, left, bottom, right) in zip(own, box, strict=True):
        assert 0 <= top <= bottom <= SIZE[0] and 0 <= left <= right <= SIZE[1]
        np.testing.assert_allclose(
            lam, 1 - (bottom - top) * (right - left) / (SIZE[0] * SIZE[1]), rtol=1e-6
        )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_the_box_is_that_of_the_released_recipe(share):
    """The recipe in plain integers.

    Sides are the frame's times sqrt(1 - lambda), cut down, halved, then clipped.
    """
    for centre in [(0, 0), (6, 10), (11, 19)]:
        side = [int(n * np.sqrt(1 - share)) // 2 for n in SIZE]
        low = [max(c - s, 0) for c, s in zip(centre, side, strict=True)]
        high = [min(c + s, n) for c, s, n in zip(centre, side, SIZE, strict=True)]
        assert cut_box(jnp.float32(share), jnp.array(centre), SIZE).tolist() == [*low, *high]


def test_pixels_are_blended_as_numpy_would_and_all_frames_of_a_clip_alike(draws):
    rng = np.random.default_rng(1)
    x, other = rng.normal(size=(2, 24, 2, *SIZE, 4)).astype(np.float32)
    blend = jax.tree.map(lambda field: jnp.asarray(field[:24]), draws["both"])
    assert 0 < np.asarray(blend.paste).sum() < 24, "both ways are in the sample"
    expected = x.copy()
    for i in range(24):
        top, left, bottom, right = np.asarray(blend.box[i])
        if blend.paste[i]:
            expected[i, :, top:bottom, left:right] = other[i, :, top:bottom, left:right]
        else:
            expected[i] = float(blend.own[i]) * x[i] + (1 - float(blend.own[i])) * other[i]
    np.testing.assert_allclose(
        blend_pixels(jnp.asarray(x), jnp.asarray(other), blend), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("group", [0, 1, 5])
def test_a_group_that_would_part_a_pair_is_refused(group):
    with pytest.raises(ValueError, match=f"group={group}; use an even number of 2 or more"):
        MixConfig(group=group)
