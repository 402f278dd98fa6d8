"""Asks a trained model what media show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Kind, Mode
from omnivore_jax.data.sample import Sample
from omnivore_jax.eval.predictor import Predictor
from omnivore_jax.inference.media import Medium
from omnivore_jax.inference.reader import Group, read_groups
from omnivore_jax.inference.trained import TrainedModel


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
    """How it was seen, in words."""
    answers: tuple[Answer, ...] = ()
    fault: str = ""
    shown: Sample | None = None
    """Its views, where pictures are wanted."""


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
        for group in read_groups(media, self._trained, self._question.views, self._threads):
            head = self._trained.head_for(group.kind, self._question.head)
            scores = iter(self._score(group, head) if group.good else ())
            for medium, sample in zip(group.media, group.samples, strict=True):
                if isinstance(sample, str):
                    yield Prediction(medium, fault=sample)
                else:
                    yield self._answer(medium, head, group.describe(), next(scores), sample)

    def _score(self, group: Group, head: str) -> Float[np.ndarray, "b classes"]:
        """Probabilities of the samples that could be read."""
        spec = self._trained.preprocessing_for(group.kind, head)
        feed = group.feed(spec, self._question.mode)
        task = self._trained.task_of(head)
        output = self._predictor.outputs(self._trained.model.params, group.batch(), task, feed)
        return np.asarray(jax.nn.softmax(output, axis=-1))[: len(group.good)]

    def _answer(
        self,
        medium: Medium,
        head: str,
        view: str,
        scores: Float[np.ndarray, " classes"],
        sample: Sample,
    ) -> Prediction:
        names = self._trained.classes_of(head)
        best = np.argsort(-scores, kind="stable")[: self._question.top]
        answers = tuple(Answer(names[k], int(k), float(scores[k])) for k in best)
        shown = sample if self._question.keep_pictures else None
        return Prediction(medium, head, view, answers, shown=shown)
