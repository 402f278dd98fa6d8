"""The datasets of a config by name: where they lie, and what the paper's are like."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnivore_jax.core.buckets import ObjectPath
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import location
from omnivore_jax.core.types import LabelForm
from omnivore_jax.data import manifest, tfds
from omnivore_jax.data.dataset_config import SHIFT, DatasetConfig
from omnivore_jax.data.manifest import PLAN, Kind
from omnivore_jax.data.randaugment import RandAugmentConfig
from omnivore_jax.data.records import RecordReader
from omnivore_jax.data.sample import Dataset, Sample
from omnivore_jax.data.subset import Subset, read_labels, stratified
from omnivore_jax.data.tfds import TfdsReader
from omnivore_jax.data.transforms import TrainTransform, Transform, ViewsTransform

ROOT_VARIABLE = "OMNIVORE_DATA"


@dataclass(frozen=True)
class PublicDataset:
    """Says of a dataset of the paper its head and sizes (FACTS 1.10), and its recipe (3.3, 6)."""

    kind: Kind
    head: str
    classes: int
    num_train: int
    num_val: int
    ratio: float
    recipe: Mapping[str, object]
    batch_size: int = 4096

    def config(self, **overrides: object) -> DatasetConfig:
        """The host side of the paper's recipe for this dataset."""
        sizes = {
            "batch_size": self.batch_size,
            "ratio": self.ratio,
            "num_train": self.num_train,
            "num_val": self.num_val,
        }
        # pyright: ignore[reportArgumentType]
        return DatasetConfig(**{"kind": self.kind, **sizes, **self.recipe, **overrides})


_PICTURE = {"crop": "random_resized", "interpolation": "bicubic", "flip": 0.5, "rand_augment": True}
_CLIP = {"frames": 32, "clip": "stride", "stride": 2, "flip": 0.5, "views": "4x3"}
_SEGMENTS = {"frames": 32, "clip": "segments", "flip": 0.5, "rand_augment": True, "views": "1x3"}
_WITHOUT_MIRRORS = {
    "flip": 0.0,  # "from left to right" is a class
    "rand_augment": RandAugmentConfig(magnitude=7.0, ops=4),  # Video Swin's for this dataset
}
_LABEL_MAP = {
    "crop": "scaled",
    "size": 480,
    "flip": 0.5,
    "interpolation": "bilinear",
    "views": "whole_6x2",
}
IMAGES, CLIPS = 512, 256
"""Batches of the transfer datasets (FACTS 6.1, 6.2)."""


def _pictures(name: str, classes: int, num_train: int, num_val: int) -> PublicDataset:
    """A dataset of pictures that the paper transfers to, with a head of its own (B.1)."""
    return PublicDataset("image", name, classes, num_train, num_val, 1.0, _PICTURE, IMAGES)


def _clips(
    name: str, classes: int, num_train: int, num_val: int, recipe: Mapping[str, object]
) -> PublicDataset:
    """A dataset of clips that the paper transfers to, with a head of its own (B.2)."""
    return PublicDataset("video", name, classes, num_train, num_val, 1.0, recipe, CLIPS)


PUBLIC: Mapping[str, PublicDataset] = {
    "imagenet": PublicDataset("image", "image", 1000, 1_281_167, 50_000, 1.0, _PICTURE),
    "imagenet21k": PublicDataset("image", "image21k", 21_841, 14_197_122, 0, 0.1, _PICTURE),
    "kinetics400": PublicDataset("video", "video", 400, 240_000, 20_000, 1.0, _CLIP),
    "sunrgbd": PublicDataset(
        "rgbd", "rgbd", 19, 4_845, 4_659, 10.0, {"interpolation": "bilinear", "flip": 0.5}
    ),
    "nyu_scenes": PublicDataset(
        "rgbd",
        "nyu_scenes",
        10,
        795,
        654,
        1.0,
        {"interpolation": "bilinear", "flip": 0.5},
        IMAGES,
    ),
    "nyu_seg": PublicDataset("rgbd", "nyu_seg", 40, 795, 654, 1.0, _LABEL_MAP, 32),
    "inat2018": _pictures("inat2018", 8142, 437_513, 24_426),
    "pets": _pictures("pets", 37, 3680, 3669),
    "places365": _pictures("places365", 365, 1_803_460, 36_500),
    "kinetics600": _clips("kinetics600", 600, 390_000, 30_000, _CLIP),
    "ssv2": _clips("ssv2", 174, 168_913, 24_777, _SEGMENTS | _WITHOUT_MIRRORS),
    "epic100": _clips("epic100", 3806, 67_217, 9668, _SEGMENTS),
    "ucf101": _clips("ucf101", 101, 9537, 3783, _CLIP),
}
"""By the names of `prepare`. Sizes of Kinetics are round: what there is decays."""


@dataclass(frozen=True)
class RecordDataset:
    """One split of a prepared dataset (sample.Dataset)."""

    records: RecordReader | TfdsReader
    transform: Transform

    def __len__(self) -> int:
        return len(self.records)

    def load(self, index: int, seed: int) -> Sample:
        return self.transform(self.records[index], seed)


@dataclass(frozen=True)
class OneView:
    """A dataset of single views, each with an axis of views in front (sample.Dataset)."""

    samples: Dataset

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int, seed: int) -> Sample:
        sample = self.samples.load(index, seed)
        disparity = None if sample.disparity is None else sample.disparity[None]
        return sample._replace(rgb=sample.rgb[None], disparity=disparity)


