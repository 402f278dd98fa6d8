import matplotlib
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_image

from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.reporting import sheets
from tests.reporting import small_report

SPEC = Preprocessing()


def test_a_sample_is_shown_as_it_was_before_it_was_standardised():
    x = small_report.standardised(4, SPEC, depth=True)
    x[1, ..., :3] = 0
    sheet = sheets.sample_sheet(
        "reliefs", "rgbd", x, load_digits().target[:4], small_report.CLASSES, SPEC
    )
    seen = np.round(load_digits().images[0] / 16 * 255)
    np.testing.assert_allclose(sheet.rgb[0, 0, ..., 1], seen, atol=1)
    assert (
        sheets.sample_sheet(
            "clips", "video", x[..., :3].repeat(32, 1), np.zeros(4, int), ["a"], SPEC
        ).rgb.shape[1]
        == 8
    )
    assert sheet.notes == ("", "colours dropped", "", "") and sheet.names[1] == "<b>one</b>"
    assert len(np.unique(sheet.rgb[1].reshape(-1, 3), axis=0)) == 1


def test_no_more_frames_are_stored_than_are_shown():
    clip = small_report.standardised(4, SPEC, depth=False).repeat(32, axis=1)
    sheet = sheets.sample_sheet(
        "clips", "video", clip, np.zeros(4, int), small_report.CLASSES, SPEC
    )
    assert sheet.rgb.shape == (4, 8, 8, 8, 3) and sheet.depth is None


def test_near_is_bright_and_far_is_dark_in_false_colours():
    ramp = np.linspace(0.3, 0.6, 64, dtype=np.float32).reshape(1, 1, 8, 8, 1)
    painted = sheets.false_colours(ramp)
    ends = [matplotlib.colormaps["viridis"](end, bytes=True)[:3] for end in (0.0, 1.0)]
    np.testing.assert_array_equal(painted[0, 0, [0, -1], [0, -1]], ends)
    brightness = painted.reshape(64, 3) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) >= -1).all()


def test_a_sheet_takes_the_first_sample_of_each_class():
    labels = np.array([3, 1, 3, 0, 1, 2])
    assert labels[sheets.first_of_each(labels, 3)].tolist() == [0, 1, 2]
    assert sheets.first_of_each(labels).tolist() == [3, 1, 5, 0]


@pytest.mark.parametrize(
    ("t", "most", "shown"), [(8, 4, [0, 2, 5, 7]), (1, 4, [0]), (32, 2, [0, 31]), (3, 8, [0, 1, 2])]
)
def test_some_frames_of_a_clip_hold_its_first_and_last(t, most, shown):
    clip = np.arange(t, dtype=np.uint8).reshape(1, t, 1, 1, 1).repeat(3, -1)
    assert sheets.some_frames(clip, most)[0, :, 0, 0, 0].tolist() == shown


def test_a_large_picture_shrinks_and_keeps_its_shape_and_its_colours():
    photo = load_sample_image("flower.jpg")[None, None]  # 427 x 640
    small = sheets.thumbnails(photo, 160)
    assert small.shape == (1, 1, 107, 160, 3) and sheets.thumbnails(small, 160) is small
    np.testing.assert_allclose(small.mean((1, 2, 3)), photo.mean((1, 2, 3)), atol=0.5)
