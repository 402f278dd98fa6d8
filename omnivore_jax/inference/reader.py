"""Media to batches: decoded ahead in threads, in groups of one kind and one shape."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

import numpy as np

from omnivore_jax.core.types import Batch, Kind, Mode
from omnivore_jax.data.batches import stack
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.sample import BadRecord, Sample
from omnivore_jax.data.transforms import ViewsTransform
from omnivore_jax.eval.predictor import Feed
from omnivore_jax.inference.media import Medium
from omnivore_jax.inference.trained import TrainedModel, feed_of
from omnivore_jax.model.preprocess import Preprocessing

BATCH_FRAMES = 64
"""Frames of all views that a batch has at most: pictures 64 at once, clips one or a few."""
AHEAD = 3
"""Batches that are being read while one is judged."""


class Group(NamedTuple):
    """Some media of one kind, read: their samples, or why they cannot be read."""

    kind: Kind
    protocol: Protocol
    media: Sequence[Medium]
    samples: Sequence[Sample | str]
    size: int
    """Of every batch of this kind, so that one program serves all."""
    pictures: int = 1
    """Of every medium: those of a scene are views of it."""

    @property
    def good(self) -> list[Sample]:
        return [sample for sample in self.samples if isinstance(sample, Sample)]

    @property
    def views(self) -> int:
        return self.pictures * self.protocol.views

    def describe(self) -> str:
        """Says in words how the media are seen."""
        scene = self.media[0].scene
        words = self.protocol.describe()
        return words if scene is None else f"{scene.describe()}; {words}"

    def feed(self, preprocessing: Preprocessing, mode: Mode) -> Feed:
        """Says how the batch is given to a model; of the pictures of a scene, probabilities."""
        feed = feed_of(preprocessing, self.protocol, mode)
        if self.media[0].scene is None:
            return feed
        return feed._replace(views=self.views, fusion="probs")

    def batch(self) -> Batch:
        """Stacks the samples that could be read, filled up to `size` with the first of them."""
        good = self.good
        batch = stack([*good, *[good[0]] * (self.size - len(good))])
        if self.views > 1:
            return batch
        depth = None if batch.disparity is None else batch.disparity[:, 0]
        return batch._replace(rgb=batch.rgb[:, 0], disparity=depth)


def read_groups(
    media: Sequence[Medium], trained: TrainedModel, views: str, threads: int
) -> Iterator[Group]:
    """Reads media kind after kind, in order; `views` as in `TrainedModel.protocol_for`."""
    with ThreadPoolExecutor(threads, "read") as pool:
        for (kind, _, pictures), group in groupby(sorted(media, key=_form_of), key=_form_of):
            protocol, files = trained.protocol_for(kind, views), list(group)
            frames = pictures * protocol.views * protocol.frames
            size = min(len(files), max(1, BATCH_FRAMES // frames))
            transform = ViewsTransform(kind, protocol)
            for chunk, samples in _read_ahead(files, size, transform, pool):
                yield Group(kind, protocol, chunk, samples, size, pictures)


def _form_of(medium: Medium) -> tuple[Kind, bool, int]:
    return medium.kind, medium.scene is not None, medium.pictures


def _read_ahead(
    media: Sequence[Medium], size: int, transform: ViewsTransform, pool: ThreadPoolExecutor
) -> Iterator[tuple[Sequence[Medium], list[Sample | str]]]:
    """Gives media in chunks with their samples, or their faults, in order."""

    def read(medium: Medium) -> Sample | str:
        try:
            return _join([transform(record) for record in medium.records()])
        except BadRecord as error:
            return error.reason
        except OSError as error:
            return error.strerror or str(error)

    waiting: deque[tuple[Sequence[Medium], list[Future]]] = deque()
    for start in range(0, len(media), size):
        chunk = media[start : start + size]
        waiting.append((chunk, [pool.submit(read, medium) for medium in chunk]))
        if len(waiting) > AHEAD:
            yield _done(*waiting.popleft())
    while waiting:
        yield _done(*waiting.popleft())


def _join(pictures: Sequence[Sample]) -> Sample:
    """Makes the pictures of a scene views of one sample."""
    if len(pictures) == 1:
        return pictures[0]
    depth = [picture.disparity for picture in pictures if picture.disparity is not None]
    rgb = np.concatenate([picture.rgb for picture in pictures])
    return pictures[0]._replace(rgb=rgb, disparity=np.concatenate(depth))


def _done(
    chunk: Sequence[Medium], reads: Sequence[Future]
) -> tuple[Sequence[Medium], list[Sample | str]]:
    return chunk, [future.result() for future in reads]
