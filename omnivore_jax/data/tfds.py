"""Datasets that TFDS has prepared as ArrayRecord, read in place and without TensorFlow.

    ROOT/NAME[/CONFIG]/VERSION/{dataset_info,features}.json and shards, as `tfds build` leaves them
    with --data_dir=ROOT --file_format=array_record

Pictures stay encoded until a transform decodes them, as those of our own shards do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from omnivore_jax.core.buckets import ObjectPath
from omnivore_jax.core.errors import UserError
from omnivore_jax.data.records import Record
from omnivore_jax.data.sample import BadRecord

NAMES: Mapping[str, str] = {
    "imagenet": "imagenet2012",
    "inat2018": "i_naturalist2018",
    "pets": "oxford_iiit_pet",
    "places365": "places365_small",
}
"""What TFDS calls our datasets, where it has other names."""

SPLITS: Mapping[str, tuple[str, ...]] = {"train": ("train",), "val": ("validation", "val", "test")}
"""Ours, and what TFDS calls them: the first that is there."""

FORMAT, INFO = "array_record", "dataset_info.json"


class Features(NamedTuple):
    """The features of a dataset that training reads."""

    image: str
    label: str
    id: str
    """A file name; empty: there is none, samples are numbered."""


@dataclass(frozen=True)
class TfdsReader:
    """The samples of one split by index, in any number of threads; travels to worker processes."""

    folder: Path
    split: str
    features: Features

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        """Reads a record.

        Raises:
            BadRecord: its bytes are damaged, or it has no label.

        """
        number = f"{self.folder.parent.name}/{self.split}/{index}"
        try:
            row = self._source[index]
        except (RuntimeError, ValueError) as error:  # RuntimeError: a checksum of ArrayRecord
            raise BadRecord(number, " ".join(str(error).split())) from error
        label = int(row[self.features.label])
        if label < 0:
            raise BadRecord(number, f"it has no label ({self.features.label}={label})")
        name = row[self.features.id].decode(errors="replace") if self.features.id else number
        return Record(name, label, row[self.features.image], sha256="")

    @cached_property
    def _source(self) -> Any:
        import tensorflow_datasets as tfds

        builder = _builder(self.folder)
        pictures = [name for name, kind in _kinds(builder.info.features).items() if kind == "Image"]
        # Others than ours too: masks, for example, which nobody here looks at.
        decoders = {name: tfds.decode.SkipDecoding() for name in pictures}
        return builder.as_data_source(self.split, decoders=decoders)

    def __getstate__(self) -> dict[str, Any]:
        return {key: self.__dict__[key] for key in self.__dataclass_fields__}


def open_split(name: str, asked: str, root: Path, split: str) -> tuple[TfdsReader, tuple[str, ...]]:
    """Opens a split ("train", "val") of a dataset; returns the names of its classes too.

    `asked`: its name in TFDS, NAME[/CONFIG][:VERSION]; empty: that of our dataset `name`.

    Raises:
        UserError: it is not there, is no ArrayRecord, lacks the split, or holds no pictures with
        one label each.

    """
    folder = find_version(name, asked, root)
    info = _builder(folder).info
    formats = [info.file_format, *info.alternative_file_formats]
    if FORMAT not in [form.value for form in formats if form is not None]:
        raise UserError(
            f"{folder} holds {info.file_format.value}, which needs TensorFlow; convert it once: "
            "python -m tensorflow_datasets.scripts.convert_format "
            f"--dataset_version_dir={folder} --out_file_format={FORMAT}"
        )
    there = find_split(name, asked, root, split)
    if there is None:
        raise UserError(
            f"{folder} has no split {' or '.join(SPLITS[split])}, only {', '.join(info.splits)}"
        )
    features = _features(info.features, folder)
    return TfdsReader(folder, there, features), tuple(info.features[features.label].names)


def find_split(name: str, asked: str, root: Path, split: str) -> str | None:
    """What TFDS calls the split ("train", "val") of a dataset; None where there is none."""
    there = _builder(find_version(name, asked, root)).info.splits
    return next((theirs for theirs in SPLITS[split] if theirs in there), None)


def count_samples(name: str, asked: str, root: Path, split: str) -> int:
    """Counts the samples of a split ("train", "val"); 0 where there is no such split."""
    there = find_split(name, asked, root, split)
    splits = _builder(find_version(name, asked, root)).info.splits
    return splits[there].num_examples if there else 0


def find_version(name: str, asked: str, root: Path) -> Path:
    """Finds the folder of a dataset: the version that is asked for, or the newest.

    Raises:
        UserError: there is none, or it is in a bucket.

    """
    if isinstance(root, ObjectPath):
        raise UserError(
            f"data.{name}.source='tfds' is read from disks only, not from {root}; copy it: "
            f"gcloud storage rsync -r {root} data"
        )
    theirs, _, version = (asked or NAMES.get(name, name)).partition(":")
    versions = [
        folder
        for folder in (root / theirs).glob(version or "*")
        if (folder / INFO).exists() and re.fullmatch(r"\d+(\.\d+)*", folder.name)
    ]
    if not versions:
        raise UserError(
            f"data.{name}.source='tfds', but {root / theirs} holds no version"
            f"{f' {version}' if version else ''} that TFDS has prepared; make it with: tfds build "
            f"{theirs} --file_format={FORMAT} --data_dir={root}, or name another: "
            f"data.{name}.tfds=NAME/CONFIG:VERSION"
        )
    return max(versions, key=lambda folder: tuple(map(int, folder.name.split("."))))


def _builder(folder: Path) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"source='tfds' cannot be read ({error}); pip install tensorflow-datasets"
        ) from error
    try:
        builder = tfds.builder_from_directory(folder)
        if FORMAT in [form.value for form in builder.info.alternative_file_formats]:
            return tfds.builder_from_directory(folder, file_format=FORMAT)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"{folder} is no dataset of TFDS that can be read ({' '.join(str(error).split())})"
        ) from error
    return builder


def _features(features: Any, folder: Path) -> Features:
    """Finds the picture, the label and the name of a file among a dataset's features."""
    kinds = _kinds(features)
    pictures = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    image = "image" if "image" in pictures else "".join(pictures[:1])
    label = "label" if "label" in labels else "".join(labels[:1])
    sure = image and label and ("image" in pictures or len(pictures) == 1)
    if not (sure and ("label" in labels or len(labels) == 1)):
        listing = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        raise UserError(
            f"{folder} has no single picture and label ({listing}); prepare the dataset with "
            "python -m omnivore_jax.prepare instead"
        )
    return Features(
        image, label, next((n for n in ("file_name", "id") if kinds.get(n) == "Text"), "")
    )


def _kinds(features: Any) -> dict[str, str]:
    return {name: type(feature).__name__ for name, feature in features.items()}
