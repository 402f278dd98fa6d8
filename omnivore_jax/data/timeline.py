"""Which frames of a video every protocol takes: what `prepare timeline` prints."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from omnivore_jax.data import clips
from omnivore_jax.data.protocol import PROTOCOLS, Protocol
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
    n, paper = len(times), PROTOCOLS["1x1"]
    rows = []
    for k, where in enumerate(PLACES):
        drawn = clips.by_stride(n, paper.frames, paper.stride, where)
        rows.append(row_of(times, f"train stride, where={where:g}", k, drawn))
    for k, where in enumerate(PLACES):
        drawn = clips.by_seconds(times, paper.frames, paper.seconds, where)
        rows.append(row_of(times, f"train seconds, where={where:g}", k, drawn))
    for k in range(len(PLACES)):
        drawn = clips.by_segments(n, paper.frames, np.random.default_rng(k))
        rows.append(row_of(times, f"train segments, seed={k}", k, drawn))
    return rows


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
