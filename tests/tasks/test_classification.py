import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import f1_score, recall_score

from omnivore_jax.tasks.base import heads
from omnivore_jax.tasks.classification import ClassificationTask, cross_entropy_sum

TASK = ClassificationTask("image", 4)


def test_the_loss_is_scipys_cross_entropy_over_real_samples():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 9, (5, 7)).astype(np.float32)
    targets = rng.dirichlet(np.ones(7), 5).astype(np.float32)
    mask = np.array([True, True, False, True, False])
    logits[2] = np.nan  # padding may hold anything
    expected = -(targets * log_softmax(logits.astype(np.float64), -1)).sum(-1)[mask].sum()
    loss = cross_entropy_sum(jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(mask))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_padding_is_never_counted_as_correct():
    label, mask = jnp.array([0, 1, 2, 0]), jnp.array([True, True, False, True])
    targets = TASK.targets(label, label, jnp.ones(4))
    sums = jax.device_get(TASK.sums(jnp.eye(4), targets, label, mask))
    assert (sums["correct"], sums["count"]) == (2, 3)
    assert TASK.means(sums) == {
        "loss": pytest.approx(float(sums["loss"]) / 3),
        "accuracy": 2 / 3,
        "n": 3,
    }


def test_smoothing_is_inside_the_targets():
    targets = TASK.targets(jnp.array([2, 1]), jnp.array([0, 1]), jnp.array([0.7, 0.4]))
    on, off = 1 - 0.1 + 0.1 / 4, 0.1 / 4
    first = 0.7 * np.array([off, off, on, off]) + 0.3 * np.array([on, off, off, off])
    np.testing.assert_allclose(targets, [first, [off, on, off, off]], rtol=1e-6)


@pytest.mark.parametrize("wrong", [{"head": ""}, {"classes": 0}, {"smoothing": 1.0}], ids=str)
def test_an_impossible_setting_is_named_with_its_remedy(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=.*; use"):
        ClassificationTask(**{"head": "image", "classes": 10} | wrong)


def test_two_datasets_share_a_head_only_with_the_same_classes():
    tasks = {
        "one": ClassificationTask("image", 10),
        "two": ClassificationTask("image", 10),
        "three": ClassificationTask("video", 4),
    }
    assert heads(tasks) == {"image": 10, "video": 4}
    says = r"data.four.classes=11, but another dataset gives head 'image' 10 classes"
    with pytest.raises(ValueError, match=says):
        heads(tasks | {"four": ClassificationTask("image", 11)})


def test_a_dataset_may_have_fewer_classes_than_its_head_but_not_more():
    assert TASK.check_classes(["a", "b", "c", "d"], "pets") is None
    assert TASK.check_classes(["a"], "pets") == "has 1 of the 4 classes of head 'image'"
    with pytest.raises(ValueError, match="data.pets.classes=4, but it has 5 classes; set it to 5"):
        TASK.check_classes("abcde", "pets")


def test_f1_and_calibration_are_scikit_learns_and_a_plain_loop():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (500, 6)).astype(np.float32)
    label = rng.integers(0, 5, 500).astype(np.int32)  # nobody is of the last class
    task = ClassificationTask("image", 6)
    judged = jax.device_get(task.judge(jnp.asarray(logits), jnp.asarray(label)))
    result = task.result(judged, [])
    predicted = logits.argmax(-1)
    per_class = f1_score(label, predicted, labels=range(5), average=None)
    np.testing.assert_allclose(result.f1[:5], per_class)
    assert np.isnan(result.f1[5])
    assert result.macro_f1 == pytest.approx(per_class.mean())
    recall = recall_score(label, predicted, labels=range(5), average="macro")
    assert result.mean_recall == pytest.approx(recall)
    confidence = softmax(logits.astype(np.float64), -1).max(-1)
    right, error = predicted == label, 0.0
    for k in range(15):
        inside = (confidence >= k / 15) & (confidence < (k + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert result.calibration().error == pytest.approx(error, abs=1e-6)
    assert result.calibration().count.sum() == 500
