"""Scores trained weights on a dataset, without a run: every sample once, on all devices."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import sha256
from omnivore_jax.core.types import Fusion, Kind, LabelForm, Mode
from omnivore_jax.data import manifest
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import PUBLIC, OpenDataset, data_root, open_dataset
from omnivore_jax.data.demo import MAPS
from omnivore_jax.data.manifest import Manifest
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.sample import Dataset, Sample
from omnivore_jax.data.transforms import EvalTransform, ViewsTransform
from omnivore_jax.inference.hall import Hall
from omnivore_jax.inference.ledger import key_of, resumable
from omnivore_jax.inference.trained import TrainedModel, feed_of
from omnivore_jax.tasks.classification import Classification
from omnivore_jax.tasks.segmentation import Segmentation
from omnivore_jax.tasks.verb_noun import VerbNounTask

DEMO_KINDS: dict[str, Kind] = {
    "demo_image": "image",
    "demo_video": "video",
    "demo_rgbd": "rgbd",
    MAPS: "rgbd",
}
NAMES_SHOWN = 3


class Request(NamedTuple):
    """What is evaluated, and how; what is left empty is that of the card."""

    dataset: str
    root: str = ""
    """Where prepared datasets lie: `data.root`."""
    split: str = "val"
    head: str = ""
    views: str = ""
    fusion: Fusion | None = None
    frames: int = 0
    """Length of a clip."""
    mode: Mode = "all"
    depth_scale: float = 1.0
    """By which all depth is multiplied."""


@dataclass(frozen=True)
class Exam:
    """A split ready to be scored on a head."""

    name: str
    head: str
    classes: tuple[str, ...]
    """Of the head."""
    protocol: Protocol
    samples: OpenDataset
    mode: Mode
    pairs: bool = False
    """Whether classes are pairs of verb and noun, of EPIC-Kitchens."""
    source: str = ""
    """What the samples are: digest of the dataset's manifest, split, scale of depth."""


@dataclass(frozen=True)
class Evaluation:
    """What came of it."""

    exam: Exam
    result: Classification | Segmentation
    devices: int


@dataclass(frozen=True)
class Relabeled:
    """A dataset whose labels are those of a head with the same class names (sample.Dataset)."""

    samples: Dataset
    labels: tuple[int, ...]
    """Of the head, by label of the dataset."""

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int, seed: int) -> Sample:
        sample = self.samples.load(index, seed)
        return sample._replace(label=self.labels[sample.label])


@dataclass(frozen=True)
class DepthScaled:
    """RGB-D whose depth was multiplied, its disparity divided, by a number (sample.Dataset)."""

    samples: Dataset
    factor: float

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int, seed: int) -> Sample:
        sample = self.samples.load(index, seed)
        disparity = sample.disparity
        return sample._replace(disparity=None if disparity is None else disparity / self.factor)


def prepare_exam(trained: TrainedModel, request: Request) -> Exam:
    """Opens the split and finds the head and the protocol; reads no sample.

    Raises:
        UserError: the dataset is not there, has no such split, or has classes that the head
        lacks; there is no such head or view, or it has no depth to be shown alone.

    """
    samples, protocol = open_split(trained, request)
    asked = request.head or _usual_head(trained, request.dataset)
    maps = samples.labels == "map"
    head = trained.map_head(asked) if maps else trained.head_for(samples.kind, asked)
    classes = trained.classes_of(head)
    if maps and len(classes) != len(samples.classes):
        raise UserError(
            f"head {head!r} has {len(classes)} classes, {request.dataset} has "
            f"{len(samples.classes)}; use the weights that were trained on it"
        )
    if not maps:
        samples = _with_labels_of(samples, classes, head)
    return Exam(
        request.dataset,
        head,
        classes,
        protocol,
        samples,
        request.mode,
        pairs=_is_epic(request),
        source=source_of(request),
    )


def open_split(trained: TrainedModel, request: Request) -> tuple[OpenDataset, Protocol]:
    """Opens a split, to be seen as the weights' card and the request say; reads no sample.

    Raises:
        UserError: the dataset is not there or has no such split, or it cannot be seen so.

    """
    kind = _kind_of(request)
    if request.mode != "all" and kind != "rgbd":
        raise UserError(f"--mode={request.mode}: {request.dataset} has no depth; leave it out")
    if _labels_of(request) == "map":
        head = trained.map_head(request.head or _usual_head(trained, request.dataset))
        protocol = trained.map_protocol(head, request.views)
    else:
        protocol = trained.protocol_for(kind, request.views)
    protocol = _changed(protocol, request)
    config = _config(request.dataset, kind, protocol)
    transform = (EvalTransform if protocol.views == 1 else ViewsTransform)(kind, protocol)
    samples = open_dataset(request.dataset, config, request.root, request.split, transform)
    if request.depth_scale != 1:
        if kind != "rgbd":
            raise UserError(f"depth_scale={request.depth_scale}: {request.dataset} has no depth")
        scaled = DepthScaled(samples.samples, request.depth_scale)
        samples = dataclasses.replace(samples, samples=scaled)
    return samples, protocol


