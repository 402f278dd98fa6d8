"""RandAugment of timm and DeiT ("rand-m9-mstd0.5-inc1") with Pillow, for RGB pictures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageOps

FILL = (128, 128, 128)
MOST = 10.0
"""The level at which an operation is at its strongest."""
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class RandAugmentConfig:
    """`ops` operations drawn with replacement, each applied with `probability` at a level from N(magnitude, std)."""

    magnitude: float = 9.0
    std: float = 0.5
    ops: int = 2
    probability: float = 0.5

    def __post_init__(self):
        if not 0 <= self.magnitude <= MOST or self.std < 0:
            raise ValueError(
                f"magnitude={self.magnitude}, std={self.std}; use 0 to {MOST:.0f}, and 0 or more"
            )
        if self.ops < 1 or not 0 <= self.probability <= 1:
            raise ValueError(
                f"ops={self.ops}, probability={self.probability}; use 1 or more, and a probability"
            )


def rand_augment(
    picture: UInt8[np.ndarray, "h w 3"], config: RandAugmentConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Applies random operations to one picture (FACTS 3.3)."""
    image = Image.fromarray(picture)
    names = list(OPERATIONS)
    for which in rng.integers(len(names), size=config.ops):
        if rng.random() < config.probability:
            level = float(np.clip(rng.normal(config.magnitude, config.std), 0.0, MOST))
            image = apply(names[which], image, level, rng)
    return np.asarray(image)


def apply(name: str, image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    """Applies one operation.

    Those that have a direction draw it, those that move pixels draw their filter.
    """
    sign = 1.0 if rng.random() < 0.5 else -1.0
    resample = FILTERS[rng.integers(len(FILTERS))]
    return OPERATIONS[name](image, level, sign, resample)


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
            fillcolor=FILL,
        )

    return move


def _posterize(
    image: Image.Image, level: float, sign: float, resample: Image.Resampling
) -> Image.Image:
    return ImageOps.posterize(
        image, max(4 - int(0.4 * level), 1)
    )  # at level 10 no bit is left, which Pillow refuses


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
    return image.rotate(sign * 3 * level, resample=resample, fillcolor=FILL)


Operation = Callable[[Image.Image, float, float, Image.Resampling], Image.Image]

OPERATIONS: dict[str, Operation] = {
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
