"""Crops, resizes and flips: the same for all frames of a sample and for its disparity."""

import math
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Shaped
from PIL import Image

from omnivore_jax.data.protocol import Interpolation

Frames = Shaped[np.ndarray, "t h w c"]
"""uint8 RGB or float32 disparity."""

OPENCV = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST_EXACT,
}
Filter = Interpolation | Literal["nearest"]
"""The nearest pixel is for labels, without an average."""
PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10
MAX_ASPECT = 17
"""Longer side in shorter ones. Beyond RATIO / SCALE = 16.7 no random box fits, so a cut loses
nothing; without it the resize of a 9000 x 2 picture takes gigabytes."""


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def resize(
    frames: Frames,
    height: int,
    width: int,
    interpolation: Filter = "bilinear",
    *,
    antialias: bool = False,
) -> Shaped[np.ndarray, "t height width c"]:
    """Resizes every frame.

    `antialias`: average over what a smaller pixel covers (Pillow), as the image recipes do; without
    it (OpenCV) the result is that of PyTorch's interpolate, as the video and RGB-D recipes do.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([_resize(frame, height, width, interpolation, antialias) for frame in frames])


def short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Computes the size of a picture whose shorter side becomes `size` (torchvision's rounding)."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def crop(frames: Frames, box: Box) -> Shaped[np.ndarray, "t height width c"]:
    """Cuts a box out of every frame."""
    return frames[:, box.top : box.top + box.height, box.left : box.left + box.width]


def pad(
    frames: Frames, height: int, width: int, fill: Any
) -> Shaped[np.ndarray, "t height width c"]:
    """Fills up every frame below and on its right; `fill`: a value, or one a channel."""
    rows, columns = frames.shape[1:3]
    if (rows, columns) == (height, width):
        return frames
    padded = np.empty((len(frames), height, width, frames.shape[3]), frames.dtype)
    padded[:] = fill
    padded[:, :rows, :columns] = frames
    return padded


def bound_aspect(frames: Frames) -> Shaped[np.ndarray, "t h2 w2 c"]:
    """Cuts a side that is longer than `MAX_ASPECT` times the other to its middle.

    What is cut off at both ends is alike, so the center stays where it was.
    """
    height, width = frames.shape[1:3]
    limit = MAX_ASPECT * min(height, width)
    top, left = (max(side - limit, 0) // 2 for side in (height, width))
    return frames[:, top : height - top, left : width - left]


def center_box(height: int, width: int, size: int) -> Box:
    """Cuts a square out of the middle (torchvision's rounding)."""
    return Box(round((height - size) / 2), round((width - size) / 2), size, size)


def three_boxes(height: int, width: int, size: int) -> tuple[Box, Box, Box]:
    """Lays three squares along the longer side, at its start, middle and end (FACTS 5)."""
    down, right = height - size, width - size
    offsets = [(0, 0), (math.ceil(down / 2), math.ceil(right / 2)), (down, right)]
    if width >= height:
        offsets = [(math.ceil(down / 2), left) for _, left in offsets]
    else:
        offsets = [(top, math.ceil(right / 2)) for top, _ in offsets]
    first, middle, last = (Box(top, left, size, size) for top, left in offsets)
    return first, middle, last


def random_resized_box(rng: np.random.Generator, height: int, width: int) -> Box:
    """Draws a box of 8 to 100 % of the area, 3/4 to 4/3 as wide as high.

    Source: torchvision's RandomResizedCrop.
    """
    for _ in range(ATTEMPTS):
        area = height * width * rng.uniform(*SCALE)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
    # none of them fits: the largest box in the middle that keeps to the ratios
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(height * RATIO[1])
    return Box((height - h) // 2, (width - w) // 2, h, w)


def flip(frames: Frames) -> Frames:
    """Mirrors every frame, left to right."""
    return frames[:, :, ::-1]


def shift(frames: Frames, down: int, right: int) -> Frames:
    """Moves every frame by some pixels; what comes in repeats the border."""
    height, width = frames.shape[1:3]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return frames[:, rows[:, None], columns]


def _resize(
    frame: np.ndarray, height: int, width: int, interpolation: Filter, antialias: bool
) -> Shaped[np.ndarray, "h w c"]:
    # both libraries want no axis of one channel
    frame = frame if frame.shape[-1] > 1 else frame[..., 0]
    if antialias:
        small = np.asarray(Image.fromarray(frame).resize((width, height), PILLOW[interpolation]))
    else:
        small = cv2.resize(
            np.ascontiguousarray(frame), (width, height), interpolation=OPENCV[interpolation]
        )
    return small if small.ndim == 3 else small[..., None]
