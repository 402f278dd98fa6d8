import numpy as np
import pytest
from PIL import Image

from omnivore_jax.data import image_ops as geometry
from omnivore_jax.data.image_ops import Box
from tests.media import CHINA, FLOWER

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def weights(source: int, target: int, kernel: str) -> np.ndarray:
    """The matrix of torch's interpolate along one axis (a = -.75), from coordinates."""
    matrix = np.zeros((target, source))
    for i in range(target):
        x = (i + 0.5) * source / target - 0.5
        for j in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            d = abs(x - j)
            if kernel == "bilinear":
                w = max(1 - d, 0)
            else:
                a = -0.75
                near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
                w = near if d <= 1 else far if d < 2 else 0
            matrix[i, min(max(j, 0), source - 1)] += w
    return matrix


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(50, 31), (90, 140)])
def test_resizing_without_averaging_is_torchs_interpolate(kernel, size):
    depth = CHINA[:60, :70, :1].astype(np.float32)[None]
    expected = weights(60, size[0], kernel) @ depth[0, ..., 0] @ weights(70, size[1], kernel).T
    small = geometry.resize(depth, *size, kernel)
    assert small.shape == (1, *size, 1) and np.abs(small[0, ..., 0] - expected).max() < 0.02


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_resizing_with_averaging_is_pillows(kernel):
    small = geometry.resize(CHINA[None], 100, 90, kernel, antialias=True)[0]
    assert np.array_equal(
        small, np.asarray(Image.fromarray(CHINA).resize((90, 100), PILLOW[kernel]))
    )


def test_the_short_side_and_the_centre_are_torchvisions():
    assert geometry.short_side(427, 640, 224) == (224, 335) and geometry.short_side(
        640, 427, 224
    ) == (335, 224)
    assert geometry.center_box(224, 335, 224) == Box(0, 56, 224, 224)  # round half to even: 55.5
    assert geometry.center_box(227, 224, 224) == Box(2, 0, 224, 224)


def test_three_crops_lie_at_the_ends_and_in_the_middle_of_the_longer_side():
    assert [box.left for box in geometry.three_boxes(224, 335, 224)] == [
        0,
        56,
        111,
    ]  # ceil(111 / 2)
    assert [box.top for box in geometry.three_boxes(335, 224, 224)] == [0, 56, 111]
    assert all(box[2:] == (224, 224) for box in geometry.three_boxes(256, 340, 224))
    assert {box.top for box in geometry.three_boxes(256, 340, 224)} == {16}


def test_random_boxes_have_the_areas_ratios_and_places_of_the_recipe():
    boxes = [
        geometry.random_resized_box(np.random.default_rng(seed), 480, 640) for seed in range(3000)
    ]
    top, left, height, width = np.array(boxes).T
    area, ratio = height * width / (480 * 640), width / height
    assert (
        (top >= 0).all()
        and (left >= 0).all()
        and (top + height <= 480).all()
        and (left + width <= 640).all()
    )
    assert area.min() < 0.09 and area.max() > 0.97 and area.min() > 0.079
    assert ratio.min() > 0.74 and ratio.max() < 1.345
    assert abs(np.log(ratio[area < 0.5]).mean()) < 0.01  # symmetric, where all of them fit
    rng = np.random.default_rng(0)
    drawn, ratios = (
        480 * 640 * rng.uniform(0.08, 1, 20_000),
        np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 20_000)),
    )
    fits = (np.sqrt(drawn * ratios) <= 640) & (np.sqrt(drawn / ratios) <= 480)
    quantiles = [0.1, 0.25, 0.5, 0.75, 0.9]
    expected = np.quantile(drawn[fits] / (480 * 640), quantiles)
    assert np.quantile(area, quantiles) == pytest.approx(expected, abs=0.03)
    inside = top[height < 300] / (480 - height[height < 300])
    assert np.quantile(inside, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.05)


@pytest.mark.parametrize(
    ("size", "box"), [((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10))]
)
def test_where_no_box_fits_the_middle_is_taken(size, box):
    assert geometry.random_resized_box(np.random.default_rng(0), *size) == Box(*box)


def test_crops_flips_and_shifts_move_pixels_to_where_their_coordinates_say():
    rows, columns = np.mgrid[:40, :50].astype(np.float32)
    where = np.stack([rows, columns], -1)[None]
    assert np.array_equal(geometry.crop(where, Box(3, 7, 20, 30))[0, 0, 0], [3, 7])
    assert np.array_equal(geometry.flip(where)[0, 5, 6], [5, 43])
    moved = geometry.shift(where, 2, -3)
    assert np.array_equal(moved[0, 10, 10], [8, 13]) and np.array_equal(moved[0, 0, 49], [0, 49])


def test_all_frames_of_a_clip_are_treated_alike():
    frames = np.stack([CHINA, FLOWER, CHINA])
    small = geometry.resize(geometry.crop(frames, Box(5, 6, 300, 200)), 32, 48)
    assert np.array_equal(small[0], small[2]) and small.shape == (3, 32, 48, 3)
    assert np.array_equal(small[1], geometry.resize(FLOWER[None, 5:305, 6:206], 32, 48)[0])
