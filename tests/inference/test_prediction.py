"""Predictions are what the model says of the same samples, in whatever batches they were read."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch
from omnivore_jax.data import demo
from omnivore_jax.data.depth import Intrinsics
from omnivore_jax.inference.media import Finder
from omnivore_jax.inference.prediction import Asker, Question
from omnivore_jax.inference.trained import open_trained
from omnivore_jax.ingest.demo_files import write_demo_files
from omnivore_jax.model.preprocess import preprocess
from tests import media

WEIGHTS = Path(__file__).parents[1] / "before" / "before.safetensors"
FINDER = Finder(None, Intrinsics(0.0, 0.075, 0.001))


@pytest.fixture(scope="module")
def trained():
    return open_trained(WEIGHTS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo_files")
    write_demo_files(folder)
    return folder


def ask(trained, files, threads=2, **question):
    media = FINDER.find([files]).items
    asker = Asker(trained, Question(**question), threads)
    asker.check(media)
    return list(asker.ask(media))


def expected(trained, dataset, head, k):
    """Probabilities by a plain call of the model on the demo's own arrays."""
    pictures = demo.draw(dataset, "test")
    depth = None if pictures.disparity is None else pictures.disparity[k : k + 1]
    batch = Batch(pictures.rgb[k : k + 1], depth, np.zeros(1), np.ones(1))
    x = preprocess(batch, trained.preprocessings[head])
    return np.asarray(jax.nn.softmax(trained.model(x, head)))[0]


def test_the_files_of_the_demo_are_judged_like_its_arrays(trained, files):
    predictions = ask(trained, files, top=30)
    assert len(predictions) == 30
    datasets = {"image": "demo_image", "video": "demo_video", "rgbd": "demo_rgbd"}
    # decoding is lossless for pictures; disparity is rounded; H.264 loses a little
    tolerance = {"image": 1e-6, "rgbd": 1e-4, "video": 2e-3}
    for prediction in predictions:
        kind, k = prediction.medium.kind, int(prediction.medium.path.stem.split("_")[1])
        said = {answer.index: answer.probability for answer in prediction.answers}
        want = expected(trained, datasets[kind], kind, k)
        got = np.array([said[index] for index in range(len(want))])
        np.testing.assert_allclose(got, want, atol=tolerance[kind])
        best = prediction.answers[0]
        assert best.name == demo.class_names(datasets[kind])[best.index]
        assert prediction.head == kind


def test_another_head_and_mode_judge_any_medium(trained, files):
    pumpkins = ask(trained, files / "rgbd", head="image", mode="depth")
    assert {prediction.head for prediction in pumpkins} == {"image"}
    stills = ask(trained, files / "picture", head="video")
    assert len(stills[0].answers) == 5 and " " in stills[0].answers[0].name
    everything = ask(trained, files / "rgbd", head="image")
    assert everything[0].answers != pumpkins[0].answers


def test_views_are_averaged(trained, files):
    one = ask(trained, files / "clip", top=30)[0]
    many = ask(trained, files / "clip", views="4x3_video_swin", top=30)[0]
    assert "4 x 3" in many.view and "mean of the probabilities" in many.view
    assert sum(answer.probability for answer in many.answers) == pytest.approx(1, abs=1e-5)
    # all clips of a clip of 16 frames are the same, and the crops of a square one
    assert one.answers[0].index == many.answers[0].index
    assert one.answers[0].probability == pytest.approx(many.answers[0].probability, abs=1e-5)


def test_a_damaged_file_is_named_and_the_others_are_answered(trained, tmp_path):
    whole = media.jpeg(media.scene(1))
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(whole)
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 3])
    found = FINDER.find([tmp_path]).items
    (tmp_path / "2.jpg").unlink()  # between finding and reading
    predictions = list(Asker(trained, Question(), 1).ask(found))
    assert [bool(p.fault) for p in predictions] == [False, True, True]
    assert "No such file" in predictions[2].fault
    assert len(predictions[0].answers) == 5


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"head": "none"}, "--head=none: .* has the heads image, rgbd, video"),
        ({"views": "9x9"}, "--views=9x9 is not known; use one of 1x1, 4x3"),
        ({"views": "4x3"}, "--views=4x3 does not suit image"),
        ({"mode": "depth"}, "--mode=depth: .* has no depth map"),
    ],
)
def test_questions_that_make_no_sense_are_refused(trained, files, question, words):
    with pytest.raises(UserError, match=words):
        ask(trained, files / "picture", **question)


def test_weights_without_a_head_of_the_modality_ask_for_one(trained, files):
    blind = replace(trained, modalities={"image": "image"})
    with pytest.raises(UserError, match=r"has no head for video; name one: --head=image\|"):
        ask(blind, files / "clip")
