"""Features of files and datasets are in one space, and neighbours are those of plain numpy."""

from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import demo
from omnivore_jax.data.depth import Intrinsics
from omnivore_jax.inference import extraction, feature_set, neighbours
from omnivore_jax.inference.exam import Request
from omnivore_jax.inference.extraction import Look
from omnivore_jax.inference.feature_set import FeatureSet
from omnivore_jax.inference.hall import Hall
from omnivore_jax.inference.media import Finder
from omnivore_jax.inference.trained import open_trained
from omnivore_jax.ingest.demo_files import write_demo_files
from omnivore_jax.train.mesh import MeshConfig, make_mesh

WEIGHTS = Path(__file__).parents[1] / "before" / "before.safetensors"


def features(n, names, seed, weights="w", width=8):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    label = np.arange(n) % len(names)
    ids = tuple(f"{weights}/{k}" for k in range(n))
    return FeatureSet(x, ids, label, names, {"weights": weights})


def test_neighbours_are_scikit_learns_and_classes_are_matched_by_name():
    queries, gallery = features(20, ("a", "b", "c"), 0), features(90, ("c", "x", "a"), 1)
    found = neighbours.find(queries, gallery, k=5, tau=0.07, listed=4)
    tree = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(gallery.feature)
    near = tree.kneighbors(queries.feature, return_distance=False)
    for row, answers in zip(near, found.answers, strict=True):
        assert [answer.id for answer in answers] == [gallery.ids[k] for k in row[:4]]
        assert [answer.name for answer in answers] == [gallery.names[k] for k in row[:4]]
    right = []
    for k, name in enumerate(queries.names):
        if name == "b":
            continue  # no class of the gallery
        votes = dict.fromkeys(gallery.classes, 0.0)
        for i in near[k]:
            votes[gallery.names[i]] += np.exp(queries.feature[k] @ gallery.feature[i] / 0.07)
        right.append(max(votes, key=votes.get) == name)
    assert found.knn is not None
    assert (found.knn.n, found.knn.top1) == (len(right), pytest.approx(np.mean(right)))


def test_features_of_files_are_those_of_the_dataset(tmp_path):
    trained = open_trained(WEIGHTS)
    write_demo_files(tmp_path / "files")
    finder = Finder(None, Intrinsics(0.0, 0.075, 0.001))
    media = finder.find([tmp_path / "files" / "picture"]).items
    files, faults = extraction.of_media(trained, media, Look(), 2)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    whole = extraction.of_dataset(trained, Request("demo_image"), Hall(mesh))
    assert not faults and len(files.ids) == 10 and len(whole.ids) == 1000
    np.testing.assert_allclose(files.feature, whole.feature[:10], atol=1e-6)
    assert whole.names[:3] == [demo.class_names("demo_image")[k] for k in whole.label[:3]]
    feature_set.save(tmp_path / "f.npz", whole)
    again = feature_set.load(tmp_path / "f.npz")
    np.testing.assert_array_equal(again.feature, whole.feature)
    assert again[1:2] + again[3:] == (whole.ids, whole.classes, whole.origin)
    assert neighbours.find(files, again, 1, 0.07, 1).answers[3][0].id == "demo_image/test/3"


def test_what_cannot_be_compared_is_refused(tmp_path):
    one = features(4, ("a", "b"), 0)
    with pytest.raises(UserError, match="the queries are of w, the gallery of v"):
        neighbours.find(one, features(4, ("a",), 0, "v"), 1, 0.07, 1)
    with pytest.raises(UserError, match="8 numbers, the gallery 4"):
        neighbours.find(one, features(4, ("a",), 0, width=4), 1, 0.07, 1)
    for content, words in ((b"text", "holds no features"), (None, "cannot be read")):
        path = tmp_path / "x.npz"
        path.unlink(missing_ok=True)
        if content:
            path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            feature_set.load(path)
    np.savez(tmp_path / "y.npz", feature=np.zeros((0, 3)))
    with pytest.raises(UserError, match="holds no features"):
        feature_set.load(tmp_path / "y.npz")
