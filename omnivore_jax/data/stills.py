"""Pictures with what belongs to their pixels: a record's bytes to arrays, before any crop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from omnivore_jax.core.types import Kind
from omnivore_jax.data import image_ops
from omnivore_jax.data.decode import DecodeError, decode_depth, decode_image, decode_label_map
from omnivore_jax.data.depth import Missing, depth_of, disparity_of
from omnivore_jax.data.protocol import DepthConvention
from omnivore_jax.data.records import Record
from omnivore_jax.data.sample import BadRecord

Layer = Literal["rgb", "disparity", "label_map"]


class Layers(NamedTuple):
    """What is known of the same pixels; moved alike, mixed each in its own way."""

    rgb: UInt8[np.ndarray, "*v t h w 3"]
    disparity: Float32[np.ndarray, "*v t h w 1"] | None = None
    label_map: UInt8[np.ndarray, "*v t h w 1"] | None = None

    def each(self, change: Callable[[np.ndarray, Layer], np.ndarray]) -> "Layers":
        """Changes every layer that is there; `change` is told which it is given."""
        return Layers(
            change(self.rgb, "rgb"),
            None if self.disparity is None else change(self.disparity, "disparity"),
            None if self.label_map is None else change(self.label_map, "label_map"),
        )


def decode_still(record: Record, kind: Kind, depth: DepthConvention) -> Layers:
    """Decodes a picture as one frame, its disparity clamped before a resize mixes values.

    Very long ones are cut to their middle (`image_ops.bound_aspect`).

    Raises:
        BadRecord: a file of it is damaged or missing, or their shapes differ.

    """
    with naming(record):
        # what belongs to pixels has no orientation to turn by
        rgb = decode_image(record.media, upright=kind == "image" and record.label_map is None)
        disparity, label_map = None, label_map_of(record, rgb)
        if kind == "rgbd":
            rgb, disparity = decode_rgbd(record, depth.missing)
            low, high = np.float32(depth.disparity_min), np.float32(depth.disparity_max)
            disparity = np.clip(disparity, low, high)[None, ..., None]
        if label_map is not None:
            label_map = label_map[None, ..., None]
        layers = Layers(rgb[None], disparity, label_map)
        return layers.each(lambda frames, _: image_ops.bound_aspect(frames))


def label_map_of(
    record: Record, rgb: Shaped[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w"] | None:
    """Decodes the map of labels, of the picture's shape; None where the record has none.

    Raises:
        DecodeError: it is damaged, or has another shape.

    """
    if record.label_map is None:
        return None
    labels = decode_label_map(record.label_map)
    if labels.shape != rgb.shape[:2]:
        (height, width), (rows, columns) = rgb.shape[:2], labels.shape
        raise DecodeError(
            f"the label map has {columns} x {rows} pixels, the picture {width} x {height}"
        )
    return labels


def decode_rgbd(
    record: Record, missing: Missing = "far"
) -> tuple[UInt8[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Decodes a picture, and its depth map in the picture's size (nearest values, never a mean).

    Raises:
        DecodeError: either is damaged or missing, or they do not have the same shape.

    """
    rgb = decode_image(record.media, upright=False)  # the depth map has no orientation to turn by
    if record.depth is None:
        raise DecodeError("the record has no depth map; prepare the dataset with --kind=rgbd")
    values = decode_depth(record.depth)
    (height, width), (depth_height, depth_width) = rgb.shape[:2], values.shape
    if abs(height / depth_height * depth_width / width - 1) > 0.01:
        raise DecodeError(
            f"the depth map has {depth_width} x {depth_height} pixels, the picture {width} x "
            f"{height}: they do not show the same part"
        )
    disparity = disparity_of(
        depth_of(values, record.scale, rotated=record.rotated), record.fx, record.baseline, missing
    )
    if disparity.shape != (height, width):
        rows = (np.arange(height) + 0.5) * depth_height / height
        columns = (np.arange(width) + 0.5) * depth_width / width
        disparity = disparity[rows.astype(int)[:, None], columns.astype(int)]
    return rgb, disparity


@contextmanager
def naming(record: Record) -> Iterator[None]:
    """Turns what cannot be decoded into a bad record with its name."""
    try:
        yield
    except DecodeError as error:
        raise BadRecord(record.id, str(error)) from error
