"""Which frames of a video every protocol takes: what `prepare timeline` prints."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from omnivore_jax.core.types import DISPARITY_MAX
from omnivore_jax.data import clips
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.protocol import PROTOCOLS, Protocol
from omnivore_jax.data.transforms import TrainTransform
from omnivore_jax.data.views import frames_of_clips

PLACES = (0.0, 0.5, 1.0)
"""Where in a video the clips of training are shown: as early as can be, central, and late."""
TESTS = tuple(name for name, protocol in PROTOCOLS.items() if protocol.frames > 1)
"""The protocols that apply to clips."""


class Row(NamedTuple):
    """One clip of a video."""

    name: str
    clip: int
    span: tuple[float, float]
    """Seconds at which the earliest and the latest of its frames are shown."""
    frames: clips.Indices


def timeline(times: Float[np.ndarray, " n"]) -> list[Row]:
    """Lists the clips of training and of all protocols of clips, by the times of all frames."""
    tests = [row for name in TESTS for row in rows_of(times, name, PROTOCOLS[name])]
    return training_rows(times) + tests


def rows_of(times: Float[np.ndarray, " n"], name: str, protocol: Protocol) -> list[Row]:
    """Lists the clips of a video that a protocol takes."""
    return [row_of(times, name, k, f) for k, f in enumerate(frames_of_clips(times, protocol))]


def training_rows(times: Float[np.ndarray, " n"]) -> list[Row]:
    """Lists clips as training draws them: at `PLACES`, and segments from three seeds."""
    rows = []
    for clip in ("stride", "seconds"):
        train = _training(clip)
        for k, where in enumerate(PLACES):
            name = f"train {clip}, where={where:g}"
            rows.append(row_of(times, name, k, train.frames_at(times, where)))
    train = _training("segments")
    for k in range(len(PLACES)):
        drawn = train.draw_frames(times, np.random.default_rng(k))
        rows.append(row_of(times, f"train segments, seed={k}", k, drawn))
    return rows


def _training(clip: Literal["stride", "seconds", "segments"]) -> TrainTransform:
    """Samples clips of the paper's length (FACTS 3.3)."""
    paper = PROTOCOLS["1x1"]
    sizes = {"frames": paper.frames, "stride": paper.stride, "clip_seconds": paper.seconds}
    return TrainTransform(DatasetConfig("video", 1, clip=clip, **sizes), DISPARITY_MAX)


def text(rows: Sequence[Row]) -> str:
    """Writes one line per clip: name, clip, seconds, frames."""
    width = max(len(row.name) for row in rows)
    return "\n".join(
        f"{row.name:{width}}  clip {row.clip}  {row.span[0]:7.3f} - {row.span[1]:.3f} s  frames "
        + " ".join(map(str, row.frames))
        for row in rows
    )


def row_of(times: Float[np.ndarray, " n"], name: str, clip: int, frames: clips.Indices) -> Row:
    """Makes the row of a clip, with the seconds of its frames."""
    shown = times[frames]
    return Row(name, clip, (float(shown.min()), float(shown.max())), frames)
