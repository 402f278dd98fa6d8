"""Features of files and datasets, as they are stored: what `features` writes and `retrieve` reads.

FILE.npz: feature float32 [n c] of length 1, ids [n], label int64 [n] (-1: none), classes, and
`origin`, a JSON text that says of which weights, dataset, view and mode they are.
"""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local, new_file
from omnivore_jax.core.types import Mode
from omnivore_jax.data.damage import DecodeError
from omnivore_jax.data.sample import Dataset
from omnivore_jax.eval.predictor import Predictor
from omnivore_jax.inference.exam import Hall, Request, open_split, source_of
from omnivore_jax.inference.ledger import key_of, resumable
from omnivore_jax.inference.media import Medium
from omnivore_jax.inference.reader import read_groups
from omnivore_jax.inference.trained import TrainedModel, feed_of
from omnivore_jax.inference.windows import Sliding, features_along

NO_LABEL = -1


class FeatureSet(NamedTuple):
    """Features of some samples, and what they are of."""

    feature: Float32[np.ndarray, "n c"]
    """Pooled after the final norm, of length 1; the mean over the views of a sample."""
    ids: tuple[str, ...]
    label: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    origin: Mapping[str, Any]

    @property
    def names(self) -> list[str | None]:
        """The class of every sample; None where it has none."""
        return [None if k == NO_LABEL else self.classes[k] for k in self.label.tolist()]


def of_media(
    trained: TrainedModel,
    media: Sequence[Medium],
    mode: Mode,
    views: str,
    threads: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[FeatureSet, list[tuple[Medium, str]]]:
    """Extracts features of files; also gives those that cannot be read, and why."""
    model = trained.model
    predictor = Predictor(model.config, model.heads, model.compute)
    parts, ids, faults = [], [], []
    for group in read_groups(media, trained, views, threads):
        spec = trained.preprocessing_for(group.kind, "")
        if group.good:
            feed = group.feed(spec, mode)
            found = predictor.features(model.params, group.batch(), feed)
            parts.append(np.asarray(found)[: len(group.good)])
        for medium, sample in zip(group.media, group.samples, strict=True):
            if isinstance(sample, str):
                faults.append((medium, sample))
            else:
                ids.append(str(medium.path))
            advance()
    if not parts:
        raise UserError(f"none of the {len(media)} files can be read: {faults[0][1]}")
    label = np.full(len(ids), NO_LABEL, np.int64)
    origin = {"weights": str(trained.path), "mode": mode, "views": views}
    return FeatureSet(np.concatenate(parts), tuple(ids), label, (), origin), faults


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
    label = np.full(len(ids), NO_LABEL, np.int64)
    origin = {"weights": str(trained.path), "mode": "all", "windows": list(sliding)}
    return FeatureSet(np.concatenate(parts), tuple(ids), label, (), origin), faults


def of_dataset(trained: TrainedModel, request: Request, hall: Hall) -> FeatureSet:
    """Extracts features of a split, every sample once.

    Raises:
        UserError: the split is not there, or a record of it is damaged.

    """
    samples, protocol = open_split(trained, request)
    spec = trained.preprocessing_for(samples.kind, request.head)
    feed = feed_of(spec, protocol, request.mode)
    params, evaluator = hall.replicated(trained.model.params), hall.evaluator(trained)
    size = hall.size(samples, protocol)

    def see(part: Dataset) -> Any:
        found = evaluator.features(params, hall.batches(part, protocol, size), feed)
        return (found.feature, found.label), found.ids

    which = ("features", request, source_of(request), len(samples))
    key = key_of(trained.model.params, (*which, protocol, spec, size))
    (feature, label), ids = resumable(see, samples, size, key, hall.skip)
    origin = {
        "weights": str(trained.path),
        "dataset": request.dataset,
        "split": request.split,
        "mode": request.mode,
        "view": protocol.describe(),
    }
    if label.ndim > 1:  # maps are no class
        label = np.full(len(label), NO_LABEL)
    label = np.asarray(label, np.int64)
    return FeatureSet(feature, tuple(ids), label, samples.classes, origin)


def save(path: Path, features: FeatureSet) -> None:
    """Writes features; a reader sees the whole file or the one before.

    Raises:
        UserError: the disk does not take it.

    """
    arrays = {
        "feature": features.feature,
        "ids": np.array([_printable(id) for id in features.ids]),
        "label": features.label,
        "classes": np.array([_printable(name) for name in features.classes], str),
        "origin": np.array(json.dumps(dict(features.origin))),
    }
    with new_file(path) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def load(path: Path) -> FeatureSet:
    """Reads what `save` wrote.

    Raises:
        UserError: it is not there, damaged, or something else.

    """
    check_local(path, "FILE")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            features = FeatureSet(
                np.asarray(arrays["feature"], np.float32),
                tuple(arrays["ids"].tolist()),
                np.asarray(arrays["label"], np.int64),
                tuple(arrays["classes"].tolist()),
                json.loads(str(arrays["origin"])),
            )
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(
            f"{path} holds no features ({error}); make it with omnivore_jax.features"
        ) from error
    if not len(features.feature) == len(features.ids) == len(features.label) > 0:
        raise UserError(f"{path} holds no features of its samples; make it again")
    return features


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
