"""A head that labels pixels is evaluated without a run, and refused where it is of no use."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.tree import flatten
from omnivore_jax.data.batches import stack
from omnivore_jax.data.demo import class_names
from omnivore_jax.data.protocol import DepthConvention, Protocol
from omnivore_jax.inference import score_table
from omnivore_jax.inference.exam import Request, prepare_exam, score
from omnivore_jax.inference.hall import Hall
from omnivore_jax.inference.trained import feed_of, open_trained
from omnivore_jax.model.preprocess import Preprocessing, preprocess
from omnivore_jax.model.upernet import UPerNetSpec, resize
from omnivore_jax.model.variants import model_config
from omnivore_jax.reporting.score_page import write_evaluation
from omnivore_jax.train.mesh import MeshConfig, make_mesh
from omnivore_jax.weights.card import make_card
from omnivore_jax.weights.lazy import lazy
from omnivore_jax.weights.safetensors import write_safetensors
from tests.inference.test_exam import WEIGHTS, first
from tests.params import random_params

CONFIG, HEADS = model_config("demo"), {"maps": UPerNetSpec(11, 32, 16)}
SPEC = Preprocessing(disparity_max=1.5, disparity_mean=0.416, disparity_std=0.048)
VIEW = Protocol(short_side=32, size=32, depth=DepthConvention(disparity_max=1.5))
COUNT = 13


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "maps.safetensors"
    inputs = {"maps": {"modality": "rgbd", "protocol": VIEW.to_json()}}
    names = {"maps": class_names("demo_maps")}
    card = make_card(CONFIG, HEADS, {"maps": SPEC}, classes=names, inputs=inputs)
    params = flatten(random_params(CONFIG, HEADS))
    write_safetensors(path, {name: lazy(x) for name, x in params.items()}, card)
    return path


def evaluate(weights, devices=None, **wishes):
    trained = open_trained(weights)
    exam = first(prepare_exam(trained, Request("demo_maps", **wishes)), COUNT)
    return trained, score(trained, exam, Hall(make_mesh(MeshConfig(), devices)))


def test_every_pixel_counts_once_and_figures_are_scikit_learns(weights, tmp_path):
    trained, done = evaluate(weights)
    samples = [done.exam.samples.load(k, 0) for k in range(COUNT)]
    batch = stack(samples)
    scores = trained.model(preprocess(batch, SPEC), "maps").scores
    predicted = np.asarray(resize(scores, (32, 32))).argmax(-1)
    oracle = jaccard_score(
        batch.label.ravel(),
        predicted.ravel(),
        labels=np.union1d(batch.label, predicted),
        average="macro",
    )
    figures = json.loads(json.dumps(score_table.figures(done)))
    np.testing.assert_allclose(figures["miou"], oracle, atol=2e-3)
    assert figures["n"] == COUNT and "paper" in figures["classes"]
    score_table.write_table(tmp_path / "t.csv", done)
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == [sample.id for sample in samples]
    assert sum(int(row["pixels"]) for row in rows) == COUNT * 32 * 32
    write_evaluation(tmp_path / "p.html", "w", done.exam.classes, done.result, figures, "rgbd")
    page = (tmp_path / "p.html").read_text()
    assert "mIoU" in page and "paper" in page


def test_one_device_counts_what_eight_do(weights):
    one, eight = evaluate(weights, jax.devices()[:1])[1], evaluate(weights)[1]
    assert (one.devices, eight.devices) == (1, len(jax.devices()))
    np.testing.assert_array_equal(one.result.predicted, eight.result.predicted)
    assert one.result.row()["miou"] == eight.result.row()["miou"]


def test_views_of_maps_are_whole_pictures_or_the_cards(weights):
    trained = open_trained(weights)
    assert trained.map_protocol("maps") == trained.map_protocol("maps", "1x1") == VIEW
    whole = trained.map_protocol("maps", "whole_6x2")
    assert (whole.whole, len(whole.scales), whole.mirrored, whole.depth) == (
        True,
        6,
        True,
        VIEW.depth,
    )
    slide = trained.map_protocol("maps", "slide")
    assert (slide.whole, slide.size, slide.step, slide.depth) == (True, 32, 21, VIEW.depth)
    assert "; windows of 32 over the whole picture, one every 21;" in f"; {slide.describe()[7:]}"


def test_windows_of_the_cards_size_slide_over_the_pictures(weights):
    """The demo's are as large as the card's window; then the answers are those of `whole`."""
    whole, slide = (evaluate(weights, views=views)[1] for views in ("whole", "slide"))
    assert feed_of(SPEC, slide.exam.protocol).window == (32, 21)
    np.testing.assert_array_equal(whole.result.predicted, slide.result.predicted)
    trained = open_trained(weights)
    smaller = dataclasses.replace(slide.exam.protocol, size=20)
    exam = dataclasses.replace(slide.exam, protocol=smaller)
    result = score(trained, exam, Hall(make_mesh(MeshConfig(), jax.devices()[:1]))).result
    assert result.predicted.sum(1).tolist() == [32 * 32] * COUNT
    assert (result.predicted != whole.result.predicted).any()


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (
            {"views": "4x3"},
            "--views=4x3 of label maps; use one of 1x1, whole, whole_6x2, slide",
        ),
        ({"head": "nose"}, "--head=nose"),
        ({"dataset": "demo_rgbd"}, "classifies nothing; its heads: maps"),
    ],
)
def test_what_a_head_of_maps_cannot_do_is_one_line(weights, wishes, words):
    trained = open_trained(weights)
    with pytest.raises(UserError) as error:
        prepare_exam(trained, Request(**{"dataset": "demo_maps"} | wishes))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_classifier_is_not_asked_for_maps():
    with pytest.raises(UserError, match="has no head that labels pixels"):
        prepare_exam(open_trained(WEIGHTS), Request("demo_maps"))
