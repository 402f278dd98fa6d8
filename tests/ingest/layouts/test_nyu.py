import io

import cv2
import h5py
import numpy as np
import pytest
from scipy.io import savemat

from omnivore_jax.data import manifest
from omnivore_jax.data.decode import decode_image
from omnivore_jax.data.transforms import decode_rgbd
from omnivore_jax.ingest.layouts.nyu import CLASSES, millimetres
from tests.ingest.layouts.downloads import files_of, lay, prepare, refusal
from tests.media import part

TYPES = ("kitchen", "office_kitchen", "bedroom", "home_office", "cafe")
PICTURES = np.stack([part(k)[:24, :32] for k in range(5)])
METRES = np.linspace(0.7, 9.9, 5 * 24 * 32, dtype=np.float32).reshape(5, 24, 32)


def labeled():
    """The file as MATLAB writes it: columns first, strings as cells that refer to characters."""
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content["images"] = PICTURES.transpose(0, 3, 2, 1)
        content["depths"] = METRES.transpose(0, 2, 1)
        raw = METRES.copy()
        raw[:, :, :4] = 0
        content["rawDepths"] = raw.transpose(0, 2, 1)
        cells = content.create_dataset("sceneTypes", (1, 5), h5py.ref_dtype)
        for k, name in enumerate(TYPES):
            characters = np.array(list(map(ord, name)), np.uint16)[:, None]
            content[f"#refs#/{k}"] = characters
            cells[0, k] = content[f"#refs#/{k}"].ref
    return file.getvalue()


def splits(train=(1, 2, 4), test=(3, 5)):
    file = io.BytesIO()
    content = {"trainNdxs": train, "testNdxs": test}
    savemat(file, {name: np.array(v, np.uint16)[:, None] for name, v in content.items()})
    return file.getvalue()


def download():
    return {"nyu_depth_v2_labeled.mat": labeled(), "splits.mat": splits()}


def test_pictures_classes_and_splits_are_those_of_the_files(tmp_path):
    whole = prepare("nyu_scenes", lay(tmp_path / "src", download()), tmp_path / "out")
    assert whole.classes == CLASSES and len(CLASSES) == 10
    assert {s: whole.labels(s) for s in whole.records} == {
        "train": {"0001": "kitchen", "0002": "others", "0004": "home_office"},
        "val": {"0003": "bedroom", "0005": "others"},
    }
    for id, record in (whole.records["train"] | whole.records["val"]).items():
        np.testing.assert_array_equal(decode_image(record.media), PICTURES[int(id) - 1])


@pytest.mark.parametrize(("convention", "factor"), [("metric", 1), ("released", 8)])
def test_disparity_follows_the_formula_of_either_convention(tmp_path, convention, factor):
    """FACTS 8, by hand: 0.075 m x 518.8579 pixels / depth."""
    source = lay(tmp_path / "src", download())
    whole = prepare("nyu_scenes", source, tmp_path / "out", convention=convention)
    for id, record in whole.records["train"].items():
        expected = 0.075 * 518.8579 / np.minimum(factor * METRES[int(id) - 1], 50)
        np.testing.assert_allclose(decode_rgbd(record)[1], expected, rtol=1e-3)
    assert manifest.read(tmp_path / "out").origin["depth"] == convention


def test_raw_depth_keeps_its_holes_and_bytes_are_the_same_each_time(tmp_path):
    source = lay(tmp_path / "src", download())
    whole = prepare("nyu_scenes", source, tmp_path / "out", raw_depth=True)
    depth = whole.records["train"]["0001"].depth
    assert (cv2.imdecode(np.frombuffer(depth, np.uint8), -1)[:, :4] == 0).all()
    prepare("nyu_scenes", source, tmp_path / "again", raw_depth=True)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "again")


def test_what_is_no_depth_is_missing():
    metres = np.array([[0.7126, -1.0, np.nan, np.inf, 65.6, 65.5]])
    assert millimetres(metres).tolist() == [[713, 0, 0, 0, 0, 65500]]


def test_what_is_not_the_download_is_explained_in_one_line(tmp_path):
    files = download()
    one = lay(tmp_path / "1", {"nyu_depth_v2_labeled.mat": files["nyu_depth_v2_labeled.mat"]})
    assert "has no splits.mat" in refusal("nyu_scenes", one)
    two = lay(tmp_path / "2", files | {"nyu_depth_v2_labeled.mat": b"cut short"})
    assert "nyu_depth_v2_labeled.mat cannot be read" in refusal("nyu_scenes", two)
    three = lay(tmp_path / "3", files | {"splits.mat": splits(train=(1, 1450))})
    assert "trainNdxs names picture 1450 of 5" in refusal("nyu_scenes", three)
    four = lay(tmp_path / "4", files | {"splits.mat": files["nyu_depth_v2_labeled.mat"]})
    assert "splits.mat cannot be read" in refusal("nyu_scenes", four)
