import dataclasses
import json
from types import NoneType

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from omnivore_jax.core.errors import UserError
from omnivore_jax.reporting import report
from tests.reporting import small_report


def same(one, other) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_a_report_comes_back_from_its_folder_as_it_was(tmp_path):
    whole = small_report.make()
    report.save(whole, tmp_path)
    back = report.load(tmp_path)
    assert same(dataclasses.asdict(back), dataclasses.asdict(whole))
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "arrays.npz",
        "data.json",
    ]


def test_a_report_that_is_mostly_missing_comes_back_too(tmp_path):
    bare = report.Report(report.RunInfo("bare", "configs/bare.py", 0, 10, "separate", "cpu x 1"))
    report.save(bare, tmp_path)
    assert report.load(tmp_path) == bare and report.load(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("damage", ["data.json", "arrays.npz", "format"])
def test_a_damaged_report_is_one_line_that_says_what_to_do(tmp_path, damage):
    report.save(small_report.make(), tmp_path)
    if damage == "format":
        path = tmp_path / "report" / "data.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    else:
        path = tmp_path / "report" / damage
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        UserError, match="report cannot be read .*; evaluate the run again with --mode=eval"
    ):
        report.load(tmp_path)


def test_figures_for_programs_hold_numbers_and_no_pictures():
    figures = report.figures(small_report.make())
    leaves = []

    def walk(value):
        if isinstance(value, dict):
            list(map(walk, value.values()))
        elif isinstance(value, list | tuple):
            list(map(walk, value))
        else:
            leaves.append(value)

    walk(figures)
    assert json.dumps(figures) and {type(leaf) for leaf in leaves} == {str, int, float, NoneType}
    assert figures["datasets"][0]["top1"] == small_report.classification().top1


def test_the_confusions_are_those_that_scikit_learn_counts():
    result = small_report.make().datasets[0]
    np.testing.assert_array_equal(result.confusion, small_report.confusion())
    assert result.n == small_report.confusion().sum() and result.depth_only is None


@pytest.mark.parametrize(
    "labels", [np.arange(1000) % 30, np.arange(30) % 10, np.array([0] * 70 + [1] * 20 + [2] * 10)]
)
def test_chance_is_what_the_best_blind_guess_gets(labels):
    """Scikit-learn's guess is off from 1 / classes by how uneven the labels are."""
    classes = labels.max() + 1
    guess = DummyClassifier(strategy="most_frequent").fit(labels, labels).score(labels, labels)
    assert report.chance(np.bincount(labels)) == pytest.approx(guess, abs=1 / len(labels))
    assert report.chance(np.bincount(labels)) == 1 / classes or guess > 1 / classes + 0.1


def test_a_head_with_more_classes_than_the_data_names_them_by_number():
    result = report.dataset_result(
        "pictures", "image", small_report.CLASSES[:7], small_report.classification()
    )
    assert result.classes[6:] == ("6", "7", "8", "9")
