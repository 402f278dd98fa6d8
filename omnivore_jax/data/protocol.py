"""How a sample is made ready for scoring, as data: what a card stores and the views obey.

Imports no decoder and no image library, so that a card can be read without them.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from omnivore_jax.core import config as builder
from omnivore_jax.core.types import DISPARITY_MAX, DISPARITY_MIN
from omnivore_jax.data.clips import PAPER_FRAMES, PAPER_SECONDS, paper_starts
from omnivore_jax.data.depth import Missing

Interpolation = Literal["bilinear", "bicubic"]
Fusion = Literal["logits", "probs"]


@dataclass(frozen=True)
class DepthConvention:
    """Says how depth becomes the fourth channel, beside focal length and baseline (FACTS 8)."""

    missing: Missing = "far"
    """What a depth of 0 stands for (depth.py)."""
    disparity_min: float = DISPARITY_MIN
    disparity_max: float = DISPARITY_MAX
    """Disparity is clamped to these two before it is resized (the released order)."""

    def __post_init__(self):
        if not 0 <= self.disparity_min < self.disparity_max:
            raise ValueError(
                f"disparity_min={self.disparity_min}, disparity_max={self.disparity_max}; use 0 or "
                "more, and a larger one"
            )


@dataclass(frozen=True)
class Protocol:
    """Says frames, clips, crops, resize and fusion of an evaluation (FACTS 5)."""

    frames: int = 1
    clip: Literal["stride", "seconds", "segments", "paper"] = "stride"
    """How a clip's frames are chosen (clips.py).

    stride: every `stride`-th frame; several clips lie in the middles of equal parts of the starts,
    as Video Swin's do. seconds: evenly from `seconds` of the video. segments: the middle frames of
    equal segments. paper: 160 frames of the first 10 s, clips at equal distances, of 4 from 0, 40,
    80 and 120.
    """
    stride: int = 2
    seconds: float = 2.0
    clips: int = 1
    crops: Literal[1, 3] = 1
    """One in the center, or three along the longer side."""
    short_side: int = 224
    """The shorter side is resized to it before a crop of `size`."""
    size: int = 224
    whole: bool = False
    """The whole picture instead of crops; its size is kept where `short_side` is 0."""
    sliding: bool = False
    """Whether windows of `size` slide over the whole picture, by two thirds of it."""
    scales: tuple[float, ...] = (1.0,)
    """At which every view is scored, on the device; what comes of them is averaged."""
    mirrored: bool = False
    """Whether every view is also scored left to right."""
    interpolation: Interpolation = "bilinear"
    antialias: bool = False
    """Whether a smaller picture averages over what its pixels cover (Pillow), as recipes for
    pictures do; without it the resize is PyTorch's interpolate, as those for clips and RGB-D do."""
    fusion: Fusion = "logits"
    """What is averaged over the views, scales and mirror images."""
    depth: DepthConvention | None = None
    """None where there is no depth."""

    def __post_init__(self):
        for key in ("frames", "stride", "clips", "size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)}; use 1 or more")
        if self.seconds <= 0:
            raise ValueError(f"seconds={self.seconds}; use a number above 0")
        if self.whole and (self.frames > 1 or self.crops > 1):
            raise ValueError("whole=True; it is for pictures, and has no crops")
        if self.sliding and not self.whole:
            raise ValueError("sliding=True, whole=False; windows slide over whole pictures")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales={self.scales}; use numbers above 0, 1.0 for the size it has")
        if not self.whole and self.short_side < self.size:
            raise ValueError(f"short_side={self.short_side} is below size={self.size}; enlarge it")
        if self.clip == "segments" and self.clips != 1:
            raise ValueError(f"clips={self.clips}; clip='segments' has 1")
        if self.clip == "paper":
            most = PAPER_FRAMES - paper_starts(self.clips)[-1]
            if self.frames > most:
                raise ValueError(
                    f"frames={self.frames}; {self.clips} clips of clip='paper' have up to {most}"
                )

    @property
    def views(self) -> int:
        """How many views of a sample are scored."""
        return self.clips * self.crops

    @property
    def step(self) -> int:
        """Pixels from one sliding window to the next: 320 of 480, as mmsegmentation."""
        return max(self.size * 2 // 3, 1)

    def to_json(self) -> dict[str, Any]:
        """Writes it as plain JSON."""
        return dataclasses.asdict(self) | {"scales": list(self.scales)}

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> "Protocol":
        """Undoes `to_json`.

        Raises:
            ConfigError: a key or value is not known.

        """
        return builder.build(cls, section, "protocol")

    def describe(self) -> str:
        """Says it in one line of words."""
        resized = f"short side {self.short_side}, {self.interpolation}"
        parts = [
            self._frames_in_words(),
            "" if not self.short_side else resized + ", antialiased" * self.antialias,
            self._crops_in_words(),
            self._scales_in_words(),
            self._fusion_in_words(),
            self._depth_in_words(),
        ]
        return f"{self.clips} x {self.crops}: " + "; ".join(part for part in parts if part)

    def _frames_in_words(self) -> str:
        if self.frames == self.clips == 1:
            return ""
        starts = ", ".join(map(str, paper_starts(self.clips)[:4])) + ", ..." * (self.clips > 4)
        where = "in the middle" if self.clips == 1 else f"from {self.clips} equal parts"
        words = {
            "stride": f"{self.frames} frames at stride {self.stride} {where}",
            "seconds": f"{self.frames} frames evenly over {self.seconds:g} s {where}",
            "segments": f"the middle frames of {self.frames} equal segments",
            "paper": f"{PAPER_FRAMES} frames evenly over the first {PAPER_SECONDS:g} s, "
            f"{self.frames} consecutive from {starts}",
        }
        return words[self.clip]

    def _crops_in_words(self) -> str:
        if self.sliding:
            return f"windows of {self.size} over the whole picture, one every {self.step}"
        if self.whole:
            return "the whole picture"
        if self.crops == 3:
            return f"3 crops of {self.size} along the longer side"
        return f"center {self.size}"

    def _scales_in_words(self) -> str:
        several = f"at {', '.join(f'{scale:g}' for scale in self.scales)} of its size"
        parts = [several if self.scales != (1.0,) else "", "mirrored too" if self.mirrored else ""]
        return ", ".join(part for part in parts if part)

    def _fusion_in_words(self) -> str:
        averaged = {"logits": "logits", "probs": "probabilities"}[self.fusion]
        scored = self.views * len(self.scales) * (1 + self.mirrored)
        return f"mean of the {averaged}" if scored > 1 else ""

    def _depth_in_words(self) -> str:
        if self.depth is None:
            return ""
        low, high = self.depth.disparity_min, self.depth.disparity_max
        return f"missing depth is {self.depth.missing}, disparity clamped to {low:g} .. {high:g}"


_PICTURE = Protocol(interpolation="bicubic", antialias=True)
_CLIP = Protocol(frames=32)
_WHOLE = Protocol(whole=True, short_side=0)
_SLIDE = dataclasses.replace(_WHOLE, sliding=True)
_SIX_TIMES_TWO: Mapping[str, Any] = {
    "scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
    "mirrored": True,
    "fusion": "probs",
}

PROTOCOLS: Mapping[str, Protocol] = {
    "1x1": _CLIP,
    "4x3": dataclasses.replace(_CLIP, clip="paper", clips=4, crops=3),
    "4x3_video_swin": dataclasses.replace(_CLIP, clips=4, crops=3, fusion="probs"),
    "1x3": dataclasses.replace(_CLIP, clip="segments", crops=3),
    "center_224": _PICTURE,
    "center_384": dataclasses.replace(_PICTURE, short_side=384, size=384),
    "whole": _WHOLE,
    "whole_6x2": dataclasses.replace(_WHOLE, **_SIX_TIMES_TWO),
    "slide": _SLIDE,
    "slide_6x2": dataclasses.replace(_SLIDE, **_SIX_TIMES_TWO),
    "center_224_depth": Protocol(interpolation="bicubic", depth=DepthConvention("near")),
}
"""By name (FACTS 5): clips of Kinetics in training and by both conventions, SSv2 and EPIC-Kitchens
by segments, pictures, whole ones as label maps are scored (ShapeConv's six scales, mirrored), at
once or by sliding windows, and the released weights' RGB-D."""

_PROSE: Mapping[str, dict[str, Any]] = {
    "1$": {},
    "4 x 3: 160 frames evenly over the first 10 s": {"clip": "paper", "clips": 4, "crops": 3},
    "1 x 3: the middle frames of": {"clip": "segments", "crops": 3},
}
"""How the views of cards began that had them in words: patterns, and what they mean."""


def from_prose(inputs: Mapping[str, Any], disparity_max: float = DISPARITY_MAX) -> Protocol | None:
    """Reads what a card of before says of a head's inputs; None where that is no protocol.

    Those cards did not say how the frames of a single clip are chosen (the config's default,
    stride 2, stands for it), nor `disparity_max`, which is among the head's statistics.
    """
    try:
        views = next(keys for words, keys in _PROSE.items() if re.match(words, inputs["views"]))
        modality, depth = inputs["modality"], None
        if modality == "rgbd":
            # cards of released weights explain their disparity, where 0 is the nearest value
            missing: Missing = "near" if "disparity" in inputs else "far"
            depth = DepthConvention(missing, disparity_max=disparity_max)
        return Protocol(
            frames=int(inputs["frames"]),
            short_side=int(re.sub(r"\D", "", inputs["resize"])),
            size=int(inputs["size"][0]),
            interpolation=inputs["interpolation"],
            antialias=modality == "image",
            depth=depth,
            **views,
        )
    except (KeyError, IndexError, TypeError, ValueError, StopIteration):
        return None
