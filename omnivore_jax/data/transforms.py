"""One sample: a record's bytes to cropped and augmented arrays.

Everything random comes from one seed.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from omnivore_jax.data import clips
from omnivore_jax.data import image_ops as geometry
from omnivore_jax.data.decode import Clip, DecodeError, decode_depth, decode_image
from omnivore_jax.data.depth import Missing, depth_of, disparity_of
from omnivore_jax.data.manifest import Kind
from omnivore_jax.data.randaugment import RandAugmentConfig, rand_augment
from omnivore_jax.data.records import Record
from omnivore_jax.data.sample import BadRecord, Sample

SHIFT = 16
"""`crop="shift"` moves a picture by up to its size / 16."""
SHORT_SIDE = 256 / 224
"""Shorter side of a clip before its random crop, in sizes of the crop (FACTS 3.3)."""


@dataclass(frozen=True)
class DatasetConfig:
    """What the host does with the samples of a dataset: its keys of `data.<dataset>` (the others.

    Train.TaskConfig).
    """

    kind: Kind
    batch_size: int
    source: Literal["records", "embedded"] = "records"
    """Prepared files under `data.root`, or the demo's pictures."""
    ratio: float = 1.0
    """Passes over the dataset in an epoch."""
    num_train: int = 0
    """Samples, for plans without the data (dry runs).

    A prepared dataset's manifest decides a run.
    """
    num_val: int = 0
    frames: int = 1
    size: int = 224
    """Height and width in pixels."""
    clip: Literal["seconds", "stride", "segments"] = "stride"
    """How a clip's frames are chosen (clips.py); validation takes the clip in the centre."""
    clip_seconds: float = 2.0
    stride: int = 2
    crop: Literal["random_resized", "centre", "shift"] = "random_resized"
    """In training; validation resizes the shorter side to `size` and takes the centre."""
    short_side: int = 0
    """Resize before a random crop; 0: clips to 256 / 224 of `size`, pictures not."""
    interpolation: geometry.Interpolation = "bilinear"
    flip: float = 0.5
    """Probability."""
    rand_augment: bool | RandAugmentConfig = False
    """For pictures; true: the recipe's."""
    depth_missing: Missing = "far"
    """What a depth of 0 stands for (depth.py)."""

    def __post_init__(self):
        for key in ("batch_size", "frames", "size", "stride"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)}; use 1 or more")
        for key in ("ratio", "clip_seconds"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key}={getattr(self, key)}; use a number above 0")
        for key in ("num_train", "num_val", "short_side"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key}={getattr(self, key)}; use 0 or more")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip={self.flip}; use a probability")
        if self.kind != "video" and self.frames != 1:
            raise ValueError(f"frames={self.frames}; a dataset of kind {self.kind!r} has 1")
        if self.kind != "image" and self.rand_augment:
            raise ValueError(
                f"rand_augment is on for kind {self.kind!r}; it is for RGB pictures only, set it "
                "to false"
            )
        if 0 < self.short_side < self.size:
            raise ValueError(
                f"short_side={self.short_side} is below size={self.size}; make it larger, or 0"
            )


def load_sample(record: Record, config: DatasetConfig, *, train: bool, seed: int) -> Sample:
    """Makes a sample of a record.

    In training it depends on (record, seed), in validation on the record alone.

    Raises:
        BadRecord: the media cannot be decoded.

    """
    rng = np.random.default_rng(seed) if train else None
    try:
        rgb, disparity = _decode(record, config, rng)
    except DecodeError as error:
        raise BadRecord(record.id, str(error)) from error
    rgb, disparity = _arrange(rgb, disparity, config, rng)
    if config.rand_augment and rng is not None:
        recipe = RandAugmentConfig() if config.rand_augment is True else config.rand_augment
        rgb = rand_augment(rgb[0], recipe, rng)[None]
    disparity = None if disparity is None else np.ascontiguousarray(disparity)
    return Sample(np.ascontiguousarray(rgb), disparity, record.label, record.id)


def decode_rgbd(
    record: Record, missing: Missing = "far"
) -> tuple[UInt8[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Decodes a picture with its depth map, which is brought to the picture's size.

    The nearest value, never a mean.

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
            f"{height}: they do not "
            "show the same part"
        )
    disparity = disparity_of(
        depth_of(values, record.scale, rotated=record.rotated), record.fx, record.baseline, missing
    )
    if disparity.shape != (height, width):
        rows = (np.arange(height) + 0.5) * depth_height / height
        columns = (np.arange(width) + 0.5) * depth_width / width
        disparity = disparity[rows.astype(int)[:, None], columns.astype(int)]
    return rgb, disparity


def _decode(record: Record, config: DatasetConfig, rng: np.random.Generator | None):
    """The frames as they are stored (clips already with the shorter side that they need), and the disparity."""
    if config.kind == "image":
        return decode_image(record.media)[None], None
    if config.kind == "rgbd":
        rgb, disparity = decode_rgbd(record, config.depth_missing)
        return rgb[None], disparity[None, ..., None]
    clip, side = Clip(record.media), _short_side(config, train=rng is not None)

    def shrink(frame: np.ndarray) -> np.ndarray:
        height, width = geometry.short_side(frame.shape[0], frame.shape[1], side)
        return geometry.resize(frame[None], height, width, config.interpolation)[0]

    return clip.frames(_indices(clip, config, rng), each=shrink), None


def _indices(clip: Clip, config: DatasetConfig, rng: np.random.Generator | None) -> clips.Indices:
    if config.clip == "segments":
        return clips.by_segments(len(clip), config.frames, rng)
    where = 0.5 if rng is None else rng.random()
    if config.clip == "seconds":
        return clips.by_seconds(clip.times, config.frames, config.clip_seconds, where)
    return clips.by_stride(len(clip), config.frames, config.stride, where)


def _short_side(config: DatasetConfig, *, train: bool) -> int:
    """The shorter side before the crop; 0: as it is."""
    if not train or config.crop != "random_resized":
        return config.size
    return config.short_side or (round(SHORT_SIDE * config.size) if config.kind == "video" else 0)


def _arrange(
    rgb: np.ndarray,
    disparity: np.ndarray | None,
    config: DatasetConfig,
    rng: np.random.Generator | None,
):
    """Crop and flip: drawn once, done to the frames and to the disparity."""
    height, width = rgb.shape[1:3]
    side = _short_side(config, train=rng is not None)
    if side:
        height, width = geometry.short_side(height, width, side)
    full, box, moves, flipped = (
        (height, width),
        geometry.center_box(height, width, config.size),
        (0, 0),
        False,
    )
    if rng is not None:
        if config.crop == "random_resized":
            box = geometry.random_resized_box(rng, height, width)
        elif config.crop == "shift":
            most = config.size // SHIFT
            down, right = rng.integers(-most, most + 1, size=2)
            moves = int(down), int(right)
        flipped = rng.random() < config.flip

    def arrange(frames: np.ndarray) -> np.ndarray:
        antialias = (
            config.kind == "image"
        )  # as the recipes of the three modalities do it (geometry.resize)
        frames = geometry.resize(frames, *full, config.interpolation, antialias=antialias)
        frames = geometry.crop(frames, box)
        frames = geometry.resize(
            frames, config.size, config.size, config.interpolation, antialias=antialias
        )
        frames = geometry.shift(frames, *moves) if any(moves) else frames
        return geometry.flip(frames) if flipped else frames

    return arrange(rgb), None if disparity is None else arrange(disparity)
