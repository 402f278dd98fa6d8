"""What is known of other people's weights beside their numbers.

How they are fed, and under which licence they are.
"""

import re
from collections.abc import Iterable
from typing import Any

MODALITIES = {
    "image": "image",
    "image21k": "image",
    "video": "video",
    "epic": "video",
    "rgbd": "rgbd",
}
"""By the name of a head."""

_CENTRE = {
    "size": [224, 224],
    "resize": "short side 224",
    "crop": "centre 224",
    "interpolation": "bicubic",
}
_VIDEO = {
    "frames": 32,
    "size": [224, 224],
    "resize": "short side 224",
    "interpolation": "bilinear",
    "channels": "RGB",
}
DISPARITY = {
    "channel": "4th, after RGB: disparity = baseline (m) * fx (px) / depth",
    "depth": "16-bit PNG value / 1000, clipped to [0.01, 50]; SUN RGB-D files as they are, bit-rotated: 8 x metres",
    "baseline": {"kv1": 0.075, "kv2": 0.075, "realsense": 0.095, "xtion": 0.095},
    "missing": "0 becomes the nearest value; inpaint first",
}
"""FACTS 8: the convention of the released weights."""
INPUTS: dict[str, dict[str, Any]] = {
    "image": {"modality": "image", "frames": 1, **_CENTRE, "views": "1"},
    "rgbd": {"modality": "rgbd", "frames": 1, **_CENTRE, "views": "1", "disparity": DISPARITY},
    "video": {
        "modality": "video", **_VIDEO,
        "views": "4 x 3: 160 frames evenly over the first 10 s, 32 consecutive from 0, 40, 80, 120; 3 crops of 224 "
        "along the longer side; mean of the logits",
    },
    "epic": {"modality": "video", **_VIDEO, "views": "1 x 3: the middle frames of 32 equal segments; 3 crops of 224"},
}  # fmt: skip
"""By head: FACTS 5 and 8, for weights of the released sizes."""
WIDE = {"size": [384, 384], "resize": "short side 384", "crop": "centre 384"}

LICENCES = {
    "Omnivore": "CC-BY-NC 4.0, not for commercial use, if these are the released Omnivore weights or made from them",
    "torchvision": "BSD 3-Clause, if these are the weights that torchvision publishes; their data have other terms",
    "Video Swin": "Apache 2.0, if these are the weights that Video Swin Transformer published",
}
UNKNOWN_LICENCE = "not known to this program: that of the source"


def inputs_of(layout: str, heads: Iterable[str], window_width: int) -> dict[str, Any]:
    """How to feed the heads whose names tell; windows 12 wide are those of models for 384 pixels.

    Of weights that are not Omnivore's the modality alone: their protocols are others.
    """
    known = {
        head: INPUTS["image" if head == "image21k" else head]
        for head in heads
        if head in MODALITIES
    }
    if "Omnivore" not in layout:
        return {head: {"modality": spec["modality"]} for head, spec in known.items()}
    return {
        head: spec | (WIDE if window_width == 12 and "crop" in spec else {})
        for head, spec in known.items()
    }


def licence_of(layout: str) -> str:
    """The licence of the weights that are published in a layout."""
    return next(
        (text for name, text in LICENCES.items() if re.search(rf"\b{name}\b", layout)),
        UNKNOWN_LICENCE,
    )
