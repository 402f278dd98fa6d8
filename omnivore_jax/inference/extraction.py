"""Extracts features of files, of windows along videos, and of whole splits, also beyond memory."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omnivore_jax.core import dist
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Mode
from omnivore_jax.data.damage import DecodeError
from omnivore_jax.data.sample import Dataset
from omnivore_jax.eval.predictor import Predictor
from omnivore_jax.inference.exam import Request, open_split, source_of
from omnivore_jax.inference.feature_set import NO_LABEL, FeatureSet, new_index
from omnivore_jax.inference.hall import Hall
from omnivore_jax.inference.ledger import PART_BATCHES, Ledger, Part, Span, key_of, resumable
from omnivore_jax.inference.media import Medium
from omnivore_jax.inference.reader import read_groups
from omnivore_jax.inference.trained import TrainedModel, feed_of
from omnivore_jax.inference.windows import Sliding, features_along
from omnivore_jax.model.trunk import stage_names


class Look(NamedTuple):
    """What is taken of a model that sees something."""

    mode: Mode = "all"
    views: str = ""
    """As in `TrainedModel.protocol_for`."""
    stage: str = ""
    """Whose map is taken instead of the pooled feature (`trunk.stage_names`)."""


def of_media(
    trained: TrainedModel,
    media: Sequence[Medium],
    look: Look,
    threads: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[FeatureSet, list[tuple[Medium, str]]]:
    """Extracts features of files; also gives those that cannot be read, and why.

    Raises:
        UserError: none can be read, or maps are asked for of files whose maps differ in size.

    """
    model = trained.model
    predictor = Predictor(model.config, model.heads, model.compute)
    parts, ids, faults = [], [], []
    for group in read_groups(media, trained, look.views, threads):
        _check_stage(trained, group.views, look.stage)
        spec = trained.preprocessing_for(group.kind, "")
        if group.good:
            feed = group.feed(spec, look.mode)
            found = predictor.features(model.params, group.batch(), feed, look.stage)
            parts.append(np.asarray(found)[: len(group.good)])
        for medium, sample in zip(group.media, group.samples, strict=True):
            if isinstance(sample, str):
                faults.append((medium, sample))
            else:
                ids.append(str(medium.path))
            advance()
    if not parts:
        raise UserError(f"none of the {len(media)} files can be read: {faults[0][1]}")
    sizes = {part.shape[1:] for part in parts}
    if len(sizes) > 1:
        raise UserError(
            f"--stage={look.stage}: maps of these files have {len(sizes)} sizes "
            f"({', '.join(map(str, sorted(sizes)))}); give files of one modality"
        )
    origin = {"weights": str(trained.path), **look._asdict()}
    return _without_labels(np.concatenate(parts), ids, origin), faults


def along_videos(
    trained: TrainedModel, media: Sequence[Medium], sliding: Sliding, advance: Callable[[], None]
) -> tuple[FeatureSet, list[tuple[Medium, str]]]:
    """Extracts features of windows that slide over videos; also gives videos that are damaged.

    Raises:
        UserError: a medium is no video, or none of them can be read.

    """
    others = [medium for medium in media if medium.kind != "video"]
    if others:
        raise UserError(f"--window is for videos, {others[0].path} is none; leave it out")
    predictor = Predictor(trained.model.config, trained.model.heads, trained.model.compute)
    parts, ids, faults = [], [], []
    for medium in media:
        try:
            for names, found in features_along(trained, medium, predictor, sliding):
                ids += names
                parts.append(found)
        except (DecodeError, OSError) as error:
            faults.append((medium, " ".join(str(error).split())))
        advance()
    if not parts:
        raise UserError(f"none of the {len(media)} videos can be read: {faults[0][1]}")
    origin = {"weights": str(trained.path), "mode": "all", "windows": list(sliding)}
    return _without_labels(np.concatenate(parts), ids, origin), faults


def of_dataset(trained: TrainedModel, request: Request, hall: Hall, stage: str = "") -> FeatureSet:
    """Extracts features of a split, every sample once, in its order.

    Raises:
        UserError: the split is not there, or a record of it is damaged.

    """
    split = _Split(trained, request, hall, stage)
    see, samples, size = split.see, split.samples, split.size
    (feature, label), ids = resumable(see, samples, size, split.key(), hall.skip)
    return split.described(feature, label, ids)


def write_index(folder: Path, trained: TrainedModel, request: Request, hall: Hall) -> int:
    """Extracts features of a split into a folder, part by part; gives their number.

    Parts lie beside the folder until all are there: a command that was killed goes on. Several
    processes extract together, process 0 writes.

    Raises:
        UserError: as `of_dataset`, or the disk does not take it.

    """
    split = _Split(trained, request, hall)
    beside = folder.with_name(f".{folder.name}.parts")
    ledger = Ledger(beside / split.key())
    step = PART_BATCHES * split.size
    starts = range(0, len(split.samples), step)
    seen = dist.broadcast(sum(1 for _ in ledger.parts()) if dist.is_primary() else 0)
    hall.skip(min(seen * step, len(split.samples)))
    for number in range(seen, len(starts)):
        stop = min(starts[number] + step, len(split.samples))
        (feature, label), ids = split.see(Span(split.samples, starts[number], stop))
        if dist.is_primary():
            ledger.write(number, Part([feature, np.asarray(label)], ids))
    if dist.is_primary():
        _join(folder, split, ledger.parts())
        shutil.rmtree(beside)
    return len(split.samples)


class _Split:
    """A split as a model sees it."""

    def __init__(self, trained: TrainedModel, request: Request, hall: Hall, stage: str = ""):
        self.samples, self.protocol = open_split(trained, request)
        _check_stage(trained, self.protocol.views, stage)
        self.size = hall.size(self.samples, self.protocol)
        self._trained, self._request, self._hall, self._stage = trained, request, hall, stage
        self._spec = trained.preprocessing_for(self.samples.kind, request.head)
        self._params = hall.replicated(trained.model.params)
        self._evaluator = hall.evaluator(trained)

    def see(self, part: Dataset) -> tuple[Any, list[str]]:
        """Extracts features and labels of some samples: arrays [n ...], and ids."""
        feed = feed_of(self._spec, self.protocol, self._request.mode)
        batches = self._hall.batches(part, self.size)
        found = self._evaluator.features(self._params, batches, feed, self._stage)
        rows = (found.feature, found.label)
        return self._hall.in_order(rows, found.ids, len(part), self.size)

    def key(self) -> str:
        """Digests all that the features depend on."""
        which = ("features", self._stage, self._request, source_of(self._request))
        how = (len(self.samples), self.protocol, self._spec, self.size)
        return key_of(self._trained.model.params, (*which, *how))

    def described(self, feature: np.ndarray, label: np.ndarray, ids: Iterable[str]) -> FeatureSet:
        """Says of what features are."""
        request = self._request
        origin = {
            "weights": str(self._trained.path),
            "dataset": request.dataset,
            "split": request.split,
            "mode": request.mode,
            "view": self.protocol.describe(),
            "stage": self._stage,
        }
        if label.ndim > 1:  # maps are no class
            label = np.full(len(label), NO_LABEL)
        return FeatureSet(
            feature, tuple(ids), np.asarray(label, np.int64), self.samples.classes, origin
        )


def _check_stage(trained: TrainedModel, views: int, stage: str) -> None:
    """Refuses a stage that the model lacks, or maps of several views (UserError)."""
    names = stage_names(trained.model.config)
    if stage and stage not in names:
        raise UserError(f"--stage={stage}: the model has {', '.join(names)}")
    if stage and views > 1:
        raise UserError(f"--stage={stage}: maps are of one view; use --views=1x1")


def _join(folder: Path, split: _Split, parts: Iterable[Part]) -> None:
    """Writes parts one after another into an index."""
    parts = iter(parts)
    part = next(parts, None)
    width = part.leaves[0].shape[1] if part else 0
    ids, labels, at = [], [], 0
    with new_index(folder, (len(split.samples), width)) as (array, describe):
        while part is not None:
            feature, label = part.leaves
            array[at : at + len(feature)] = feature
            at += len(feature)
            ids += part.ids
            labels.append(label)
            part = next(parts, None)
        if at != len(array):
            raise UserError(f"{folder}: only {at} of {len(array)} features are whole; call again")
        describe(split.described(array, np.concatenate(labels), ids))


def _without_labels(feature: np.ndarray, ids: list[str], origin: dict[str, Any]) -> FeatureSet:
    label = np.full(len(ids), NO_LABEL, np.int64)
    return FeatureSet(feature, tuple(ids), label, (), origin)
