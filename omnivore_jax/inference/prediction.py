"""Asks a trained model what media show: reads ahead in threads, judges in batches."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch, Kind, Mode
from omnivore_jax.data.batches import stack
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.sample import BadRecord, Sample
from omnivore_jax.data.transforms import ViewsTransform
from omnivore_jax.eval.predictor import Feed, Predictor
from omnivore_jax.inference.media import Medium
from omnivore_jax.inference.trained import TrainedModel
from omnivore_jax.tasks.classification import ClassificationTask

BATCH_FRAMES = 64
"""Frames of all views that a batch has at most: pictures 64 at once, clips one or a few."""
AHEAD = 3
"""Batches that are being read while one is judged."""


class Answer(NamedTuple):
    """A class and its probability."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What the model says of a medium; or why it could not be read."""

    medium: Medium
    head: str = ""
    view: str = ""
    """The protocol in words."""
    answers: tuple[Answer, ...] = ()
    fault: str = ""
    shown: Sample | None = None
    """The first view, where pictures are wanted."""


class Question(NamedTuple):
    """What is asked of every medium."""

    head: str = ""
    """Empty: that of the medium's modality."""
    views: str = ""
    """Name of a protocol; empty: that of the card."""
    mode: Mode = "all"
    top: int = 5
    keep_pictures: bool = False


class Asker:
    """Predicts with one model on the default device."""

    def __init__(self, trained: TrainedModel, question: Question, threads: int):
        self._trained, self._question, self._threads = trained, question, threads
        model = trained.model
        self._predictor = Predictor(model.config, model.heads, model.compute)

    def check(self, media: Sequence[Medium]) -> None:
        """Raises UserError where a kind among the media has no head, no such views or no depth."""
        for medium in media:
            if self._question.mode == "depth" and medium.kind != "rgbd":
                raise UserError(f"--mode=depth: {medium.path} has no depth map; give --depth=FILE")
        kinds: set[Kind] = {medium.kind for medium in media}
        for kind in kinds:
            self._trained.head_for(kind, self._question.head)
            self._trained.protocol_for(kind, self._question.views)

    def ask(self, media: Sequence[Medium]) -> Iterator[Prediction]:
        """Predicts media one by one, kind after kind; those that are damaged are named."""
        with ThreadPoolExecutor(self._threads, "read") as pool:
            for kind, group in groupby(sorted(media, key=_kind_of), key=_kind_of):
                yield from self._ask_kind(kind, list(group), pool)

    def _ask_kind(
        self, kind: Kind, media: Sequence[Medium], pool: ThreadPoolExecutor
    ) -> Iterator[Prediction]:
        head = self._trained.head_for(kind, self._question.head)
        protocol = self._trained.protocol_for(kind, self._question.views)
        feed = Feed(
            self._trained.preprocessing_for(kind, head),
            self._question.mode,
            protocol.views,
            protocol.fusion,
        )
        size = min(len(media), max(1, BATCH_FRAMES // (protocol.views * protocol.frames)))
        transform = ViewsTransform(kind, protocol)
        for chunk, samples in _read_ahead(media, size, transform, pool):
            good = [sample for sample in samples if isinstance(sample, Sample)]
            scores = iter(self._score(good, size, head, feed) if good else ())
            for medium, sample in zip(chunk, samples, strict=True):
                if isinstance(sample, str):
                    yield Prediction(medium, fault=sample)
                else:
                    yield self._answer(medium, head, protocol, next(scores), sample)

    def _score(
        self, samples: Sequence[Sample], size: int, head: str, feed: Feed
    ) -> Float[np.ndarray, "b classes"]:
        """Probabilities of some samples; the batch is filled up, so that one program serves all."""
        batch = stack([*samples, *[samples[0]] * (size - len(samples))])
        if feed.views == 1:
            batch = _first_view(batch)
        task: Any = ClassificationTask(head, len(self._trained.classes_of(head)))
        output = self._predictor.outputs(self._trained.model.params, batch, task, feed)
        return np.asarray(jax.nn.softmax(output, axis=-1))[: len(samples)]

    def _answer(
        self,
        medium: Medium,
        head: str,
        protocol: Protocol,
        scores: Float[np.ndarray, " classes"],
        sample: Sample,
    ) -> Prediction:
        names = self._trained.classes_of(head)
        best = np.argsort(-scores, kind="stable")[: self._question.top]
        answers = tuple(Answer(names[k], int(k), float(scores[k])) for k in best)
        shown = sample if self._question.keep_pictures else None
        return Prediction(medium, head, protocol.describe(), answers, shown=shown)


def _kind_of(medium: Medium) -> Kind:
    return medium.kind


def _read_ahead(
    media: Sequence[Medium], size: int, transform: ViewsTransform, pool: ThreadPoolExecutor
) -> Iterator[tuple[tuple[Medium, ...], list[Sample | str]]]:
    """Gives batches of media with their samples, or their faults, in order."""

    def read(medium: Medium) -> Sample | str:
        try:
            return transform(medium.record())
        except BadRecord as error:
            return error.reason
        except OSError as error:
            return error.strerror or str(error)

    waiting: deque[tuple[tuple[Medium, ...], list[Future]]] = deque()
    for start in range(0, len(media), size):
        chunk = tuple(media[start : start + size])
        waiting.append((chunk, [pool.submit(read, medium) for medium in chunk]))
        if len(waiting) > AHEAD:
            yield _done(*waiting.popleft())
    while waiting:
        yield _done(*waiting.popleft())


def _done(
    chunk: tuple[Medium, ...], reads: Sequence[Future]
) -> tuple[tuple[Medium, ...], list[Any]]:
    return chunk, [future.result() for future in reads]


def _first_view(batch: Batch) -> Batch:
    """Drops the axis of views, of which there is one."""
    depth = None if batch.disparity is None else batch.disparity[:, 0]
    return batch._replace(rgb=batch.rgb[:, 0], disparity=depth)
