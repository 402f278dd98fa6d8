"""An evaluation without a run counts every sample once and matches labels by name."""

import csv
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch
from omnivore_jax.data import demo
from omnivore_jax.inference import score_table
from omnivore_jax.inference.exam import Request, prepare_exam, score
from omnivore_jax.inference.hall import Hall
from omnivore_jax.inference.trained import open_trained
from omnivore_jax.model.preprocess import preprocess
from omnivore_jax.prepare import Options, prepare
from omnivore_jax.train.mesh import MeshConfig, make_mesh
from tests import media
from tests.ingest.downloads import lay

WEIGHTS = Path(__file__).parents[1] / "before" / "before.safetensors"
DEVICES = jax.devices()


@pytest.fixture(scope="module")
def trained():
    return open_trained(WEIGHTS)


class First:
    """The first samples of a dataset."""

    def __init__(self, whole, n):
        self.whole, self.n = whole, n

    def __len__(self):
        return self.n

    def load(self, index, seed):
        return self.whole.load(index, seed)


def first(exam, n):
    return replace(exam, samples=replace(exam.samples, samples=First(exam.samples.samples, n)))


def probabilities(trained, dataset, head, n):
    """By plain calls of the model on the demo's own arrays."""
    pictures = demo.draw(dataset, "test")
    depth = None if pictures.disparity is None else pictures.disparity[:n]
    batch = Batch(pictures.rgb[:n], depth, pictures.label[:n], np.ones(n, bool))
    x = preprocess(batch, trained.preprocessings[head])
    return np.asarray(jax.nn.softmax(trained.model(x, head))), pictures.label[:n]


@pytest.mark.parametrize("devices", [1, len(DEVICES)])
@pytest.mark.parametrize("n", [1, 7, 8, 101])
def test_every_sample_counts_once_on_any_number_of_devices(trained, n, devices):
    request = Request("demo_image")
    exam = first(prepare_exam(trained, request), n)
    seen = []
    mesh = make_mesh(MeshConfig(), DEVICES[:devices])
    result = score(trained, exam, Hall(mesh, 16, 2, lambda: seen.append(1))).result
    want, label = probabilities(trained, "demo_image", "image", n)
    assert result.n == len(seen) == n
    assert result.ids == [f"demo_image/test/{k}" for k in range(n)]
    assert result.top5 == pytest.approx(top_k_accuracy_score(label, want, k=5, labels=range(10)))
    assert result.loss == pytest.approx(log_loss(label, want, labels=range(10)), abs=1e-5)
    want_matrix = confusion_matrix(label, want.argmax(-1), labels=range(10))
    np.testing.assert_array_equal(result.confusion, want_matrix)
    np.testing.assert_allclose(result.confidence, want.max(-1), atol=1e-5)


def test_the_figures_say_what_was_seen_and_every_class(trained, tmp_path):
    request = Request("demo_rgbd", mode="depth")
    exam = first(prepare_exam(trained, request), 64)
    done = score(trained, exam, Hall(make_mesh(MeshConfig(), DEVICES[:1]), 64))
    figures = score_table.figures(done)
    assert (figures["n"], figures["mode"], figures["head"]) == (64, "depth", "rgbd")
    assert sum(row["n"] for row in figures["classes"].values()) == 64
    assert figures["view"].startswith("1 x 1: short side 32")
    score_table.write_table(tmp_path / "table.csv", done)
    with (tmp_path / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["id"] for row in table] == done.result.ids
    parquet = pytest.importorskip("pyarrow.parquet")
    score_table.write_table(tmp_path / "table.parquet", done)
    columns = parquet.read_table(tmp_path / "table.parquet").to_pydict()
    assert columns["id"] == done.result.ids and columns["rank"] == done.result.rank.tolist()
    right = np.mean([row["class"] == row["predicted"] for row in table])
    assert right == pytest.approx(figures["top1"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Pictures in class folders, some of the classes of the demo's image head, as `digits`."""
    root = tmp_path_factory.mktemp("data")
    pictures = demo.draw("demo_image", "test")
    files = {
        f"val/{pictures.label[k]}/{k}.png": media.png(pictures.rgb[k, 0])
        for k in range(60)
        if pictures.label[k] in (2, 5, 7)
    }
    files |= {name.replace("val/", "train/"): data for name, data in files.items()}
    prepare("folder", Options(str(lay(root / "source", files)), str(root / "digits")))
    files = {f"{split}/cat/a.png": media.png(media.scene(1)) for split in ("train", "val")}
    prepare("folder", Options(str(lay(root / "cats", files)), str(root / "cats_prepared")))
    return root


def test_labels_are_matched_by_the_names_of_the_classes(trained, prepared):
    request = Request("digits", str(prepared))
    exam = prepare_exam(trained, request)
    assert exam.samples.classes == ("2", "5", "7") and len(exam.classes) == 10
    result = score(trained, exam, Hall(make_mesh(MeshConfig(), DEVICES[:1]), 64)).result
    want, label = probabilities(trained, "demo_image", "image", 60)
    there = np.isin(label, (2, 5, 7))
    order = [int(Path(id).stem) for id in result.ids]
    np.testing.assert_array_equal(result.label, label[order])
    np.testing.assert_array_equal(result.predicted, want.argmax(-1)[order])
    assert sorted(order) == np.flatnonzero(there).tolist()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("cats_prepared"), r"head 'image' lacks 1 of the 1 classes .*\(cat\)"),
        (Request("nothing"), "--dataset=nothing is not in .*; prepare it there, or use one of"),
        (Request("imagenet"), "dataset 'imagenet' is not in .*; make it with"),
        (Request("digits", split="test"), "has no 'test' samples, only train"),
        (Request("digits", mode="depth"), "--mode=depth: digits has no depth"),
        (Request("digits", views="4x3"), "--views=4x3 does not suit image"),
        (Request("digits", frames=4), "--clip_length=4: digits has no clips"),
        (Request("digits", head="audio"), "--head=audio: .* has the heads"),
        (Request("demo_video", views="4x3"), "demo_video is embedded and has one view"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(trained, prepared, request_, words):
    with pytest.raises(UserError, match=words):
        prepare_exam(trained, request_._replace(root=str(prepared)))
