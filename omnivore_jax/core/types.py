"""The words and shapes that the whole project shares.

Axis names in shape annotations, the same everywhere:

    b  samples of a batch               g  windows of a batch (b times the windows of a map)
    t  frames, or tokens in time        n  tokens of a window
    h  rows                             k  attention heads
    w  columns                          d  channels of a head
    c  channels                         m  distinct attention masks
"""

from typing import Any, Literal, NamedTuple

Size = tuple[int, int, int]
"""Extent along (t, h, w)."""

DISPARITY_MIN, DISPARITY_MAX = 0.01, 75.0
"""What disparity is clamped to before it is divided by the larger one (the released DepthNorm).

A dataset of another depth convention has another maximum (`disparity_max`).
"""


Kind = Literal["image", "video", "rgbd"]
"""What the samples of a dataset are."""

LabelForm = Literal["class", "map"]
"""What the label of a sample is: a class, or a map of classes, one for every pixel."""

Mode = Literal["all", "depth", "rgb"]
"""What of an RGB-D sample the model sees; depth alone means colours of 0 after standardising."""

Fusion = Literal["logits", "probs"]
"""What is averaged over the views of a sample (FACTS 5)."""


IGNORE = 255
"""The label of a pixel that is nobody's, in a map of labels."""


class Batch(NamedTuple):
    """Samples of one dataset on their way to the model; a NamedTuple.

    Trees of shardings or of shapes are Batches too.

    rgb        uint8 [b t h w 3]
    disparity  float32 [b t h w 1], before it is clamped, divided by 75 and normalised; None where
               there is no depth
    label      int32 [b], or uint8 [b h w]: a class for every pixel, `IGNORE` for none
    mask       bool [b], False on padding
    """

    rgb: Any
    disparity: Any
    label: Any
    mask: Any


class PlacedStep(NamedTuple):
    """A step's samples on the device.

    The ids stay on the host, to name samples when something goes wrong.
    """

    step: int
    """Updates done before it."""
    batches: dict[str, Batch]
    ids: dict[str, list[str]]
