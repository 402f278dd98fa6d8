"""As many samples as ImageNet validates, on one device and on eight."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest

from omnivore_jax.data.datasets import OpenDataset
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.sample import Sample
from omnivore_jax.inference.exam import Exam, score
from omnivore_jax.inference.hall import Hall
from omnivore_jax.inference.trained import TrainedModel
from omnivore_jax.model.compiled import CompiledModel
from omnivore_jax.model.params import Params
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.model.variants import model_config
from omnivore_jax.train.mesh import MeshConfig, make_mesh
from tests.params import random_params

COUNT, CLASSES, SIDE = 50_000, 10, 64
CONFIG, HEADS = model_config("tiny"), {"image": CLASSES}


@dataclass(frozen=True)
class Noise:
    """Blocks of random colours; the label is random too."""

    def __len__(self) -> int:
        return COUNT

    def load(self, index: int, seed: int) -> Sample:
        rng = np.random.default_rng(index)
        coarse = rng.integers(0, 256, (1, 8, 8, 3), np.uint8)
        rgb = coarse.repeat(SIDE // 8, 1).repeat(SIDE // 8, 2)
        return Sample(rgb, None, int(rng.integers(CLASSES)), str(index))


@pytest.mark.slow
def test_fifty_thousand_samples_count_once_and_alike_on_one_device_and_on_eight(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    params: Params = jax.tree.map(jax.numpy.asarray, random_params(CONFIG, HEADS))
    model = CompiledModel(CONFIG, HEADS, params)
    trained = TrainedModel(tmp_path, model, {"image": "image"}, {}, {"image": Preprocessing()})
    samples = OpenDataset(Noise(), "image", tuple(map(str, range(CLASSES))))
    view = Protocol(short_side=SIDE, size=SIDE)
    exam = Exam("noise", "image", samples.classes, view, samples, "all")
    results = {}
    for devices in (jax.devices()[:1], jax.devices()):
        hall = Hall(make_mesh(MeshConfig(), devices), 512, 2)
        results[len(devices)] = score(trained, exam, hall).result
    one, eight = results[1], results[8]
    assert one.n == eight.n == COUNT and one.ids == eight.ids == list(map(str, range(COUNT)))
    np.testing.assert_array_equal(one.label, eight.label)
    assert one.row()["top1"] == eight.row()["top1"] and one.row()["top5"] == eight.row()["top5"]
    np.testing.assert_allclose(one.loss, eight.loss, rtol=1e-6)
