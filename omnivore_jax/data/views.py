"""The views of a sample that a protocol asks for: which frames, which box, and one score of many.

FACTS 5: clips outside, crops inside, so that view k is crop k % crops of clip k // crops.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from omnivore_jax.data import clips, image_ops
from omnivore_jax.data.image_ops import Box
from omnivore_jax.data.protocol import Fusion, Protocol


class View(NamedTuple):
    """Frames of a video, and a box of each of them."""

    frames: clips.Indices
    box: Box


def views(
    times: Float[np.ndarray, " n"], height: int, width: int, protocol: Protocol
) -> list[View]:
    """Lists the views of a video or picture (which has one frame), clip by clip.

    `times`: of all frames, in seconds. `height` and `width`: with the protocol's short side.
    """
    squares = boxes(height, width, protocol)
    return [View(clip, box) for clip in frames_of_clips(times, protocol) for box in squares]


def frames_of_clips(times: Float[np.ndarray, " n"], protocol: Protocol) -> list[clips.Indices]:
    """Chooses the frames of every clip of a video, by the times of all its frames."""
    if protocol.clip == "paper":
        return clips.paper_views(times, protocol.frames, protocol.clips)
    if protocol.clip == "segments":
        return [clips.by_segments(len(times), protocol.frames)]
    if protocol.clip == "seconds":
        return [
            clips.by_seconds(times, protocol.frames, protocol.seconds, (k + 0.5) / protocol.clips)
            for k in range(protocol.clips)
        ]
    return clips.video_swin_views(len(times), protocol.frames, protocol.stride, protocol.clips)


def boxes(height: int, width: int, protocol: Protocol) -> tuple[Box, ...]:
    """Lists the crops of a picture whose shorter side is the protocol's."""
    if protocol.whole:
        return (Box(0, 0, height, width),)
    if protocol.crops == 3:
        return image_ops.three_boxes(height, width, protocol.size)
    return (image_ops.center_box(height, width, protocol.size),)


def fuse(
    scores: Float[np.ndarray, "b v classes"], fusion: Fusion
) -> Float[np.ndarray, "b classes"]:
    """Averages the logits of all views of every sample, or their softmax."""
    if fusion == "probs":
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores = scores / scores.sum(-1, keepdims=True)
    return scores.mean(1)
