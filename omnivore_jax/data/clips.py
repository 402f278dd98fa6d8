"""Which frames of a video make a clip.

Index lists, for training and for the protocols of evaluation (FACTS 5).

All functions return int64 indices of frames in the order of display, 0 to n - 1.
"""

import numpy as np
from jaxtyping import Float, Int64

Indices = Int64[np.ndarray, " frames"]

PAPER_SECONDS, PAPER_FRAMES, PAPER_CLIPS = 10.0, 160, 4
"""The paper's clips of Kinetics: 160 frames evenly over the first 10 s, and 4 clips in them."""


def by_seconds(
    times: Float[np.ndarray, " n"], frames: int, seconds: float, where: float
) -> Indices:
    """Spreads `frames` frames evenly, both ends included, over `seconds` of a video.

    `times`: of all frames, in seconds. `where`: 0 to 1, how far the start lies between the first
    start possible and the last; draw it uniformly in training, 0.5 is the center. A shorter video
    is taken whole; frames repeat where there are too few. Source: the released K400 sampler.
    """
    # the last frame is on the screen for some time, too
    frame_time = (times[-1] - times[0]) / max(len(times) - 1, 1)
    start = times[0] + where * max(times[-1] + frame_time - times[0] - seconds, 0.0)
    inside = np.flatnonzero((times >= start) & (times < start + seconds))
    if not len(inside):
        # between two frames of a very slow video
        inside = np.asarray([np.abs(times - start).argmin()])
    return inside[_uniform(len(inside), frames)]


def by_stride(n: int, frames: int, stride: int, where: float) -> Indices:
    """Takes every `stride`-th frame ("32 frames at stride 2"); `where` as above.

    Frames out of range wrap modulo n.
    """
    starts = max(n - frames * stride + 1, 1)
    return _strided(n, frames, stride, min(int(where * starts), starts - 1))


def by_segments(n: int, frames: int, rng: np.random.Generator | None = None) -> Indices:
    """Takes a frame of each of `frames` equal segments: a random one, the middle without `rng`."""
    edges = np.round(np.arange(frames + 1) * (n - 1) / frames).astype(np.int64)
    if rng is None:
        return (edges[:-1] + edges[1:]) // 2
    return rng.integers(edges[:-1], edges[1:], endpoint=True)


def paper_starts(clips: int) -> list[int]:
    """Says at which of the 160 frames the clips begin: 0, 40, 80, 120 of 4."""
    return [k * PAPER_FRAMES // clips for k in range(clips)]


def paper_views(
    times: Float[np.ndarray, " n"], frames: int = 32, clips: int = PAPER_CLIPS
) -> list[Indices]:
    """Makes the paper's clips of a Kinetics video, which cover its first 10 s.

    4 of 32 frames; more of shorter ones for Figure 5, which has 128 of one frame.
    """
    n = int(np.searchsorted(times - times[0], PAPER_SECONDS))  # all frames of a shorter video
    whole = _uniform(max(n, 1), PAPER_FRAMES)
    return [whole[start : start + frames] for start in paper_starts(clips)]


def video_swin_views(n: int, frames: int = 32, stride: int = 2, clips: int = 4) -> list[Indices]:
    """Makes Video Swin's clips, in the middles of `clips` equal parts of the starts.

    Frames out of range wrap modulo n.
    """
    starts = n - frames * stride + 1
    return [
        _strided(n, frames, stride, int((k + 0.5) * starts / clips) if starts > 0 else 0)
        for k in range(clips)
    ]


def _uniform(n: int, frames: int) -> Indices:
    return np.floor(np.linspace(0, n - 1, frames)).astype(np.int64)


def _strided(n: int, frames: int, stride: int, start: int) -> Indices:
    return (start + np.arange(frames, dtype=np.int64) * stride) % n
