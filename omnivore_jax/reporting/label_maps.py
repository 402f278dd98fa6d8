"""Label maps as pictures: a colour for every class, alike on every page."""

import colorsys
from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import UInt8

from omnivore_jax.core.types import IGNORE

GOLDEN = 0.618034
"""Of the colour circle from one class to the next: neighbours in the list differ most."""
SHARE = 0.65
"""Of the colour, where it lies over a picture."""
NAMED = 3
"""Classes of a map that its caption names."""


@cache
def palette() -> UInt8[np.ndarray, "256 3"]:
    """Colours by label; black is nobody's."""
    colours = [
        colorsys.hsv_to_rgb(k * GOLDEN % 1, 0.55 + 0.15 * (k % 4), 0.95 - 0.17 * (k // 4 % 3))
        for k in range(IGNORE)
    ]
    return (255 * np.array([*colours, (0.0, 0.0, 0.0)])).round().astype(np.uint8)


def paint(labels: UInt8[np.ndarray, "*n h w"]) -> UInt8[np.ndarray, "*n h w 3"]:
    """Colours the pixels of maps by their labels."""
    return palette()[labels]


def overlay(
    rgb: UInt8[np.ndarray, "*n h w 3"], labels: UInt8[np.ndarray, "*n h w"]
) -> UInt8[np.ndarray, "*n h w 3"]:
    """Lays the colours of maps over pictures; pixels that are nobody's stay as they are."""
    share = np.where(labels[..., None] == IGNORE, 0.0, SHARE)
    return (share * paint(labels) + (1 - share) * rgb).round().astype(np.uint8)


def largest(labels: UInt8[np.ndarray, "h w"], most: int = NAMED) -> list[int]:
    """Lists the classes of a map, those with most pixels first."""
    count = np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE]
    order = np.argsort(-count, kind="stable")[:most]
    return [int(k) for k in order if count[k]]


def caption(labels: UInt8[np.ndarray, "h w"], classes: Sequence[str]) -> str:
    """Names the largest classes of a map."""
    return ", ".join(str(classes[k]) for k in largest(labels)) or "no labels"


def colour_of(label: int) -> str:
    """The colour of a class as a page writes it: "#a1b2c3"."""
    return "#" + bytes(palette()[label].tolist()).hex()
