"""The datasets of a run, opened and checked against its config."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
from absl import logging

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import sha256
from omnivore_jax.data.batches import MAX_REPLACEMENTS
from omnivore_jax.data.datasets import (
    OpenDataset,
    count_samples,
    data_root,
    description,
    open_dataset,
)
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.sample import BadRecord, Dataset, Sample
from omnivore_jax.data.transforms import EvalTransform, TrainTransform, ViewsTransform
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.ingest.verify import check_once, check_split

USES = {
    "class": ("one class a sample", "classification"),
    "map": ("maps of labels", "segmentation"),
}
"""By what the labels of a dataset are: words for them, and the task that reads them."""
SHOWN = 5
"""Damaged records that an error names; the rest are counted."""
SECONDS = 10.0
"""Between two messages of a check that takes long."""


@dataclass(frozen=True)
class RunData:
    """Both splits of every dataset; `val` and `last` lack those without a validation split."""

    train: Mapping[str, OpenDataset]
    val: Mapping[str, OpenDataset]
    """As validated during training: one view."""
    last: Mapping[str, OpenDataset]
    """As seen by the last evaluation: `data.<dataset>.views`."""

    @property
    def sizes(self) -> dict[str, int]:
        """Training samples of every dataset."""
        return {name: len(dataset) for name, dataset in self.train.items()}


@dataclass(frozen=True)
class Readable:
    """Training samples outside of training (sample.Dataset).

    The next one stands in for one that cannot be read.
    """

    whole: Dataset

    def __len__(self) -> int:
        return len(self.whole)

    def load(self, index: int, seed: int) -> Sample:
        for further in range(MAX_REPLACEMENTS):
            try:
                return self.whole.load((index + further) % len(self), seed)
            except BadRecord as record:
                logging.warning(
                    "%s cannot be read (%s): the next record is taken", record.id, record.reason
                )
        raise UserError(
            f"{MAX_REPLACEMENTS} records one after another cannot be read; prepare the dataset "
            "again"
        )


def open_datasets(settings: Settings) -> RunData:
    """Opens all datasets.

    Raises:
        UserError: one line for every dataset that is missing or does not fit the config, all at
        once.

    """
    train, val, last, mistakes = {}, {}, {}, []
    for name, config in settings.datasets.items():
        try:
            transform = TrainTransform(config, settings.training[name].preprocessing.disparity_max)
            train[name] = open_dataset(name, config, settings.store.root, "train", transform)
            _check_classes(name, settings, train[name])
        except UserError as mistake:
            mistakes.append(str(mistake))
            continue
        if count_samples(name, config, settings.store.root, "val"):
            root, single = settings.store.root, eval_transform(name, settings)
            val[name] = last[name] = open_dataset(name, config, root, "val", single)
            protocol = last_protocol(name, settings)
            if protocol != single.protocol:
                make = EvalTransform if protocol.views == 1 else ViewsTransform
                views = make(config.kind, protocol)
                last[name] = open_dataset(name, config, root, "val", views)
        else:
            logging.warning(
                "data.%s has no validation samples: it is trained on, but not evaluated", name
            )
    if mistakes:
        raise UserError(*mistakes)
    for name, dataset in train.items():
        config = settings.datasets[name]
        planned = config.training_samples(config.num_train) if config.num_train else 0
        if planned and planned != len(dataset):
            logging.warning(
                "data.%s has %d samples where the config plans %d", name, len(dataset), planned
            )
    return RunData(train, val, last)


def last_protocol(name: str, settings: Settings) -> Protocol:
    """Says how the last evaluation of a run sees the samples of a dataset."""
    limit = settings.training[name].preprocessing.disparity_max
    return settings.datasets[name].last_protocol(limit)


def eval_transform(name: str, settings: Settings) -> EvalTransform:
    """Makes the transform with which a run validates a dataset: one view in the center."""
    config = settings.datasets[name]
    return EvalTransform(
        config.kind, config.protocol(settings.training[name].preprocessing.disparity_max)
    )


def manifest_facts(settings: Settings, data: RunData) -> dict[str, str | int]:
    """Digest of every prepared dataset's manifest and its number of samples, by config key."""
    facts: dict[str, str | int] = {f"data.{n} samples": size for n, size in data.sizes.items()}
    for name in data.train:
        path = description(name, settings.datasets[name], settings.store.root)
        if path is not None:
            facts[f"data.{name} {path.name}"] = sha256(path)[:16]
    return facts


def check_validation(settings: Settings, data: RunData, workdir: Path) -> None:
    """Reads this host's part of every prepared validation split, once per manifest.

    Raises:
        UserError: records are damaged; names the first and counts all.

    """
    mistakes = []
    for name, dataset in data.val.items():
        path = description(name, settings.datasets[name], settings.store.root)
        if not settings.store.check_val or path is None:
            continue
        shard = jax.process_index(), jax.process_count()
        key = [sha256(path), repr(settings.datasets[name]), *map(str, shard)]
        note = workdir / "checks" / f"{name}.{shard[0]}.json"
        count = _Count(name, len(range(shard[0], len(dataset), shard[1])))
        check = partial(check_split, dataset, settings.loader.reading_threads(), shard, count.add)
        damage = check_once(note, key, check)
        if damage:
            named = "; ".join(f"{row.id} ({row.reason})" for row in damage[:SHOWN])
            mistakes.append(
                f"data.{name}: {len(damage)} of {count.total} validation records cannot be read: "
                f"{named}{'; ...' if len(damage) > SHOWN else ''}; evaluation replaces no sample: "
                "mend them or take them out, and prepare the split again"
            )
    if mistakes:
        raise UserError(*mistakes)


class _Count:
    """Tells now and then how far a long check is; `add` may be called from several threads."""

    def __init__(self, name: str, total: int):
        self.total = total
        self._name, self._done, self._told = name, 0, time.monotonic()
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self._done += 1
            if time.monotonic() - self._told >= SECONDS:
                self._told = time.monotonic()
                done = f"{self._done:,}/{self.total:,}"
                logging.info("checking the validation records of data.%s: %s", self._name, done)


def _check_classes(name: str, settings: Settings, dataset: OpenDataset) -> None:
    task = settings.training[name].task
    if dataset.labels != task.labels:
        have, usable = USES[dataset.labels]
        raise UserError(f"data.{name} has {have}; use data.{name}.task={usable!r}")
    try:
        remark = task.check_classes(dataset.classes, name)
        task.named(dataset.classes)
    except ValueError as error:
        raise UserError(f"{error} (in {data_root(settings.store.root) / name})") from error
    if remark:
        logging.warning("data.%s %s", name, remark)
