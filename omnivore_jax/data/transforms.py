"""One sample: a record's bytes to cropped and augmented arrays.

Training and evaluation are two values: a transform is made for one of them and knows all it needs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8

from omnivore_jax.data import clips, image_ops
from omnivore_jax.data.decode import Clip, DecodeError, decode_depth, decode_image
from omnivore_jax.data.depth import Missing, depth_of, disparity_of
from omnivore_jax.data.image_ops import Box, Frames
from omnivore_jax.data.manifest import Kind
from omnivore_jax.data.protocol import PROTOCOLS, DepthConvention, Interpolation, Protocol
from omnivore_jax.data.randaugment import RandAugmentConfig, rand_augment
from omnivore_jax.data.records import Record
from omnivore_jax.data.sample import BadRecord, Sample
from omnivore_jax.data.subset import size_of
from omnivore_jax.data.views import frames_of_clips, views

SHIFT = 16
"""`crop="shift"` moves a picture by up to its size / 16."""
SHORT_SIDE = 256 / 224
"""Shorter side of a clip before its random crop, in sizes of the crop (FACTS 3.3)."""


@dataclass(frozen=True)
class DatasetConfig:
    """Says what the host does with the samples of a dataset: its keys of `data.<dataset>`.

    The others are those of the device.
    """

    kind: Kind
    batch_size: int
    source: Literal["records", "tfds", "embedded"] = "records"
    """Prepared files under `data.root`, what TFDS prepared there, or the demo's pictures."""
    tfds: str = ""
    """NAME/CONFIG:VERSION as TFDS has it; empty: that of the dataset (tfds.py), the newest."""
    ratio: float = 1.0
    """Passes over the dataset in an epoch."""
    num_train: int = 0
    """Samples, for plans without the data (dry runs).

    A prepared dataset's manifest decides a run.
    """
    num_val: int = 0
    subset: float = 1.0
    """Share of the training samples that is used, of every class alike (subset.py)."""
    subset_seed: int = 0
    frames: int = 1
    size: int = 224
    """Height and width in pixels."""
    clip: Literal["seconds", "stride", "segments"] = "stride"
    """How a clip's frames are chosen (clips.py); validation takes the clip in the center."""
    clip_seconds: float = 2.0
    stride: int = 2
    crop: Literal["random_resized", "center", "shift", "centre"] = "random_resized"
    """In training; validation resizes the shorter side to `size` and takes the center.

    "centre" is the spelling of older configs.
    """
    short_side: int = 0
    """Resize before a random crop; 0: clips to 256 / 224 of `size`, pictures not."""
    interpolation: Interpolation = "bilinear"
    flip: float = 0.5
    """Probability."""
    rand_augment: bool | RandAugmentConfig = False
    """True: the recipe's. All frames of a clip alike; a depth map is moved, never recoloured."""
    depth_missing: Missing = "far"
    """What a depth of 0 stands for (depth.py)."""
    views: Literal["", "4x3", "4x3_video_swin", "1x3"] = ""
    """Clips x crops of a video in the last evaluation (protocol.py); empty: one in the center."""

    def __post_init__(self):
        if self.crop == "centre":
            object.__setattr__(self, "crop", "center")
        for key in ("batch_size", "frames", "size", "stride"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)}; use 1 or more")
        for key in ("ratio", "clip_seconds"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key}={getattr(self, key)}; use a number above 0")
        for key in ("num_train", "num_val", "short_side"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key}={getattr(self, key)}; use 0 or more")
        if not 0 < self.subset <= 1:
            raise ValueError(f"subset={self.subset}; use a share above 0, 1 for all")
        if self.subset < 1 and self.source != "records":
            raise ValueError(f"subset={self.subset} of source={self.source!r}; prepare the dataset")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip={self.flip}; use a probability")
        if self.tfds and self.source != "tfds":
            raise ValueError(f"tfds={self.tfds!r}, but source={self.source!r}; use source='tfds'")
        if self.source == "tfds" and self.kind != "image":
            raise ValueError(f"source='tfds' has pictures, not kind {self.kind!r}; prepare it")
        if self.kind != "video" and self.frames != 1:
            raise ValueError(f"frames={self.frames}; a dataset of kind {self.kind!r} has 1")
        if self.views and self.kind != "video":
            raise ValueError(f"views={self.views!r}; a dataset of kind {self.kind!r} has one view")
        if 0 < self.short_side < self.size:
            raise ValueError(
                f"short_side={self.short_side} is below size={self.size}; make it larger, or 0"
            )

    def protocol(self, disparity_max: float) -> Protocol:
        """Says how a run validates: one view, in the center of the clip and of the picture."""
        depth = DepthConvention(self.depth_missing, disparity_max=disparity_max)
        return Protocol(
            frames=self.frames,
            clip=self.clip,
            stride=self.stride,
            seconds=self.clip_seconds,
            short_side=self.size,
            size=self.size,
            interpolation=self.interpolation,
            antialias=self.antialias,
            depth=depth if self.kind == "rgbd" else None,
        )

    def last_protocol(self, disparity_max: float) -> Protocol:
        """Says how the last evaluation of a run sees a sample: `views`, of its frames and size."""
        center = self.protocol(disparity_max)
        if not self.views:
            return center
        size = {"frames": self.frames, "short_side": self.size, "size": self.size}
        return replace(PROTOCOLS[self.views], interpolation=self.interpolation, **size)

    def training_samples(self, count: int) -> int:
        """Counts the samples that are trained on, of so many in the split."""
        return count if self.subset == 1 else size_of(count, self.subset)

    @property
    def antialias(self) -> bool:
        """Whether a resize averages: the recipe for pictures does, those for the others do not."""
        return self.kind == "image"

    @property
    def short_side_in_training(self) -> int:
        """The shorter side before the crop; 0: as it is."""
        if self.crop != "random_resized":
            return self.size
        return self.short_side or (round(SHORT_SIDE * self.size) if self.kind == "video" else 0)


