"""What a config says of the samples of a dataset to the host that reads them."""

from dataclasses import dataclass, replace
from typing import Literal

from omnivore_jax.data.depth import Missing
from omnivore_jax.data.manifest import Kind
from omnivore_jax.data.protocol import PROTOCOLS, DepthConvention, Interpolation, Protocol
from omnivore_jax.data.randaugment import RandAugmentConfig
from omnivore_jax.data.subset import size_of

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
    crop: Literal["random_resized", "scaled", "center", "shift", "centre"] = "random_resized"
    """In training; validation resizes the shorter side to `size` and takes the center.

    scaled: half to twice as large, then any square of `size`, as is usual for label maps.
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
    views: Literal[
        "", "4x3", "4x3_video_swin", "1x3", "whole", "whole_6x2", "slide", "slide_6x2"
    ] = ""
    """How the last evaluation sees a sample (protocol.py); empty: once, in the center.

    Clips x crops of a video. Whole pictures, at once or by windows of `size` that slide over them,
    as they are or at six scales and mirrored too, which is for label maps: every device scores one
    at a time.
    """

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
        if self.views and (self.kind == "video") == self.scores_whole:
            clips, pictures = "4x3, 4x3_video_swin, 1x3", "whole, whole_6x2, slide, slide_6x2"
            usable = clips if self.kind == "video" else pictures
            raise ValueError(
                f"views={self.views!r} of a dataset of kind {self.kind!r}; use one of {usable}"
            )
        if 0 < self.short_side < self.size:
            raise ValueError(
                f"short_side={self.short_side} is below size={self.size}; make it larger, or 0"
            )

    @property
    def scores_whole(self) -> bool:
        """Whether the last evaluation sees whole pictures."""
        return bool(self.views) and PROTOCOLS[self.views].whole

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
        named = replace(PROTOCOLS[self.views], interpolation=self.interpolation, depth=center.depth)
        if named.whole:
            return replace(named, size=self.size)
        return replace(named, frames=self.frames, short_side=self.size, size=self.size)

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
