"""Windows that slide give what a plain reading of mmsegmentation's slide inference gives."""

from functools import cache

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from omnivore_jax.core.types import Batch
from omnivore_jax.eval.evaluator import Evaluator
from omnivore_jax.eval.predictor import Feed, Predictor
from omnivore_jax.eval.sliding import Grid, Window
from omnivore_jax.model.params import abstract_model, init_params, merge
from omnivore_jax.model.preprocess import Preprocessing, preprocess
from omnivore_jax.model.variants import model_config
from omnivore_jax.tasks.segmentation import SegmentationTask

TASK = SegmentationTask("map", 4, channels=32, auxiliary_channels=16)
CONFIG, HEADS, SPEC = model_config("tiny"), {"map": TASK.spec}, Preprocessing()
WINDOW = Window(48, 32)


@cache
def params():
    return init_params(CONFIG, HEADS, jax.random.key(0))


def batch(n=1, size=(75, 100)):
    rng = np.random.default_rng(2)
    rgb = rng.integers(0, 256, (n, 1, *size, 3)).astype(np.uint8)
    disparity = rng.uniform(0, 9, (n, 1, *size, 1)).astype(np.float32)
    label = rng.integers(0, 4, (n, *size)).astype(np.uint8)
    return Batch(rgb, disparity, label, np.ones(n, bool))


@jax.jit
def score(x):
    """What the module itself says of a crop, [n h w 4] at a quarter of its pixels."""
    return merge(abstract_model(CONFIG, HEADS)[0], params())(x[:, None], "map").scores


def slide_inference(torch, img, crop_size, stride):
    """As mmsegmentation writes it (EncoderDecoder.slide_inference); img [n c h w]."""
    functional = torch.nn.functional
    batch_size, _, h_img, w_img = img.shape
    h_grids = max(h_img - crop_size + stride - 1, 0) // stride + 1
    w_grids = max(w_img - crop_size + stride - 1, 0) // stride + 1
    preds = img.new_zeros((batch_size, TASK.classes, h_img, w_img))
    count_mat = img.new_zeros((batch_size, 1, h_img, w_img))
    for h_idx in range(h_grids):
        for w_idx in range(w_grids):
            y2, x2 = min(h_idx * stride + crop_size, h_img), min(w_idx * stride + crop_size, w_img)
            y1, x1 = max(y2 - crop_size, 0), max(x2 - crop_size, 0)
            crop = img[:, :, y1:y2, x1:x2]
            logit = torch.from_numpy(np.array(score(crop.permute(0, 2, 3, 1).numpy())))
            logit = functional.interpolate(
                logit.permute(0, 3, 1, 2), crop.shape[2:], mode="bilinear", align_corners=False
            )
            preds += functional.pad(logit, (x1, w_img - x2, y1, h_img - y2))
            count_mat[:, :, y1:y2, x1:x2] += 1
    assert (count_mat > 0).all()
    return preds / count_mat


def resize(torch, x, size):
    return torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)


def pixels(torch, given):
    x = np.array(preprocess(given, SPEC))[:, 0]
    return torch.from_numpy(x).permute(0, 3, 1, 2)


# a window fits several times and is moved inside, fits just once, is wider than the picture
@pytest.mark.parametrize("size", [(75, 100), (48, 48), (80, 112), (30, 60), (20, 25)])
def test_windows_are_those_of_mmsegmentation(size):
    torch = pytest.importorskip("torch")
    given = batch(1, size)
    got = Predictor(CONFIG, HEADS).outputs(params(), given, TASK, Feed(SPEC, window=WINDOW))
    expected = slide_inference(torch, pixels(torch, given), *WINDOW).permute(0, 2, 3, 1)
    assert got.scores.shape == (1, *size, 4)
    np.testing.assert_allclose(got.scores, expected, atol=2e-5)


def test_scales_and_mirror_images_slide_too():
    """As mmsegmentation's test-time augmentation: resize, mirror, slide, undo, mean of softmax."""
    torch = pytest.importorskip("torch")
    feed = Feed(SPEC, fusion="probs", scales=(0.5, 1.25), mirrored=True, window=WINDOW)
    got = Predictor(CONFIG, HEADS).outputs(params(), batch(), TASK, feed).scores
    x, parts = pixels(torch, batch()), []
    for size in ((38, 50), (94, 125)):
        for axes in ((), (3,)):
            scores = slide_inference(torch, resize(torch, x, size).flip(axes), *WINDOW)
            parts.append(resize(torch, scores.flip(axes), (75, 100)).softmax(1))
    expected = torch.stack(parts).mean(0).permute(0, 2, 3, 1)
    np.testing.assert_allclose(np.exp(got), expected, atol=1e-5)


def test_every_pixel_is_judged_once_whatever_the_devices():
    feed = Feed(SPEC, window=WINDOW)
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    divided, everywhere = NamedSharding(mesh, P(("data", "fsdp"))), NamedSharding(mesh, P())

    def place(given):
        return jax.tree.map(lambda x: jax.device_put(x, divided), given)

    many = Evaluator(Predictor(CONFIG, HEADS, mesh=mesh), place)
    one = Evaluator(Predictor(CONFIG, HEADS))
    given, ids = batch(8), [str(k) for k in range(8)]
    copies = jax.device_put(params(), everywhere)
    with jax.transfer_guard("disallow"):
        eight = many.evaluate(copies, [(given, ids)], TASK, feed)
    alone = one.evaluate(params(), [(given, ids)], TASK, feed)
    assert alone.predicted.sum() == alone.labelled.sum() == given.label.size
    np.testing.assert_allclose(eight.predicted, alone.predicted, atol=3)
    np.testing.assert_allclose(eight.losses, alone.losses, rtol=1e-4)


def test_a_window_compiles_once_for_pictures_and_scales_of_any_size(monkeypatch):
    traces = []
    run = Predictor._run
    monkeypatch.setattr(Predictor, "_run", lambda *a: traces.append(a[2].shape) or run(*a))
    sliding = Predictor(CONFIG, HEADS)
    feed = Feed(SPEC, scales=(1.0, 1.5), mirrored=True, window=WINDOW)
    for size in ((75, 100), (60, 52), (48, 90)):
        sliding.judge(params(), batch(1, size), TASK, feed)
    assert traces == [(1, 1, 48, 48, 4)]


def test_a_picture_no_larger_than_the_window_is_scored_as_a_whole():
    given, runs = batch(1, (48, 40)), Predictor(CONFIG, HEADS)
    whole = runs.judge(params(), given, TASK, Feed(SPEC))
    slid = runs.judge(params(), given, TASK, Feed(SPEC, window=WINDOW))
    np.testing.assert_allclose(slid.losses, whole.losses, rtol=1e-5)
    np.testing.assert_array_equal(slid.predicted, whole.predicted)


def test_corners():
    grid = Grid(100, 480, Window(480, 320))
    assert (grid.size, grid.tops, grid.lefts) == ((100, 480), [0], [0])
    grid = Grid(481, 1121, Window(480, 320))
    assert (grid.size, grid.tops, grid.lefts) == ((480, 480), [0, 1], [0, 320, 640, 641])
