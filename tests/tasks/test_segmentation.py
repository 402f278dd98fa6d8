"""Pixels are counted as scikit-learn counts them; scales and mirror images are undone."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, log_loss

from omnivore_jax.core.types import IGNORE, Batch
from omnivore_jax.eval.evaluator import Evaluator
from omnivore_jax.eval.predictor import Feed, Predictor
from omnivore_jax.model.heads import spec_from_json, spec_to_json
from omnivore_jax.model.params import abstract_model, init_params, merge
from omnivore_jax.model.preprocess import Preprocessing, preprocess
from omnivore_jax.model.upernet import PixelScores, resize
from omnivore_jax.model.variants import model_config
from omnivore_jax.tasks.segmentation import SegmentationTask

TASK = SegmentationTask("map", 4, channels=32, auxiliary_channels=16)
CONFIG = model_config("tiny")


def scores(n=3, size=(6, 7), seed=0):
    drawn = np.random.default_rng(seed).normal(0, 2, (n, *size, 4)).astype(np.float32)
    return PixelScores(jnp.asarray(drawn), jnp.asarray(drawn[:, ::2, ::2]))


def labels(n=3, size=(24, 28), seed=1):
    label = np.random.default_rng(seed).integers(0, 3, (n, *size)).astype(np.uint8)
    label[:, :5] = IGNORE  # class 3 is never there
    return label


def result(output, label):
    return TASK.result(jax.device_get(TASK.judge(output, jnp.asarray(label))), [])


def test_figures_are_those_of_scikit_learn():
    output, label = scores(), labels()
    ours = result(output, label)
    large = np.asarray(resize(output.scores, label.shape[1:]))
    known = label != IGNORE
    true, predicted = label[known], large.argmax(-1)[known]
    matrix = confusion_matrix(true, predicted, labels=range(4))
    np.testing.assert_array_equal(ours.correct.sum(0), np.diag(matrix))
    np.testing.assert_array_equal(ours.labelled.sum(0), matrix.sum(1))
    np.testing.assert_array_equal(ours.predicted.sum(0), matrix.sum(0))
    iou = jaccard_score(true, predicted, labels=range(4), average=None)
    np.testing.assert_allclose(ours.iou, iou)
    np.testing.assert_allclose(ours.row()["miou"], iou.mean())
    np.testing.assert_allclose(ours.pixel_accuracy, accuracy_score(true, predicted))
    probabilities = np.asarray(jax.nn.softmax(large, -1))
    for k, loss in enumerate(ours.losses):
        expected = log_loss(label[k][known[k]], probabilities[k][known[k]], labels=range(4))
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
    assert ours.n == 3 and np.isnan(ours.accuracy[3]) and ours.score == ours.miou


def test_a_class_that_is_neither_there_nor_predicted_does_not_count():
    label = np.zeros((1, 8, 8), np.uint8)
    output = PixelScores(jnp.zeros((1, 2, 2, 4)).at[..., 0].set(9.0), jnp.zeros((1, 1, 1, 4)))
    assert result(output, label).miou == 1.0


def test_the_loss_adds_the_auxiliary_head_and_leaves_padding_out():
    output, label = scores(), labels()
    targets = TASK.targets(jnp.asarray(label), jnp.asarray(label), jnp.ones(3))
    mask = jnp.array([True, True, False])
    sums = TASK.sums(output, targets, jnp.asarray(label), mask)
    near = result(PixelScores(output.auxiliary, output.auxiliary), label).losses
    expected = (result(output, label).losses + 0.4 * near)[:2].sum()
    np.testing.assert_allclose(sums["loss"], expected, rtol=1e-5)
    means = TASK.means(jax.device_get(sums))
    assert means["n"] == 2
    np.testing.assert_allclose(means["accuracy"], result(_first(output), label[:2]).pixel_accuracy)


def _first(output):
    return PixelScores(*(part[:2] for part in output))


def test_a_label_that_the_head_does_not_have_is_named():
    with pytest.raises(ValueError, match="label maps hold 9, but the head has 4 classes"):
        result(scores(), np.full((3, 24, 28), 9, np.uint8))


@cache
def model():
    return init_params(CONFIG, {"map": TASK.spec}, jax.random.key(0))


def batch(n=3, size=(56, 72)):
    rng = np.random.default_rng(2)
    rgb = rng.integers(0, 256, (n, 1, *size, 3)).astype(np.uint8)
    disparity = rng.uniform(0, 9, (n, 1, *size, 1)).astype(np.float32)
    return Batch(rgb, disparity, labels(n, size), np.ones(n, bool))


def test_scales_and_mirror_images_are_averaged_as_by_hand():
    """The released order of such tests: resize, mirror, score, undo both, mean of probabilities."""
    feed = Feed(Preprocessing(), fusion="probs", scales=(0.5, 1.0, 1.5), mirrored=True)
    predictor = Predictor(CONFIG, {"map": TASK.spec})
    got = predictor.outputs(model(), batch(1), TASK, feed).scores
    module = merge(abstract_model(CONFIG, {"map": TASK.spec})[0], model())
    x, parts = np.asarray(preprocess(batch(1), Preprocessing())), []
    for size in ((28, 36), (56, 72), (84, 108)):
        for step in (1, -1):
            scaled = resize(jnp.asarray(x[:, 0]), size)[:, None, :, ::step]
            output = jax.jit(lambda x: module(x, "map").scores)(scaled)[:, :, ::step]
            parts.append(jax.nn.softmax(resize(output, (56, 72)), -1))
    np.testing.assert_allclose(np.exp(got), np.mean(parts, 0), atol=1e-5)


def test_an_evaluation_scores_every_map_once():
    feed = Feed(Preprocessing())
    evaluator = Evaluator(Predictor(CONFIG, {"map": TASK.spec}))
    whole = evaluator.evaluate(model(), [(batch(), ["a", "b", "c"])], TASK, feed)
    assert whole.ids == ["a", "b", "c"]
    assert whole.labelled.sum() == (batch().label != IGNORE).sum() == whole.predicted.sum()


def test_a_card_keeps_the_head():
    assert spec_from_json("map", spec_to_json(TASK.spec)) == TASK.spec


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"classes": 1}, "classes=1; use 2 or more"),
        ({"classes": 256}, "classes=256; label maps hold up to 255"),
        ({"channels": 0}, "channels=0"),
        ({"head_dropout": 1.0}, "head_dropout=1.0"),
        ({"auxiliary_weight": -1.0}, "auxiliary_weight=-1.0"),
    ],
)
def test_what_makes_no_task_is_refused(keys, words):
    with pytest.raises(ValueError, match=words):
        SegmentationTask(**{"head": "map", "classes": 4} | keys)
