"""Windows slide over a video as by hand, and are seen as clips of their own."""

from pathlib import Path

import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch
from omnivore_jax.data import image_ops
from omnivore_jax.data.decode import Clip
from omnivore_jax.eval.predictor import Predictor
from omnivore_jax.inference.extraction import along_videos
from omnivore_jax.inference.media import Medium
from omnivore_jax.inference.trained import open_trained
from omnivore_jax.inference.windows import Sliding, features_along
from omnivore_jax.model.preprocess import preprocess
from tests import media

WEIGHTS = Path(__file__).parents[1] / "before" / "before.safetensors"


@pytest.fixture(scope="module")
def trained():
    return open_trained(WEIGHTS)


@pytest.mark.parametrize(
    ("window", "step", "spans"),
    [
        ("20", "", [(0, 19), (20, 39), (40, 59)]),
        ("30", "15", [(0, 29), (15, 44), (30, 59)]),
        ("25", "25", [(0, 24), (25, 49)]),  # what is left is shorter than a window
        ("100", "", [(0, 59)]),
        ("1s", "", [(0, 24), (25, 49)]),
        ("1s", "0.5s", [(0, 24), (13, 37), (25, 49)]),
        ("9s", "1s", [(0, 59)]),
    ],
)
def test_windows_of_sixty_frames_at_twenty_five_a_second(window, step, spans):
    found = Sliding.parse(window, step).windows(np.arange(60) / 25)
    assert [(int(w[0]), int(w[-1])) for w in found] == spans
    assert all((np.diff(w) == 1).all() for w in found)


@pytest.mark.parametrize(
    ("window", "step", "says"),
    [
        ("x", "", "--window=x; use seconds, 2s, or a number of frames, 64"),
        ("0", "", "--window=0"),
        ("2s", "-1s", "--step=-1s"),
        ("2s", "8", "--window=2s, --step=8; give both in seconds or in frames"),
    ],
)
def test_what_is_no_window_is_one_line(window, step, says):
    with pytest.raises(UserError) as error:
        Sliding.parse(window, step)
    assert says in str(error.value)


def test_a_window_has_the_feature_of_its_frames(trained, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(media.clip())
    model = trained.model
    predictor = Predictor(model.config, model.heads, model.compute)
    sliding = Sliding.parse("20", "10")
    [(ids, found)] = features_along(trained, Medium(path, "video"), predictor, sliding)
    assert ids[1] == f"{path}@0.400-1.160" and len(ids) == len(found) == 5
    clip = Clip(path.read_bytes())
    chosen = 10 + np.floor(np.linspace(0, 19, 8)).astype(int)
    frames = image_ops.resize(clip.frames(chosen), 32, 42)
    rgb = image_ops.crop(frames, image_ops.center_box(32, 42, 32))[None]
    batch = Batch(rgb, None, np.zeros(1, np.int32), np.ones(1, bool))
    feature = np.asarray(model.features(preprocess(batch, trained.preprocessings["video"])))
    np.testing.assert_allclose(found[1], feature[0] / np.linalg.norm(feature), atol=1e-5)


def test_damaged_videos_are_named_and_pictures_refused(trained, tmp_path):
    good, bad = tmp_path / "a.mp4", tmp_path / "b.mp4"
    good.write_bytes(media.clip(n=20))
    bad.write_bytes(b"no clip")
    files = [Medium(path, "video") for path in (good, bad)]
    found, faults = along_videos(trained, files, Sliding.parse("10", ""), lambda: None)
    assert len(found.ids) == 2 and [medium.path for medium, _ in faults] == [bad]
    with pytest.raises(UserError, match="none of the 1 videos can be read"):
        along_videos(trained, files[1:], Sliding.parse("10", ""), lambda: None)
    with pytest.raises(UserError, match="--window is for videos"):
        along_videos(trained, [Medium(good, "image")], Sliding.parse("10", ""), lambda: None)