@dataclass(frozen=True)
class TrainTransform:
    """Crops and augments at random; the sample depends on (record, seed)."""

    config: DatasetConfig
    disparity_max: float
    """The recipe's: disparity is clamped to it before it is resized."""

    def __call__(self, record: Record, seed: int) -> Sample:
        """Makes a sample of a record.

        Raises:
            BadRecord: the media cannot be decoded.

        """
        rng = np.random.default_rng(seed)
        rgb, disparity = self._decode(record, rng)
        arrange = self._draw_arrangement(rgb.shape[1], rgb.shape[2], rng)
        rgb, disparity = arrange(rgb), None if disparity is None else arrange(disparity)
        recipe = self.config.rand_augment
        if recipe:
            recipe = RandAugmentConfig() if recipe is True else recipe
            rgb, disparity = rand_augment(rgb, disparity, recipe, rng)
        return _sample(record, rgb, disparity)

    def _decode(self, record: Record, rng: np.random.Generator):
        if self.config.kind != "video":
            depth = DepthConvention(self.config.depth_missing, disparity_max=self.disparity_max)
            return _decode_still(record, self.config.kind, depth)
        with _naming(record):
            clip = Clip(record.media)
            shrink = _shrinking(self.config.short_side_in_training, self.config.interpolation)
            return clip.frames(self.draw_frames(clip.times, rng), each=shrink), None

    def draw_frames(
        self, times: Float[np.ndarray, " n"], rng: np.random.Generator
    ) -> clips.Indices:
        """Draws the frames of a clip by the times of all: the first that a seed is asked for."""
        config = self.config
        if config.clip == "segments":
            return clips.by_segments(len(times), config.frames, rng)
        where = rng.random()
        if config.clip == "seconds":
            return clips.by_seconds(times, config.frames, config.clip_seconds, where)
        return clips.by_stride(len(times), config.frames, config.stride, where)

    def _draw_arrangement(
        self, height: int, width: int, rng: np.random.Generator
    ) -> Callable[[Frames], np.ndarray]:
        """Draws crop, shift and flip once; what it returns does them to frames and disparity."""
        config = self.config
        if config.short_side_in_training:
            height, width = image_ops.short_side(height, width, config.short_side_in_training)
        box, moves = image_ops.center_box(height, width, config.size), (0, 0)
        if config.crop == "random_resized":
            box = image_ops.random_resized_box(rng, height, width)
        elif config.crop == "shift":
            limit = config.size // SHIFT
            down, right = rng.integers(-limit, limit + 1, size=2)
            moves = int(down), int(right)
        flips = rng.random() < config.flip

        def arrange(frames: Frames) -> np.ndarray:
            frames = _resized_crop(frames, (height, width), box, config)
            frames = image_ops.shift(frames, *moves) if any(moves) else frames
            return image_ops.flip(frames) if flips else frames

        return arrange


@dataclass(frozen=True)
class EvalTransform:
    """Makes the one view of a record that a protocol asks for; nothing is random."""

    kind: Kind
    protocol: Protocol

    def __post_init__(self):
        if self.protocol.views > 1:
            raise ValueError(f"{self.protocol.views} views a sample; make a ViewsTransform")
        _check_depth(self.kind, self.protocol)

    def __call__(self, record: Record, seed: int = 0) -> Sample:
        """Makes a sample of a record, whatever the seed.

        Raises:
            BadRecord: the media cannot be decoded.

        """
        rgb, disparity = _make_views(record, self.kind, self.protocol)
        return _sample(record, rgb[0], None if disparity is None else disparity[0])


