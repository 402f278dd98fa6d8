"""RandAugment of timm and DeiT ("rand-m9-mstd0.5-inc1") with Pillow, for every modality."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageEnhance, ImageOps

from omnivore_jax.data.image_ops import Frames

FILL = (128, 128, 128)
MAX_LEVEL = 10.0
"""The level at which an operation is at its strongest."""
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


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
    resample: Image.Resampling


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

    def one(frame: np.ndarray) -> np.ndarray:
        # Pillow wants no axis of one channel
        image = Image.fromarray(frame if frame.shape[-1] > 1 else frame[..., 0])
        result = change(image, operation.level, operation.sign, operation.resample)
        return np.asarray(result).reshape(frame.shape)

    return np.stack([one(frame) for frame in frames])


def _fill(image: Image.Image) -> tuple[int, int, int] | float:
    """What comes in at the border: grey, or the mean of a depth map, neither near nor far."""
    return FILL if image.mode == "RGB" else float(np.asarray(image).mean())


def _enhance(kind: Callable) -> Callable:
    return lambda image, level, sign, resample: kind(image).enhance(1 + sign * 0.09 * level)


def _affine(matrix: Callable[[Image.Image, float], tuple]) -> Callable:
    """`matrix`: six coefficients from the picture and a signed level."""

    def move(
        image: Image.Image, level: float, sign: float, resample: Image.Resampling
    ) -> Image.Image:
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            matrix(image, sign * level),
            resample=resample,
            fillcolor=_fill(image),
        )

    return move


def _posterize(
    image: Image.Image, level: float, sign: float, resample: Image.Resampling
) -> Image.Image:
    # at level 10 no bit is left, which Pillow refuses
    return ImageOps.posterize(image, max(4 - int(0.4 * level), 1))


def _solarize(
    image: Image.Image, level: float, sign: float, resample: Image.Resampling
) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(25.6 * level))


def _solarize_add(
    image: Image.Image, level: float, sign: float, resample: Image.Resampling
) -> Image.Image:
    table = [min(value + int(11 * level), 255) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _rotate(
    image: Image.Image, level: float, sign: float, resample: Image.Resampling
) -> Image.Image:
    return image.rotate(sign * 3 * level, resample=resample, fillcolor=_fill(image))


Change = Callable[[Image.Image, float, float, Image.Resampling], Image.Image]

OPERATIONS: Mapping[str, Change] = {
    "auto_contrast": lambda image, level, sign, resample: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign, resample: ImageOps.equalize(image),
    "invert": lambda image, level, sign, resample: ImageOps.invert(image),
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _affine(lambda image, level: (1, 0.03 * level, 0, 0, 1, 0)),
    "shear_y": _affine(lambda image, level: (1, 0, 0, 0.03 * level, 1, 0)),
    "translate_x": _affine(lambda image, level: (1, 0, 0.045 * level * image.width, 0, 1, 0)),
    "translate_y": _affine(lambda image, level: (1, 0, 0, 0, 1, 0.045 * level * image.height)),
}
"""(picture, level 0 to 10, sign, filter) to picture.

Stronger with the level, which timm calls increasing.
"""

GEOMETRIC = frozenset({"rotate", "shear_x", "shear_y", "translate_x", "translate_y"})
"""Those that move pixels."""
