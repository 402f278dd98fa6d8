import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from omnivore_jax.eval.knn import _largest, answerable, knn_accuracy, knn_predict, nearest


@pytest.fixture(scope="module")
def digits():
    """Handwritten digits as unit vectors: 1,400 for the gallery, 397 to ask for."""
    images, labels = load_digits(return_X_y=True)
    features = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    return features[1400:], labels[1400:], features[:1400], labels[:1400]


def test_neighbours_are_those_that_scikit_learn_finds_however_the_work_is_cut(digits):
    query, _, gallery, _ = digits
    distances, oracle = NearestNeighbors(n_neighbors=20).fit(gallery).kneighbors(query)
    for block in (8192, 333):  # 333 cuts both, and the last blocks are short
        indices, similarities = nearest(query, gallery, 20, block, block)
        assert np.mean(indices == oracle) > 0.999  # equally near ones may come in another order
        np.testing.assert_allclose(similarities, 1 - distances**2 / 2, atol=1e-5)


def test_predictions_are_those_of_scikit_learn_with_the_weights_of_the_paper(digits):
    query, query_labels, gallery, labels = digits
    classifier = KNeighborsClassifier(
        20, weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.07)
    )
    oracle = classifier.fit(gallery, labels).predict(query)
    assert np.mean(knn_predict(query, gallery, labels) == oracle) > 0.995
    result = knn_accuracy(query, query_labels, gallery, labels)
    assert result.n == 397 and result.chance == 0.1
    assert result.top1 == pytest.approx(np.mean(oracle == query_labels), abs=0.005)


def test_neighbours_of_one_class_outweigh_a_nearer_one_of_another_only_together():
    towards = np.deg2rad([[0], [5], [6], [60]])  # the nearest alone is of class 7
    gallery = np.hstack([np.cos(towards), np.sin(towards)]).astype(np.float32)
    labels = np.array([7, 4, 4, 9])
    query = np.array([[1, 0]], np.float32)
    assert knn_predict(query, gallery, labels, k=2, tau=0.001).tolist() == [7]
    assert knn_predict(query, gallery, labels, k=3).tolist() == [4]
    assert knn_predict(query, gallery, labels, k=3, tau=0.0005).tolist() == [
        7
    ]  # exp(2000) would overflow


def test_equally_near_rows_come_in_the_order_of_the_gallery():
    gallery = np.tile(np.array([[1, 0], [0, 1]], np.float32), (5, 1))
    for block in (10, 3, 1):
        indices, _ = nearest(gallery[:1], gallery, 7, block, block)
        assert indices.tolist() == [[0, 2, 4, 6, 8, 1, 3]]


def test_pictures_of_digits_without_clips_are_left_out(digits):
    query, query_labels, gallery, labels = digits
    even = labels % 2 == 0
    asked = answerable(query_labels, labels[even])
    assert np.array_equal(asked, query_labels % 2 == 0)
    result = knn_accuracy(query[asked], query_labels[asked], gallery[even], labels[even])
    assert result.n == asked.sum() and result.chance == 0.2 and result.top1 > 0.95


def test_nothing_is_copied_to_or_from_a_device_in_passing(digits):
    query, query_labels, gallery, labels = digits
    with jax.transfer_guard("disallow"):
        knn_accuracy(query, query_labels, gallery, labels)


def test_wrong_uses_say_what_to_do(digits):
    query, _, gallery, labels = digits
    with pytest.raises(ValueError, match="k=20 neighbours of a gallery with 7 samples; use 1 to 7"):
        nearest(query, gallery[:7])
    with pytest.raises(ValueError, match="a gallery feature does not have length 1"):
        nearest(query, 2 * gallery)
    with pytest.raises(ValueError, match="tau=0.0; use a number above 0"):
        knn_predict(query, gallery, labels, tau=0.0)
    with pytest.raises(ValueError, match="there are no queries"):
        knn_accuracy(query[:0], labels[:0], gallery, labels)


@pytest.mark.parametrize("values", [3, 50, 100_000])
def test_the_largest_are_those_of_numpys_stable_sort_also_among_many_equal_ones(values):
    drawn = np.random.default_rng(values).integers(0, values, (40, 4096)).astype(np.float32)
    near, where = jax.jit(_largest, static_argnums=1)(drawn, 20)
    order = np.argsort(-drawn, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(where, order)
    np.testing.assert_array_equal(near, np.take_along_axis(drawn, order, 1))
