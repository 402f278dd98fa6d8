"""RandAugment of timm and DeiT ("rand-m9-mstd0.5-inc1"), for every modality.

Colours are changed by Pillow, as timm has it; pixels are moved by OpenCV, several times faster.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8
from PIL import Image, ImageEnhance, ImageOps

from omnivore_jax.data.image_ops import OPENCV, Frames
from omnivore_jax.data.protocol import Interpolation

FILL = (128, 128, 128)
MAX_LEVEL = 10.0
"""The level at which an operation is at its strongest."""
FILTERS: tuple[Interpolation, ...] = ("bilinear", "bicubic")


@dataclass(frozen=True)
class RandAugmentConfig:
    """Says how many operations are drawn, with replacement, how often and how strong."""

    magnitude: float = 9.0
    std: float = 0.5
    """A level is drawn from N(magnitude, std) and clipped to 0 .. 10."""
    ops: int = 2
    probability: float = 0.5
    """Of each of them to be applied."""

    def __post_init__(self):
        if not 0 <= self.magnitude <= MAX_LEVEL or self.std < 0:
            raise ValueError(
                f"magnitude={self.magnitude}, std={self.std}; use 0 to {MAX_LEVEL:.0f}, and 0 or "
                "more"
            )
        if self.ops < 1 or not 0 <= self.probability <= 1:
            raise ValueError(
                f"ops={self.ops}, probability={self.probability}; use 1 or more, and a probability"
            )


class Operation(NamedTuple):
    """One operation as it was drawn; the same for all frames of a sample and for its depth."""

    name: str
    level: float
    sign: float
    resample: Interpolation


def rand_augment(
    rgb: UInt8[np.ndarray, "t h w 3"],
    disparity: Float32[np.ndarray, "t h w 1"] | None,
    config: RandAugmentConfig,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "t h w 3"], Float32[np.ndarray, "t h w 1"] | None]:
    """Applies random operations to a picture, to all frames of a clip alike, or to RGB-D.

    Those that move pixels move the disparity the same way; it has no colours to change. The
    released code meant this and never did it (FACTS 9, 19).
    """
    for operation in draw_operations(config, rng):
        rgb = apply(operation, rgb)
        if disparity is not None and operation.name in GEOMETRIC:
            disparity = apply(operation, disparity)
    return rgb, disparity


def draw_operations(config: RandAugmentConfig, rng: np.random.Generator) -> list[Operation]:
    """Draws which operations come, at which level, in which direction and with which filter."""
    names, operations = list(OPERATIONS), []
    for which in rng.integers(len(names), size=config.ops):
        if rng.random() < config.probability:
            level = float(np.clip(rng.normal(config.magnitude, config.std), 0.0, MAX_LEVEL))
            # drawn for every operation, though only some have a direction or move pixels
            sign = 1.0 if rng.random() < 0.5 else -1.0
            resample = FILTERS[rng.integers(len(FILTERS))]
            operations.append(Operation(names[which], level, sign, resample))
    return operations


def apply(operation: Operation, frames: Frames) -> Frames:
    """Applies one operation to every frame, of RGB or (those of GEOMETRIC) of disparity."""
    change = OPERATIONS[operation.name]
    return np.stack([change(frame, operation) for frame in frames])


Frame = Shaped[np.ndarray, "h w c"]
Change = Callable[[Frame, Operation], Frame]


def _affine(matrix: Callable[[int, int, float], Float64[np.ndarray, "2 3"]]) -> Change:
    """Moves the pixels of a frame.

    `matrix`: from height, width and a signed level to where a pixel of the result comes from, (x,
    y) from the corner of the frame.
    """

    def move(frame: Frame, operation: Operation) -> Frame:
        height, width, channels = frame.shape
        where = matrix(height, width, operation.sign * operation.level)
        # OpenCV counts from the centre of the first pixel.
        where[:, 2] += where[:, :2].sum(1) / 2 - 0.5
        moved = cv2.warpAffine(
            np.ascontiguousarray(frame),
            where,
            (width, height),
            flags=OPENCV[operation.resample] | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            # What comes in at the border: grey, or the mean of a depth map, neither near nor far.
            borderValue=FILL if channels == 3 else (float(frame.mean()),),
        )
        return moved.reshape(frame.shape)

    return move


def _matrix(*rows: tuple[float, float, float]) -> Float64[np.ndarray, "2 3"]:
    return np.array(rows, np.float64)


def _rotation(height: int, width: int, level: float) -> Float64[np.ndarray, "2 3"]:
    """Turns around the middle, three degrees a level, to the left."""
    cos, sin = (function(math.radians(3 * level)) for function in (math.cos, math.sin))
    x, y = width / 2, height / 2
    return _matrix((cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y))


def _colors(change: Callable[[Image.Image, float, float], Image.Image]) -> Change:
    """`change`: from a picture, a level and a sign."""

    def recolor(frame: Frame, operation: Operation) -> Frame:
        return np.asarray(change(Image.fromarray(frame), operation.level, operation.sign))

    return recolor


def _enhance(kind: Callable) -> Change:
    return _colors(lambda image, level, sign: kind(image).enhance(1 + sign * 0.09 * level))


def _posterize(image: Image.Image, level: float, sign: float) -> Image.Image:
    # at level 10 no bit is left, which Pillow refuses
    return ImageOps.posterize(image, max(4 - int(0.4 * level), 1))


def _solarize(image: Image.Image, level: float, sign: float) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(25.6 * level))


def _solarize_add(image: Image.Image, level: float, sign: float) -> Image.Image:
    table = [min(value + int(11 * level), 255) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


OPERATIONS: Mapping[str, Change] = {
    "auto_contrast": _colors(lambda image, level, sign: ImageOps.autocontrast(image)),
    "equalize": _colors(lambda image, level, sign: ImageOps.equalize(image)),
    "invert": _colors(lambda image, level, sign: ImageOps.invert(image)),
    "rotate": _affine(_rotation),
    "posterize": _colors(_posterize),
    "solarize": _colors(_solarize),
    "solarize_add": _colors(_solarize_add),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _affine(lambda h, w, level: _matrix((1.0, 0.03 * level, 0.0), (0.0, 1.0, 0.0))),
    "shear_y": _affine(lambda h, w, level: _matrix((1.0, 0.0, 0.0), (0.03 * level, 1.0, 0.0))),
    "translate_x": _affine(
        lambda h, w, level: _matrix((1.0, 0.0, 0.045 * level * w), (0.0, 1.0, 0.0))
    ),
    "translate_y": _affine(
        lambda h, w, level: _matrix((1.0, 0.0, 0.0), (0.0, 1.0, 0.045 * level * h))
    ),
}
"""How a frame is changed; stronger with the level, 0 to 10, which timm calls increasing."""

GEOMETRIC = frozenset({"rotate", "shear_x", "shear_y", "translate_x", "translate_y"})
"""Those that move pixels."""
