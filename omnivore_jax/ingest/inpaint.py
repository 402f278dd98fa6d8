"""Fills the holes of depth maps before they are stored (`prepare --inpaint`).

A hole is a pixel that the sensor did not see, 0 in the map. Its value comes from its border (Telea
2004, as in OpenCV), in millimetres: bits that are rotated are rotated back before and again after.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt16

from omnivore_jax.data.decode import decode_depth
from omnivore_jax.data.depth import rotate_back, rotate_left
from omnivore_jax.ingest.layouts.base import Item, Media

RADIUS = 3
"""Pixels around a pixel of a hole that its value comes from."""


class Filled(NamedTuple):
    """A depth map without holes (Media)."""

    media: Media
    rotated: bool
    """Whether the bits of the file are rotated, however they will be read."""

    @property
    def name(self) -> str:
        return self.media.name

    def read(self) -> bytes:
        """Reads and fills it; DecodeError where it is no depth map.

        One without holes, or of nothing else, keeps its bytes.
        """
        data = self.media.read()
        values = decode_depth(data)
        if values.all() or not values.any():
            return data
        filled = fill(rotate_back(values) if self.rotated else values)
        stored = rotate_left(filled) if self.rotated else filled
        return cv2.imencode(".png", stored)[1].tobytes()

    def size(self) -> int:
        return self.media.size()


def inpainted(item: Item) -> Item:
    """Makes a sample whose depth map is stored without holes."""
    if item.depth is None:
        return item
    rotated = item.depth.bits_rotated or item.depth.intrinsics.rotated
    depth = item.depth._replace(media=Filled(item.depth.media, rotated))
    return item._replace(depth=depth, edits=(*item.edits, "inpaint", "telea", RADIUS, rotated))


def fill(values: UInt16[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """Fills the zeros of a map from around them; what was seen stays as it is."""
    holes = values == 0
    filled = cv2.inpaint(values, holes.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
    return np.where(holes, np.maximum(filled, 1), values).astype(np.uint16)
