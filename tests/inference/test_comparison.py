"""Gains are differences of F1, by class and as means over groups."""

import json

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.inference.comparison import compare
from omnivore_jax.reporting.comparison_page import write_comparison


def write(path, dataset="kinetics400", **f1):
    classes = {name: {"n": 5, "accuracy": 0.5, "f1": score} for name, score in f1.items()}
    path.write_text(json.dumps({"dataset": dataset, "classes": classes}))
    return path


@pytest.fixture
def files(tmp_path):
    first = write(tmp_path / "a.json", golf=0.5, dance=0.4, swim=0.9)
    return first, write(tmp_path / "b.json", golf=0.7, dance=0.3, swim=0.9)


def test_gains_by_class_and_group(files, tmp_path):
    groups = tmp_path / "groups.csv"
    groups.write_text("group,class\nsport,golf\nsport,swim\narts,dance\nwater,swim\n")
    figures = compare(*files, groups).json()
    turned = tmp_path / "turned.csv"
    turned.write_text("class,note,group\ngolf,,sport\nswim,,sport\ndance,,arts\nswim,,water\n")
    assert compare(*files, turned).json()["group_gains"] == figures["group_gains"]
    assert figures["class_gains"] == pytest.approx({"golf": 0.2, "dance": -0.1, "swim": 0.0})
    assert figures["group_gains"] == pytest.approx({"sport": 0.1, "arts": -0.1, "water": 0.0})
    assert (figures["better"], figures["worse"], figures["classes"]) == (1, 1, 3)
    assert figures["macro_f1"] == pytest.approx([0.6, 1.9 / 3])
    write_comparison(tmp_path / "page.html", ("a<b>", "b"), figures)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg ") == 2 and "a&lt;b&gt;" in page
    assert "the largest: golf +20.0, swim +0.0, dance -10.0" in page


def test_many_classes_are_drawn_without_names(tmp_path):
    f1 = {f"class{k}": k / 400 for k in range(400)}
    figures = compare(write(tmp_path / "a", **f1), write(tmp_path / "b", **f1)).json()
    write_comparison(tmp_path / "page.html", ("a", "b"), figures)
    assert "400 classes, 0 of them better" in (tmp_path / "page.html").read_text()


def test_what_cannot_be_compared_is_refused(files, tmp_path):
    other = write(tmp_path / "c.json", "ssv2", golf=0.5)
    with pytest.raises(UserError, match="a.json is of kinetics400 with 3 classes, .* of ssv2"):
        compare(files[0], other)
    with pytest.raises(UserError, match=r"none.json cannot be read"):
        compare(files[0], tmp_path / "none.json")
    (tmp_path / "text").write_text("text")
    with pytest.raises(UserError, match="holds no figures"):
        compare(tmp_path / "text", files[1])
    groups = tmp_path / "groups.csv"
    for content, words in (
        ("a,b\n1,2\n", "has no columns group and class"),
        ("group,class\nsport,chess\n", "'chess' of group 'sport' is no class"),
        ("group,class\n", "lists no class"),
    ):
        groups.write_text(content)
        with pytest.raises(UserError, match=words):
            compare(*files, groups)
