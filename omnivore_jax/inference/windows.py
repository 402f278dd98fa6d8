"""Features along a video: of windows that slide over it, each seen as a clip of its own."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch
from omnivore_jax.data import image_ops
from omnivore_jax.data.batches import stack
from omnivore_jax.data.clips import Indices
from omnivore_jax.data.decode import Clip
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.sample import Sample
from omnivore_jax.data.transforms import shrinking
from omnivore_jax.eval.predictor import Feed, Predictor
from omnivore_jax.inference.media import Medium
from omnivore_jax.inference.reader import BATCH_FRAMES
from omnivore_jax.inference.trained import TrainedModel


class Sliding(NamedTuple):
    """How long a window is and how far the next one begins, in seconds or frames."""

    length: float
    step: float
    seconds: bool

    @classmethod
    def parse(cls, window: str, step: str) -> "Sliding":
        """Reads "2s" or "64"; without a step windows lie side by side.

        Raises:
            UserError: one is no number above 0, or one is in seconds and the other is not.

        """
        values = []
        for flag, text in (("window", window), ("step", step or window)):
            number = text.removesuffix("s")
            try:
                values.append(float(number) if text.endswith("s") else int(number))
            except ValueError:
                values.append(0)
            if not 0 < values[-1] < float("inf"):
                raise UserError(f"--{flag}={text}; use seconds, 2s, or a number of frames, 64")
        if (step or window).endswith("s") != window.endswith("s"):
            raise UserError(f"--window={window}, --step={step}; give both in seconds or in frames")
        return cls(values[0], values[1], window.endswith("s"))

    def windows(self, times: Float[np.ndarray, " n"]) -> list[Indices]:
        """Lists the frames of every window; one that is longer than the video is the video."""
        count = len(times)
        if not self.seconds:
            length, step = int(self.length), int(self.step)
            starts = range(0, max(count - length, 0) + 1, step)
            return [np.arange(start, min(start + length, count)) for start in starts]
        # the last frame is on the screen for some time, too
        shown = times - times[0]
        end = shown[-1] + shown[-1] / max(count - 1, 1)
        starts = np.arange(int(max(end - self.length, 0.0) / self.step + 1e-9) + 1) * self.step
        spans = [np.flatnonzero((shown >= s) & (shown < s + self.length)) for s in starts]
        return [span for span in spans if len(span)]


def features_along(
    trained: TrainedModel, medium: Medium, predictor: Predictor, sliding: Sliding
) -> Iterator[tuple[list[str], Float[np.ndarray, "n c"]]]:
    """Gives the ids of windows, PATH@FROM-TO in seconds, and their features, batch by batch.

    Raises:
        DecodeError: the video cannot be decoded. OSError: it cannot be read.

    """
    protocol = trained.protocol_for("video")
    feed = Feed(trained.preprocessing_for("video", ""))
    clip = Clip(medium.path.read_bytes())
    times = clip.times
    windows = sliding.windows(times)
    size = max(1, BATCH_FRAMES // protocol.frames)
    for at in range(0, len(windows), size):
        some = windows[at : at + size]
        batch = _batch(clip, some, protocol, min(size, len(windows)))
        found = np.asarray(predictor.features(trained.model.params, batch, feed))
        shown = times - times[0]
        ids = [f"{medium.path}@{shown[w[0]]:.3f}-{shown[w[-1]]:.3f}" for w in some]
        yield ids, found[: len(some)]


def _batch(clip: Clip, windows: Sequence[Indices], protocol: Protocol, size: int) -> Batch:
    """Decodes every frame of some windows once; filled up with the first window."""
    chosen = [
        w[np.floor(np.linspace(0, len(w) - 1, protocol.frames)).astype(np.int64)] for w in windows
    ]
    frames = np.unique(np.concatenate(chosen))
    shrink = shrinking(protocol.short_side, protocol.interpolation, protocol.antialias)
    pixels = clip.frames(frames, each=shrink)
    pixels = image_ops.crop(pixels, image_ops.center_box(*pixels.shape[1:3], protocol.size))
    samples = [Sample(pixels[np.searchsorted(frames, w)], None, 0, "") for w in chosen]
    return stack([*samples, *[samples[0]] * (size - len(samples))])
