"""Samples are shown from where their features came: the demo, prepared datasets, files."""

import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.inference.feature_set import FeatureSet
from omnivore_jax.inference.showing import samples_of
from omnivore_jax.prepare import Options, prepare
from omnivore_jax.reporting.retrieval_page import shown, write_retrieval
from tests.ingest.downloads import lay
from tests.media import clip, jpeg, part


def features(ids, **origin):
    return FeatureSet(
        np.eye(len(ids), dtype=np.float32), tuple(ids), np.zeros(len(ids), int), ("a",), origin
    )


def test_pictures_and_clips_of_files(tmp_path):
    lay(tmp_path, {"a.jpg": jpeg(part(1)), "b.mp4": clip()})
    picture, film = samples_of(
        features([str(tmp_path / "a.jpg"), str(tmp_path / "b.mp4")]), [0, 1], ""
    )
    assert picture.rgb.shape == (1, 112, 112, 3) and film.rgb.shape == (4, 112, 112, 3)
    with pytest.raises(UserError, match=r"gone\.jpg"):
        samples_of(features([str(tmp_path / "gone.jpg")]), [0], "")


def test_samples_of_a_dataset_by_their_place(tmp_path):
    files = {f"{split}/cat/{k}.jpg": jpeg(part(k)) for split in ("train", "val") for k in range(3)}
    source = lay(tmp_path / "src", files)
    prepare("folder", Options(str(source), str(tmp_path / "cats"), threads=1))
    ids = [f"val/cat/{k}.jpg" for k in range(3)]
    found = samples_of(features(ids, dataset="cats", split="val"), [2, 0], str(tmp_path))
    assert [sample.id for sample in found] == [ids[2], ids[0]]
    with pytest.raises(UserError, match="cats has 3 samples in val, the features 2"):
        samples_of(features(ids[:2], dataset="cats", split="val"), [0], str(tmp_path))


def test_a_page_shows_queries_and_what_they_found_depth_as_depth(tmp_path):
    reliefs = features([str(k) for k in range(1000)], dataset="demo_rgbd", split="val")
    one, two = samples_of(reliefs, [3, 4], "")
    plain, depth = shown(one, "all", "3"), shown(two, "depth", "4", similarity=0.5, right=False)
    assert not np.array_equal(depth.frames, two.rgb)
    write_retrieval(tmp_path / "page.html", "a among b.", [(plain, [depth, plain])], None)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 3 and "✗ 4" in page and "0.50" in page
