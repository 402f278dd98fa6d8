"""What is known of other people's weights: how they are fed, and under which licence they are."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from omnivore_jax.data.protocol import PROTOCOLS

MODALITIES = {
    "image": "image",
    "image21k": "image",
    "video": "video",
    "epic": "video",
    "rgbd": "rgbd",
}
"""By the name of a head."""

DISPARITY = {
    "channel": "4th, after RGB: disparity = baseline (m) * fx (px) / depth",
    "depth": "16-bit PNG value / 1000, clipped to [0.01, 50]; SUN RGB-D files as they are, "
    "bit-rotated: 8 x metres",
    "baseline": {"kv1": 0.075, "kv2": 0.075, "realsense": 0.095, "xtion": 0.095},
    "missing": "0 becomes the nearest value; inpaint first",
}
"""FACTS 8: the convention of the released weights."""
PROTOCOLS_OF: Mapping[str, str] = {
    "image": "center_224",
    "image21k": "center_224",
    "rgbd": "center_224_depth",
    "video": "4x3",
    "epic": "1x3",
}
"""By head: the protocol that released weights are scored with (FACTS 5)."""
WIDE = 384
"""Pixels of the inputs of weights whose windows are 12 wide."""

LICENCES = {
    "Omnivore": "CC-BY-NC 4.0, not for commercial use, if these are the released Omnivore weights "
    "or made from them",
    "torchvision": "BSD 3-Clause, if these are the weights that torchvision publishes; their data "
    "have other terms",
    "Video Swin": "Apache 2.0, if these are the weights that Video Swin Transformer published",
}
UNKNOWN_LICENCE = "not known to this program: that of the source"


def inputs_of(layout: str, heads: Iterable[str], window_width: int) -> dict[str, Any]:
    """Says how to feed the heads whose names tell: modality and, of Omnivore's, the protocol.

    Windows 12 wide are those of models for 384 pixels. The protocols of others are not known.
    """
    known = [head for head in heads if head in MODALITIES]
    inputs: dict[str, Any] = {head: {"modality": MODALITIES[head]} for head in known}
    if "Omnivore" not in layout:
        return inputs
    for head in known:
        protocol = PROTOCOLS[PROTOCOLS_OF[head]]
        if window_width == 12:
            protocol = replace(protocol, short_side=WIDE, size=WIDE)
        inputs[head]["protocol"] = protocol.to_json()
    if "rgbd" in inputs:
        inputs["rgbd"]["disparity"] = DISPARITY
    return inputs


def licence_of(layout: str) -> str:
    """The licence of the weights that are published in a layout."""
    return next(
        (text for name, text in LICENCES.items() if re.search(rf"\b{name}\b", layout)),
        UNKNOWN_LICENCE,
    )