def score(trained: TrainedModel, exam: Exam, hall: Hall) -> Evaluation:
    """Scores an exam.

    Raises:
        UserError: a record is damaged; evaluation replaces no sample.

    """
    protocol = exam.protocol
    spec = trained.preprocessing_for(exam.samples.kind, exam.head)
    feed = feed_of(spec, protocol, exam.mode)
    task: Any = trained.task_of(exam.head)
    if exam.pairs:
        task = VerbNounTask(exam.head, len(exam.classes)).named(exam.classes)
    params, evaluator = hall.replicated(trained.model.params), hall.evaluator(trained)
    size = hall.size(exam.samples, protocol)

    def see(samples: Dataset) -> Any:
        judged, ids = evaluator.judge(params, hall.batches(samples, size), task, feed)
        return hall.in_order(judged, ids, len(samples), size)

    which = (exam.name, exam.source, len(exam.samples), exam.mode)
    key = key_of(trained.model.params, (*which, protocol, task, spec, size))
    judged, ids = resumable(see, exam.samples, size, key, hall.skip)
    result: Any = task.result(judged, ids)
    return Evaluation(exam, result, hall.mesh.size)


def _kind_of(request: Request) -> Kind:
    if request.dataset in DEMO_KINDS:
        return DEMO_KINDS[request.dataset]
    content = _manifest(request)
    if content is not None:
        return content.kind
    if request.dataset in PUBLIC:
        return PUBLIC[request.dataset].kind  # opening says what is missing
    known = ", ".join([*PUBLIC, *DEMO_KINDS])
    raise UserError(
        f"--dataset={request.dataset} is not in {_folder(request)}; prepare it there, or use one "
        f"of {known}"
    )


def _labels_of(request: Request) -> LabelForm:
    if request.dataset == MAPS:
        return "map"
    content = _manifest(request)
    return "class" if content is None else content.labels


def _is_epic(request: Request) -> bool:
    content = _manifest(request)
    return content is not None and str(content.origin.get("by")).split()[1:2] == ["epic100"]


def source_of(request: Request) -> str:
    """Tells samples from those of others: split, scale of depth, digest of the manifest."""
    path = _folder(request) / manifest.FILE
    return f"{request.split} {request.depth_scale} {sha256(path) if path.exists() else ''}"


def _manifest(request: Request) -> Manifest | None:
    """What was prepared; None where nothing lies there, as of what packages ship."""
    folder = _folder(request)
    return manifest.read(folder) if (folder / manifest.FILE).exists() else None


def _folder(request: Request) -> Path:
    return data_root(request.root) / request.dataset


def _usual_head(trained: TrainedModel, dataset: str) -> str:
    """The head of a dataset of the paper, where the weights have one of that name."""
    head = PUBLIC[dataset].head if dataset in PUBLIC else ""
    return head if head in trained.model.heads else ""


def _changed(protocol: Protocol, request: Request) -> Protocol:
    changes: dict[str, Any] = {}
    if request.frames:
        changes["frames"] = request.frames
    if request.frames and protocol.clip == "paper":  # the video stays covered (Figure 5)
        changes["clips"] = max(protocol.clips * protocol.frames // request.frames, 1)
    if request.fusion:
        changes["fusion"] = request.fusion
    if request.frames and protocol.frames == 1:
        raise UserError(f"--clip_length={request.frames}: {request.dataset} has no clips")
    try:
        return dataclasses.replace(protocol, **changes)
    except ValueError as error:
        raise UserError(f"--clip_length={request.frames}: {error}") from error


def _config(name: str, kind: Kind, protocol: Protocol) -> DatasetConfig:
    """Says as much of a dataset as opening it needs."""
    source = "embedded" if name in DEMO_KINDS else "records"
    return DatasetConfig(kind, 1, source, frames=protocol.frames, size=protocol.size)


def _with_labels_of(samples: OpenDataset, classes: tuple[str, ...], head: str) -> OpenDataset:
    """Gives samples the labels of the head, by the names of their classes.

    Raises:
        UserError: the head lacks a class.

    """
    if samples.classes == classes:
        return samples
    place = {name: label for label, name in enumerate(classes)}
    unknown = [name for name in samples.classes if name not in place]
    numbers = classes == tuple(map(str, range(len(classes))))
    if unknown and numbers and len(samples.classes) == len(classes):
        return samples  # the weights do not name their classes: the order has to be the same
    if unknown:
        shown = ", ".join(unknown[:NAMES_SHOWN]) + (", ..." if len(unknown) > NAMES_SHOWN else "")
        raise UserError(
            f"head {head!r} lacks {len(unknown)} of the {len(samples.classes)} classes of the "
            f"dataset ({shown}); use the head that was trained on them: --head"
        )
    labels = tuple(place[name] for name in samples.classes)
    return dataclasses.replace(samples, samples=Relabeled(samples.samples, labels))
