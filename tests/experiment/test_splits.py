"""What is checked of the datasets of a run before it trains."""

import dataclasses

import numpy as np
import pytest

from configs import demo
from omnivore_jax.core.errors import UserError
from omnivore_jax.data.datasets import OpenDataset
from omnivore_jax.data.sample import BadRecord, Sample
from omnivore_jax.experiment.settings import resolve
from omnivore_jax.experiment.splits import RunData, check_validation


class Split:
    """A validation split some of whose records cannot be read."""

    def __init__(self, n, damaged=()):
        self.n, self.damaged, self.reads = n, set(damaged), 0

    def __len__(self):
        return self.n

    def load(self, index, seed):
        self.reads += 1
        if index in self.damaged:
            raise BadRecord(f"photo {index}", "the file is cut short")
        return Sample(np.zeros((1, 4, 4, 3), np.uint8), None, 0, str(index))


@pytest.fixture
def settings(tmp_path):
    config = demo.get_config("image").to_dict()
    config["data"] |= {"root": str(tmp_path / "data")}
    config["data"]["demo_image"]["source"] = "records"
    manifest = tmp_path / "data" / "demo_image" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    return resolve(config)


def data(split):
    return RunData({}, {"demo_image": OpenDataset(split, "image", ("a",))}, {})


def test_damaged_validation_records_are_named_and_counted_before_training(settings, tmp_path):
    split = Split(40, damaged=range(3, 12))
    with pytest.raises(UserError) as refused:
        check_validation(settings, data(split), tmp_path / "run")
    (line,) = refused.value.args
    assert line.startswith("data.demo_image: 9 of 40 validation records cannot be read: photo 3 (")
    assert "photo 7 (the file is cut short); ...;" in line and "prepare the split again" in line
    with pytest.raises(UserError):  # damage is not remembered: it may have been mended
        check_validation(settings, data(split), tmp_path / "run")


def test_a_split_is_checked_once_and_again_when_its_manifest_has_changed(settings, tmp_path):
    split = Split(8)
    for _ in range(2):
        check_validation(settings, data(split), tmp_path / "run")
        assert split.reads == 8
    (tmp_path / "data" / "demo_image" / "manifest.json").write_text('{"other": 1}')
    check_validation(settings, data(split), tmp_path / "run")
    assert split.reads == 16


def test_the_check_can_be_switched_off_and_leaves_embedded_datasets_alone(settings, tmp_path):
    split = Split(8, damaged=[1])
    off = dataclasses.replace(settings.store, check_val=False)
    check_validation(dataclasses.replace(settings, store=off), data(split), tmp_path / "run")
    embedded = resolve(demo.get_config("image").to_dict())
    check_validation(embedded, data(split), tmp_path / "run")
    assert split.reads == 0