@dataclass(frozen=True)
class ViewsTransform:
    """Makes all views of a record that a protocol asks for, stacked in front: [v t h w c]."""

    kind: Kind
    protocol: Protocol

    def __post_init__(self):
        _check_depth(self.kind, self.protocol)

    def __call__(self, record: Record, seed: int = 0) -> Sample:
        """Makes a sample of a record, whatever the seed, clip by clip and crop by crop.

        Raises:
            BadRecord: the media cannot be decoded.

        """
        return _sample(record, *_make_views(record, self.kind, self.protocol))


Transform = TrainTransform | EvalTransform | ViewsTransform


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


def _check_depth(kind: Kind, protocol: Protocol) -> None:
    if kind == "rgbd" and protocol.depth is None:
        raise ValueError("depth=None; a protocol for kind 'rgbd' has a depth convention")


def _make_views(
    record: Record, kind: Kind, protocol: Protocol
) -> tuple[UInt8[np.ndarray, "v t h w 3"], Float32[np.ndarray, "v t h w 1"] | None]:
    if kind == "video":
        return _clip_views(record, protocol), None
    rgb, disparity = _decode_still(record, kind, protocol.depth or DepthConvention())
    size = image_ops.short_side(rgb.shape[1], rgb.shape[2], protocol.short_side)

    def cut(picture: Frames) -> np.ndarray:
        picture = image_ops.resize(
            picture, *size, protocol.interpolation, antialias=protocol.antialias
        )
        every = views(np.zeros(1), *size, protocol)
        return np.stack([image_ops.crop(picture[view.frames], view.box) for view in every])

    return cut(rgb), None if disparity is None else cut(disparity)


def _clip_views(record: Record, protocol: Protocol) -> UInt8[np.ndarray, "v t h w 3"]:
    with _naming(record):
        clip = Clip(record.media)
        times = clip.times
        # clips overlap; every frame is decoded once
        frames = np.unique(np.concatenate(frames_of_clips(times, protocol)))
        shrink = _shrinking(protocol.short_side, protocol.interpolation, protocol.antialias)
        rgb = clip.frames(frames, each=shrink)
    every = views(times, rgb.shape[1], rgb.shape[2], protocol)
    return np.stack(
        [image_ops.crop(rgb[np.searchsorted(frames, view.frames)], view.box) for view in every]
    )


def _decode_still(record: Record, kind: Kind, depth: DepthConvention):
    """The picture as one frame, and its disparity, clamped before a resize mixes values.

    Very long ones are cut to their middle (`image_ops.bound_aspect`).
    """
    with _naming(record):
        if kind == "image":
            return image_ops.bound_aspect(decode_image(record.media)[None]), None
        rgb, disparity = decode_rgbd(record, depth.missing)
        low, high = np.float32(depth.disparity_min), np.float32(depth.disparity_max)
        disparity = np.clip(disparity, low, high)[None, ..., None]
        return image_ops.bound_aspect(rgb[None]), image_ops.bound_aspect(disparity)


def _shrinking(
    side: int, interpolation: Interpolation, antialias: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes the resize of a frame as it is decoded, so that large frames need not be kept."""

    def shrink(frame: np.ndarray) -> np.ndarray:
        frames = image_ops.bound_aspect(frame[None])
        size = image_ops.short_side(frames.shape[1], frames.shape[2], side)
        return image_ops.resize(frames, *size, interpolation, antialias=antialias)[0]

    return shrink


def _resized_crop(
    frames: Frames, size: tuple[int, int], box: Box, config: DatasetConfig
) -> np.ndarray:
    """Resizes to `size`, cuts the box out and brings it to the config's size."""
    how, antialias = config.interpolation, config.antialias
    frames = image_ops.resize(frames, *size, how, antialias=antialias)
    frames = image_ops.crop(frames, box)
    return image_ops.resize(frames, config.size, config.size, how, antialias=antialias)


def _sample(record: Record, rgb: np.ndarray, disparity: np.ndarray | None) -> Sample:
    disparity = None if disparity is None else np.ascontiguousarray(disparity)
    return Sample(np.ascontiguousarray(rgb), disparity, record.label, record.id)


@contextmanager
def _naming(record: Record) -> Iterator[None]:
    """Turns what cannot be decoded into a bad record with its name."""
    try:
        yield
    except DecodeError as error:
        raise BadRecord(record.id, str(error)) from error
