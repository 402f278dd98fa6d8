"""One sample: a record's bytes to cropped and augmented arrays.

Training and evaluation are two values: a transform is made for one of them and knows all it needs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from omnivore_jax.core.types import DISPARITY_MIN, IGNORE
from omnivore_jax.data import clips, image_ops
from omnivore_jax.data.dataset_config import SHIFT, DatasetConfig
from omnivore_jax.data.decode import Clip
from omnivore_jax.data.image_ops import Box, Frames
from omnivore_jax.data.manifest import Kind
from omnivore_jax.data.protocol import DepthConvention, Interpolation, Protocol
from omnivore_jax.data.randaugment import RandAugmentConfig, rand_augment
from omnivore_jax.data.records import Record
from omnivore_jax.data.sample import Sample
from omnivore_jax.data.scaling import scale
from omnivore_jax.data.stills import Layer, Layers, decode_still, naming
from omnivore_jax.data.views import frames_of_clips, views

SCALES = np.arange(0.5, 2.01, 0.25)
"""Of a picture, from which `crop="scaled"` draws (ShapeConv's recipe; FACTS 5)."""
FILLS = {
    "rgb": np.array([124, 116, 104], np.uint8),
    "disparity": DISPARITY_MIN,
    "label_map": IGNORE,
}
"""What lies beside a picture that is smaller than the crop: ImageNet's mean, far, nobody's."""


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
        layers = self._decode(record, rng)
        layers = layers.each(self._draw_arrangement(layers.rgb.shape[1], layers.rgb.shape[2], rng))
        recipe = self.config.rand_augment
        if recipe and layers.label_map is None:
            recipe = RandAugmentConfig() if recipe is True else recipe
            layers = Layers(*rand_augment(layers.rgb, layers.disparity, recipe, rng))
        return _sample(record, layers)

    def _decode(self, record: Record, rng: np.random.Generator) -> Layers:
        if self.config.kind != "video":
            depth = DepthConvention(self.config.depth_missing, disparity_max=self.disparity_max)
            return decode_still(record, self.config.kind, depth)
        with naming(record):
            clip = Clip(record.media)
            shrink = shrinking(self.config.short_side_in_training, self.config.interpolation)
            return Layers(clip.frames(self.draw_frames(clip.times, rng), each=shrink))

    def draw_frames(
        self, times: Float[np.ndarray, " n"], rng: np.random.Generator
    ) -> clips.Indices:
        """Draws the frames of a clip by the times of all: the first that a seed is asked for."""
        config = self.config
        if config.clip == "segments":
            return clips.by_segments(len(times), config.frames, rng)
        return self.frames_at(times, rng.random())

    def frames_at(self, times: Float[np.ndarray, " n"], where: float) -> clips.Indices:
        """Takes the frames of a clip that lies at `where` from 0, as early as can be, to 1."""
        config = self.config
        if config.clip == "seconds":
            return clips.by_seconds(times, config.frames, config.clip_seconds, where)
        return clips.by_stride(len(times), config.frames, config.stride, where)

    def _draw_arrangement(
        self, height: int, width: int, rng: np.random.Generator
    ) -> Callable[[Frames, Layer], np.ndarray]:
        """Draws crop, shift and flip once; what it returns does them to every layer."""
        config = self.config
        if config.crop == "scaled":
            return self._draw_scaled(height, width, rng)
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

        def arrange(frames: Frames, layer: Layer) -> np.ndarray:
            frames = _resized_crop(frames, (height, width), box, config, layer)
            frames = image_ops.shift(frames, *moves) if any(moves) else frames
            return image_ops.flip(frames) if flips else frames

        return arrange

    def _draw_scaled(
        self, height: int, width: int, rng: np.random.Generator
    ) -> Callable[[Frames, Layer], np.ndarray]:
        """Draws a scale, a crop of the config's size and a flip, as recipes for label maps do."""
        config, scale = self.config, rng.choice(SCALES)
        height, width = round(height * scale), round(width * scale)
        down, right = (max(side - config.size, 0) for side in (height, width))
        top, left = rng.integers(down + 1), rng.integers(right + 1)
        box = Box(int(top), int(left), config.size, config.size)
        flips = rng.random() < config.flip

        def arrange(frames: Frames, layer: Layer) -> np.ndarray:
            frames = _resized_in_training(frames, (height, width), config, layer)
            frames = image_ops.crop(frames, box)
            frames = image_ops.pad(frames, config.size, config.size, FILLS[layer])
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
        layers = _make_views(record, self.kind, self.protocol)
        return _sample(record, layers.each(lambda views, _: views[0]))


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
        return _sample(record, _make_views(record, self.kind, self.protocol))


Transform = TrainTransform | EvalTransform | ViewsTransform


def _check_depth(kind: Kind, protocol: Protocol) -> None:
    if kind == "rgbd" and protocol.depth is None:
        raise ValueError("depth=None; a protocol for kind 'rgbd' has a depth convention")


def _make_views(record: Record, kind: Kind, protocol: Protocol) -> Layers:
    """All views of a sample, stacked in front."""
    if kind == "video":
        return Layers(_clip_views(record, protocol))
    layers = decode_still(record, kind, protocol.depth or DepthConvention())
    size = height, width = layers.rgb.shape[1], layers.rgb.shape[2]
    if protocol.short_side:
        size = image_ops.short_side(height, width, protocol.short_side)

    def cut(picture: Frames, layer: Layer) -> np.ndarray:
        picture = _resized(picture, size, protocol, layer)
        every = views(np.zeros(1), *size, protocol)
        return np.stack([image_ops.crop(picture[view.frames], view.box) for view in every])

    return layers.each(cut)


def _clip_views(record: Record, protocol: Protocol) -> UInt8[np.ndarray, "v t h w 3"]:
    with naming(record):
        clip = Clip(record.media)
        times = clip.times
        # clips overlap; every frame is decoded once
        frames = np.unique(np.concatenate(frames_of_clips(times, protocol)))
        shrink = shrinking(protocol.short_side, protocol.interpolation, protocol.antialias)
        rgb = clip.frames(frames, each=shrink)
    every = views(times, rgb.shape[1], rgb.shape[2], protocol)
    return np.stack(
        [image_ops.crop(rgb[np.searchsorted(frames, view.frames)], view.box) for view in every]
    )


def shrinking(
    side: int, interpolation: Interpolation, antialias: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes the resize of a frame as it is decoded, so that large frames need not be kept."""

    def shrink(frame: np.ndarray) -> np.ndarray:
        frames = image_ops.bound_aspect(frame[None])
        size = image_ops.short_side(frames.shape[1], frames.shape[2], side)
        return image_ops.resize(frames, *size, interpolation, antialias=antialias)[0]

    return shrink


def _resized_crop(
    frames: Frames, size: tuple[int, int], box: Box, config: DatasetConfig, layer: Layer = "rgb"
) -> np.ndarray:
    """Resizes to `size`, cuts the box out and brings it to the config's size."""
    frames = image_ops.crop(_resized_in_training(frames, size, config, layer), box)
    return _resized_in_training(frames, (config.size, config.size), config, layer)


def _resized_in_training(
    frames: Frames, size: tuple[int, int], config: DatasetConfig, layer: Layer
) -> np.ndarray:
    """Resizes a layer, pictures the fast way."""
    if layer == "rgb" and config.antialias:
        return scale(frames, *size, config.interpolation)
    return _resized(frames, size, config, layer)


def _resized(
    frames: Frames, size: tuple[int, int], how: DatasetConfig | Protocol, layer: Layer
) -> np.ndarray:
    """Resizes a layer; labels are never mixed."""
    if layer == "label_map":
        return image_ops.resize(frames, *size, "nearest")
    return image_ops.resize(frames, *size, how.interpolation, antialias=how.antialias)


def _sample(record: Record, layers: Layers) -> Sample:
    rgb, disparity, label_map = layers.each(lambda frames, _: np.ascontiguousarray(frames))
    label = record.label if label_map is None else label_map[..., 0, :, :, 0]
    return Sample(rgb, disparity, label, record.id)
