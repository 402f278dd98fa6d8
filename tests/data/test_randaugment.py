import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from omnivore_jax.data.randaugment import (
    GEOMETRIC,
    OPERATIONS,
    Operation,
    RandAugmentConfig,
    apply,
    draw_operations,
    rand_augment,
)
from tests.media import CHINA

PICTURE = np.ascontiguousarray(CHINA[:96, :128])
IMAGE = Image.fromarray(PICTURE)


def drawn(name, level, sign, resample="bicubic"):
    return apply(Operation(name, float(level), float(sign), resample), PICTURE[None])[0]


def augment(picture, config, seed):
    return rand_augment(picture[None], None, config, np.random.default_rng(seed))[0][0]


def test_there_are_the_fifteen_operations_of_the_recipe():
    assert len(OPERATIONS) == 15


@pytest.mark.parametrize(
    ("name", "level", "sign", "expected"),
    [
        ("auto_contrast", 9, 1, ImageOps.autocontrast(IMAGE)),
        ("equalize", 9, 1, ImageOps.equalize(IMAGE)),
        ("invert", 9, 1, ImageOps.invert(IMAGE)),
        ("posterize", 5, 1, ImageOps.posterize(IMAGE, 2)),
        ("solarize", 5, 1, ImageOps.solarize(IMAGE, 128)),
        ("color", 10, 1, ImageEnhance.Color(IMAGE).enhance(1.9)),
        ("contrast", 10, -1, ImageEnhance.Contrast(IMAGE).enhance(0.1)),
        ("brightness", 5, 1, ImageEnhance.Brightness(IMAGE).enhance(1.45)),
        ("sharpness", 5, -1, ImageEnhance.Sharpness(IMAGE).enhance(0.55)),
    ],
)
def test_levels_mean_what_the_recipe_says(name, level, sign, expected):
    assert np.abs(drawn(name, level, sign).astype(int) - np.asarray(expected)).max() <= 1


def test_solarize_add_brightens_dark_pixels_only():
    bright = np.minimum(PICTURE.astype(int) + 99, 255)  # int(11 * 9)
    assert np.array_equal(drawn("solarize_add", 9, 1), np.where(PICTURE < 128, bright, PICTURE))


def test_at_the_highest_level_posterize_keeps_one_bit_and_solarize_inverts_all():
    assert set(np.unique(drawn("posterize", 10, 1))) <= {0, 128}
    assert np.array_equal(drawn("solarize", 10, 1), 255 - PICTURE)


def test_shears_and_translations_read_where_their_coordinates_say_and_fill_with_grey():
    moved = drawn("translate_x", 10, 1)  # .45 of 128 pixels to the left: 57.6
    between = 0.4 * PICTURE[:, 57:-2].astype(float) + 0.6 * PICTURE[:, 58:-1]
    assert (
        np.abs(drawn("translate_x", 10, 1, "bilinear")[:, : between.shape[1]] - between).max() <= 1
    )
    assert (moved[:, 75:] == 128).all()
    assert (drawn("translate_y", 10, -1)[:42] == 128).all()
    sheared = drawn("shear_x", 10, 1, "bilinear")
    row, column = 50, 20  # reads at column + .3 * row, in centres of pixels
    at = column + 0.3 * (row + 0.5)
    expected = (1 - at % 1) * PICTURE[row, int(at)].astype(float) + at % 1 * PICTURE[
        row, int(at) + 1
    ]
    assert np.abs(sheared[row, column] - expected).max() <= 1
    assert (drawn("shear_y", 10, 1)[90:, 127] == 128).all()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("level", [0.0, 8.9, 10.0])
def test_every_operation_keeps_the_size_at_every_level(name, level):
    for seed in range(4):
        how = Operation(name, level, (1.0, -1.0)[seed % 2], ("bicubic", "bilinear")[seed // 2])
        assert apply(how, PICTURE[None]).shape == (1, 96, 128, 3)


def test_two_operations_come_with_probability_one_half_each():
    small = PICTURE[:24, :24]

    def unchanged(**config) -> float:
        results = (augment(small, RandAugmentConfig(**config), seed) for seed in range(800))
        return float(np.mean([np.array_equal(result, small) for result in results]))

    idle = unchanged(ops=1, probability=1.0)  # some operations change nothing in this picture
    assert idle < 0.2 and unchanged() == pytest.approx((0.5 + 0.5 * idle) ** 2, abs=0.05)


def test_the_result_depends_on_the_seed_alone():
    one, same, other = (augment(PICTURE, RandAugmentConfig(ops=4), seed) for seed in (5, 5, 6))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


@pytest.mark.parametrize(
    "wrong", [{"magnitude": 11.0}, {"std": -1.0}, {"ops": 0}, {"probability": 1.5}]
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RandAugmentConfig(**wrong)


@pytest.mark.parametrize("name", sorted(GEOMETRIC))
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_depth_is_moved_as_a_picture_of_the_same_values(name, resample):
    grey = np.repeat(PICTURE[..., :1], 3, -1)
    how = Operation(name, 7.0, -1.0, resample)
    picture = apply(how, grey[None])[0, ..., 0].astype(float)
    depth = apply(how, PICTURE[None, ..., :1].astype(np.float32))
    assert depth.shape == (1, 96, 128, 1) and depth.dtype == np.float32
    marked = apply(how, np.full_like(grey, 255)[None])[0, ..., 0]
    # What came in is grey, and pixels near its border are blends that may overshoot.
    clear = np.pad((marked == 255).astype(np.uint8), 2)
    inside = cv2.erode(clear, np.ones((5, 5)))[2:-2, 2:-2] == 1
    assert 0.4 < inside.mean() < 0.99
    error = np.abs(np.clip(depth[0, ..., 0], 0, 255) - picture)[inside]
    assert error.max() <= 1.5  # the picture is rounded, and so are its coordinates
    came_in = np.median(depth[0, ..., 0][marked == 128])
    assert came_in == pytest.approx(PICTURE[..., 0].mean(), rel=1e-4)


def test_all_frames_and_the_depth_get_the_operations_drawn_once():
    """Oracle: op by op and frame by frame, as timm does it to a picture."""
    config = RandAugmentConfig(ops=3, probability=0.7)
    clip = np.stack([PICTURE, PICTURE[::-1], PICTURE[:, ::-1]])
    disparity = clip[..., :1].astype(np.float32)
    seen = set()
    for seed in range(12):
        rgb, depth = rand_augment(clip, disparity, config, np.random.default_rng(seed))
        operations = draw_operations(config, np.random.default_rng(seed))
        seen |= {operation.name for operation in operations}
        for t in range(3):
            image, relief = clip[t : t + 1], disparity[t : t + 1]
            for operation in operations:
                image = apply(operation, image)
                relief = apply(operation, relief) if operation.name in GEOMETRIC else relief
            assert np.array_equal(rgb[t], image[0])
            assert np.array_equal(depth[t], relief[0])
    assert len(seen) > 10


def test_the_draws_of_a_seed_are_those_of_before():
    """Their order is part of what a seed means: a run that is resumed must draw the same."""
    rng = np.random.default_rng(3)
    expected = []
    for which in rng.integers(15, size=2):
        if rng.random() < 0.5:
            level = float(np.clip(rng.normal(9.0, 0.5), 0.0, 10.0))
            sign = 1.0 if rng.random() < 0.5 else -1.0
            resample = ("bilinear", "bicubic")[rng.integers(2)]
            expected.append(Operation(list(OPERATIONS)[which], level, sign, resample))
    assert draw_operations(RandAugmentConfig(), np.random.default_rng(3)) == expected != []
