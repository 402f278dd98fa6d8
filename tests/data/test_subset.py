import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import datasets, manifest
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.subset import read_labels, size_of, stratified
from omnivore_jax.data.transforms import TrainTransform
from omnivore_jax.prepare import Options, prepare
from tests.media import jpeg, part


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=9).filter(any),
    st.sampled_from([0.01, 0.05, 0.1, 0.37, 1.0]),
    st.integers(0, 3),
)
def test_a_subset_has_its_size_and_a_share_of_every_class(counts, share, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    chosen = stratified(labels, share, seed)
    total = size_of(len(labels), share)
    assert len(chosen) == total == len(set(chosen.tolist()))
    assert np.array_equal(chosen, np.sort(chosen))
    taken = np.bincount(labels[chosen], minlength=len(counts))
    assert (taken <= counts).all()
    filled = np.count_nonzero(counts)
    if filled <= total:
        assert (taken[np.array(counts) > 0] > 0).all()
    if filled <= total and min(c for c in counts if c) * share >= 1:
        assert (np.abs(taken - np.array(counts) * share) < 1 + 1e-6).all()


def test_ten_percent_of_many_equal_classes_are_those_of_scikit_learn_in_number():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(40), 50))
    split = StratifiedShuffleSplit(1, train_size=0.1, random_state=0)
    theirs, _ = next(split.split(labels, labels))
    ours = stratified(labels, 0.1, 0)
    assert np.array_equal(np.bincount(labels[ours]), np.bincount(labels[theirs]))


def test_a_larger_share_holds_a_smaller_one_and_seeds_differ():
    labels = np.random.default_rng(0).integers(0, 10, 2000)
    small, large = (set(stratified(labels, share, 0).tolist()) for share in (0.02, 0.1))
    assert small < large
    other = set(stratified(labels, 0.1, 1).tolist())
    assert len(other & large) < 50 < len(large) == 200


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    source, root = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("data")
    for name, count in {"cat": 20, "dog": 10}.items():
        (source / "train" / name).mkdir(parents=True)
        (source / "val" / name).mkdir(parents=True)
        for k in range(count):
            (source / "train" / name / f"{k}.jpg").write_bytes(jpeg(part(k)))
        (source / "val" / name / "x.jpg").write_bytes(jpeg(part(count)))
    prepare("folder", Options(str(source), str(root / "pets"), threads=1, rows=8, json=True))
    return root


def test_training_takes_the_subset_and_validation_all(root):
    config = DatasetConfig("image", 4, subset=0.2, size=32)
    opened = {
        split: datasets.open_dataset("pets", config, root, split, TrainTransform(config, 75.0))
        for split in ("train", "val")
    }
    labels = [opened["train"].load(i, 0).label for i in range(len(opened["train"]))]
    assert sorted(labels) == [0] * 4 + [1] * 2 and len(opened["val"]) == 2
    assert config.training_samples(30) == 6


def test_rows_that_are_missing_or_too_few_are_one_line(root, tmp_path):

    shutil.copytree(root / "pets", tmp_path / "pets")
    shards = manifest.read(tmp_path / "pets").splits["train"]
    rows = (tmp_path / "pets" / shards[1].file).with_suffix(".jsonl")
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError, match=r"train-00001.jsonl has 7 rows for 8 records"):
        read_labels(tmp_path / "pets", shards)
    rows.unlink()
    with pytest.raises(UserError, match="train-00001.jsonl cannot be read"):
        read_labels(tmp_path / "pets", shards)


@pytest.mark.parametrize("wrong", [{"subset": 0.0}, {"subset": 1.5}])
def test_an_impossible_share_is_named(wrong):
    with pytest.raises(ValueError, match="use a share above 0"):
        DatasetConfig("image", 4, **wrong)
