from pathlib import Path

import av
import numpy as np
import pytest

from omnivore_jax.data.decode import Clip
from omnivore_jax.data.pixels import Converter, upright
from tests.media import number

CASES = Path(__file__).parent / "cases"
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Of red and blue in luma, by the number of the matrix (ISO/IEC 23091-2)."""
COLOUR = np.array([200, 60, 40])


def coded(matrix: int, full: bool) -> list[int]:
    (red, blue), (r, g, b) = WEIGHTS[matrix], COLOUR / 255
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = (b - luma) / 2 / (1 - blue), (r - luma) / 2 / (1 - red)
    scale, offset, spread = (255, 0, 255) if full else (219, 16, 224)
    return [round(scale * luma + offset), *(round(spread * c + 128) for c in chroma)]


def flat(format: str, matrix: int, full: bool) -> av.VideoFrame:
    frame = av.VideoFrame(64, 32, format)
    for plane, value in zip(frame.planes, coded(matrix, full), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("format", ["yuv420p", "yuv444p", "yuvj420p"])
@pytest.mark.parametrize("full", [False, True])
def test_colours_are_those_that_matrix_and_range_of_the_file_say(format, matrix, full):
    """Decoders differ in what they take where they are not told; ours tells them."""
    if full or format != "yuvj420p":  # whose name says that its range is full
        rgb = Converter()(flat(format, matrix, full), 64, 32)
        assert rgb.shape == (32, 64, 3) and np.abs(rgb.astype(int) - COLOUR).max() <= 3


def test_a_clip_of_full_range_and_itu_709_has_its_colour():
    frames = Clip((CASES / "colour_bt709_full_range.mp4").read_bytes()).frames(range(4))
    assert np.abs(frames.astype(int) - COLOUR).max() <= 2


def test_a_frame_that_states_no_matrix_is_read_as_itu_601():
    frame = flat("yuv420p", 5, full=False)
    frame.colorspace, frame.color_range = 2, 0
    assert np.abs(Converter()(frame, 64, 32).astype(int) - COLOUR).max() <= 2


@pytest.mark.parametrize("a, d", [(-1, -1), (-1, 1), (1, -1), (1, 1)])
@pytest.mark.parametrize("transposes", [False, True])
def test_a_point_of_the_picture_is_shown_where_the_display_matrix_says(transposes, a, d):
    a, b, c, d = (0, a, d, 0) if transposes else (a, 0, 0, d)
    picture = np.arange(6).reshape(2, 3, 1)
    matrix = np.array([a, b, 0, c, d, 0, 7, 9, 1 << 14], "<i4") * (1 << 16)
    shown = upright(picture, matrix.tobytes())
    places = {(a * p + c * q, b * p + d * q): picture[q, p, 0] for q, p in np.ndindex(2, 3)}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    assert all(shown[y - top, x - left, 0] == value for (x, y), value in places.items())


def test_a_clip_is_turned_and_mirrored_as_its_file_says():
    frames = Clip((CASES / "display_matrix_mirrored_right90.mp4").read_bytes()).frames(range(12))
    assert frames.shape == (12, 128, 96, 3)  # rows and columns change places
    assert [number(frame) for frame in frames.swapaxes(1, 2)] == list(range(12))
