"""Fast scaling against Pillow's, at the sizes that crops have."""

import numpy as np
import pytest

from omnivore_jax.data import image_ops
from omnivore_jax.data.scaling import scale
from tests.media import CHINA, FLOWER


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size", [(375, 500), (427, 640), (300, 77), (100, 224), (224, 17), (31, 99), (17, 16)]
)
def test_it_is_pillows_but_for_a_coefficient(size, interpolation):
    frames = np.stack([CHINA[: size[0], : size[1]], FLOWER[: size[0], : size[1]]])
    ours = scale(frames, 224, 224, interpolation).astype(float)
    theirs = image_ops.resize(frames, 224, 224, interpolation, antialias=True)
    assert ours.shape == (2, 224, 224, 3)
    assert np.abs(ours - theirs).mean() < 0.7
    assert abs((ours - theirs).mean()) < 0.1


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (15, 400), (400, 15)])
def test_what_swscale_does_not_do_is_pillows(size):
    frames = np.ascontiguousarray(CHINA[None, : size[0], : size[1]])
    theirs = image_ops.resize(frames, 224, 224, "bicubic", antialias=True)
    np.testing.assert_array_equal(scale(frames, 224, 224, "bicubic"), theirs)


def test_much_smaller_and_the_same_size():
    frames = np.random.default_rng(0).integers(0, 256, (1, 640, 39 * 64, 3), np.uint8)
    theirs = image_ops.resize(frames, 32, 39, "bicubic", antialias=True)
    np.testing.assert_array_equal(scale(frames, 32, 39, "bicubic"), theirs)
    assert scale(frames, 640, 39 * 64, "bicubic") is frames
    near = scale(frames, 64, 160, "bicubic").astype(float)
    theirs = image_ops.resize(frames, 64, 160, "bicubic", antialias=True)
    assert np.abs(near - theirs).mean() < 1


def test_views_that_are_not_contiguous_and_mirrored_are_read_as_they_are():
    frames = CHINA[None, 10:240, 300:20:-1]
    copied = scale(np.ascontiguousarray(frames), 96, 112, "bicubic")
    np.testing.assert_array_equal(scale(frames, 96, 112, "bicubic"), copied)