@dataclass(frozen=True)
class OpenDataset:
    """One split of any dataset (sample.Dataset), with what its labels mean.

    Travels to worker processes.
    """

    samples: Dataset
    kind: Kind
    classes: tuple[str, ...]
    """Names, in the order of the labels."""
    labels: LabelForm = "class"

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int, seed: int) -> Sample:
        return self.samples.load(index, seed)


def data_root(root: str = "") -> Path:
    """Names the folder of the datasets: `data.root`, else $OMNIVORE_DATA, else data/.

    Raises:
        UserError: it is in no place that shards can be read from.

    """
    name = "data.root" if root else f"${ROOT_VARIABLE}"
    folder = location(root or os.environ.get(ROOT_VARIABLE) or "data", name)
    if isinstance(folder, ObjectPath) and folder.scheme != "gs":
        raise UserError(
            f"{name}={folder}: ArrayRecord reads disks and gs:// only; copy the datasets to a disk "
            f"(aws s3 sync {folder} data)"
        )
    return folder


def open_dataset(
    name: str, config: DatasetConfig, root: str | Path, split: str, transform: Transform
) -> OpenDataset:
    """Opens a split ("train", "val") of the dataset `name`: that in `root/name`, or the embedded.

    `transform` says how its samples are made: any split can be read for training or evaluation.

    Raises:
        UserError: it is not there, has another kind, lacks the split, or a file of it is missing or
        cut short.

    """
    if config.source == "embedded":
        return _open_embedded(name, config, split, transform)
    if config.source == "tfds":
        reader, classes = tfds.open_split(name, config.tfds, data_root(str(root)), split)
        return OpenDataset(RecordDataset(reader, transform), config.kind, classes)
    folder = data_root(str(root)) / name
    layout = name if name in PUBLIC else "folder"
    prepare = _command(layout, folder)
    if not (folder / manifest.FILE).exists():
        if (folder / PLAN).exists():
            raise UserError(
                f"dataset {name!r} in {folder} was begun but not ended; run the same prepare "
                "command again"
            )
        raise UserError(f"dataset {name!r} is not in {folder}; make it with: {prepare}")
    content = manifest.read(folder)
    if content.kind != config.kind:
        raise UserError(
            f"data.{name}.kind={config.kind!r}, but {folder} holds {content.kind!r}; change the "
            f"key, or prepare the right files: {prepare} --kind={config.kind}"
        )
    if not content.count(split):
        has = ", ".join(f"{s} ({content.count(s)})" for s in content.splits)
        raise UserError(
            f"dataset {name!r} in {folder} has no {split!r} samples, only {has}; make some: "
            f"{prepare} --val=0.1"
        )
    manifest.check_files(folder, content, split)
    shards = content.splits[split]
    samples: Dataset = RecordDataset(RecordReader(folder, shards), transform)
    if config.subset < 1 and split == "train":
        labels = read_labels(folder, shards)
        samples = Subset(samples, stratified(labels, config.subset, config.subset_seed))
    return OpenDataset(samples, content.kind, content.classes, content.labels)


def _command(layout: str, folder: Path) -> str:
    """How a dataset comes into a folder."""
    if isinstance(folder, ObjectPath):
        out = Path("data") / folder.name
        copy = f" && gcloud storage rsync -r {out} {folder}"
    else:
        out, copy = folder, ""
    return f"python -m omnivore_jax.prepare {layout} --src=... --out={out}{copy}"


def count_samples(name: str, config: DatasetConfig, root: str | Path, split: str) -> int:
    """Counts the samples of a split ("train", "val") by what describes the dataset; opens no shard.

    Raises:
        UserError: there is no such dataset.

    """
    if config.source == "embedded":
        from omnivore_jax.data.demo import SAMPLES

        return SAMPLES["train" if split == "train" else "test"]
    if config.source == "tfds":
        return tfds.count_samples(name, config.tfds, data_root(str(root)), split)
    return manifest.read(data_root(str(root)) / name).count(split)


def description(name: str, config: DatasetConfig, root: str | Path) -> Path | None:
    """Names the file that says what a dataset holds; None for one that the packages ship."""
    if config.source == "embedded":
        return None
    folder = data_root(str(root))
    if config.source == "tfds":
        return tfds.find_version(name, config.tfds, folder) / tfds.INFO
    return folder / name / manifest.FILE


def _open_embedded(
    name: str, config: DatasetConfig, split: str, transform: Transform
) -> OpenDataset:
    from omnivore_jax.data.demo import MAPS, EmbeddedDataset, class_names

    shifts = isinstance(transform, TrainTransform) and config.crop == "shift"
    shift = config.size // SHIFT if shifts else 0
    samples = EmbeddedDataset(name, "train" if split == "train" else "test", shift)
    rgb, disparity, _, _ = samples.load(0, 0)
    kind = "image" if disparity is None else "rgbd"
    actual = {"kind": "video" if len(rgb) > 1 else kind, "frames": len(rgb), "size": rgb.shape[1]}
    claims = config if isinstance(transform, TrainTransform) else transform.protocol
    for key, value in actual.items():
        for claim in (config, claims):
            if getattr(claim, key, value) != value:
                raise UserError(
                    f"data.{name}.{key}={getattr(claim, key)!r}; the embedded dataset has {value!r}"
                )
    labels = "map" if name == MAPS else "class"
    if not isinstance(transform, ViewsTransform):
        return OpenDataset(samples, config.kind, class_names(name), labels)
    if transform.protocol.views > 1:
        raise UserError(
            f"{name} is embedded and has one view a sample, the protocol "
            f"{transform.protocol.describe()!r} has {transform.protocol.views}; use --views=1x1"
        )
    return OpenDataset(OneView(samples), config.kind, class_names(name))
