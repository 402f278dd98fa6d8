import re
from xml.etree import ElementTree

import pytest

from omnivore_jax.reporting import plots
from omnivore_jax.reporting.history import history

NAMES = ["pictures", "cl<i>ps"]


@pytest.fixture(scope="module")
def figures():
    rows = []
    for step in range(1, 300):
        figures = {NAMES[step % 2]: {"loss": 2 / step, "accuracy": 1 - 1 / step}}
        rows.append({"step": step, "train": figures, "learning_rate": 1e-3, "grad_norm": 1.0})
    rows.append({"step": 299, "eval": {name: {"top1": 0.9} for name in NAMES}})
    shares = {
        "cl<i>ps $x$": {"one model": 0.93, "trained alone": 0.5},
        "pictures": {"one model": 1.0},
    }
    return plots.curves(history(rows), NAMES) | {
        "bars": plots.bars(shares, ["one model", "trained alone"], "bars")
    }


def test_every_figure_is_well_formed_and_takes_its_colours_and_font_from_the_page(figures):
    for svg in figures.values():
        ElementTree.fromstring(svg)
        assert not re.search(r"#[0-9a-f]{6}|font-family|<style|https?:", svg)
    assert (
        "var(--c1)" in figures["loss"]
        and "var(--c2)" in figures["loss"]
        and "currentColor" in figures["grad_norm"]
    )


def test_no_two_figures_share_an_id(figures):
    ids = [name for svg in figures.values() for name in re.findall(r'\bid="([^"]*)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in figures.values():
        assert set(re.findall(r'(?:url\(|href=")#([^")]*)', svg)) <= set(
            re.findall(r'\bid="([^"]*)"', svg)
        )


def test_bars_say_their_values_and_names_as_text(figures):
    texts = [node.text for node in ElementTree.fromstring(figures["bars"]).iter("text")]
    assert {"93.0 %", "50.0 %", "100.0 %", "cl<i>ps $x$", "pictures"} <= set(texts)


def test_the_same_figures_are_the_same_text():
    once, again = (plots.bars({"pictures": {"a": 0.5}}, ["a"], "x") for _ in range(2))
    assert once == again


def test_a_run_without_rows_has_empty_axes():
    assert plots.curves(history([]), []).keys() == {
        "loss",
        "accuracy",
        "learning_rate",
        "grad_norm",
    }
