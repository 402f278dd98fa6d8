import io
import json
from dataclasses import replace
from functools import cache

import cv2
import h5py
import numpy as np
import pytest
from scipy.io import savemat

from omnivore_jax.data import manifest
from omnivore_jax.data.decode import decode_image, decode_label_map
from omnivore_jax.data.stills import decode_rgbd
from omnivore_jax.ingest.faults import find_record_faults, find_row_faults
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


NAMES = 12
"""Of things in the file, in place of 894."""
NAME_MAPS = np.random.default_rng(0).integers(0, NAMES + 1, (5, 12, 16))
NAME_MAPS = NAME_MAPS.repeat(40, 1).repeat(40, 2).astype(np.uint16)
MAP_CLASSES = np.array([1, 2, 3, 4, 5, 40, 39, 38, 1, 2, 0, 7])


def mapping(names=40, classes=MAP_CLASSES):
    file = io.BytesIO()
    known = np.array([f"class {k}" for k in range(1, names + 1)], object)[None]
    savemat(file, {"className": known, "mapClass": classes[None].astype(np.uint8)})
    return file.getvalue()


@cache
def large():
    """The file with pictures and depth of its real size, and labels."""
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        pictures = np.stack([cv2.resize(part(k), (640, 480)) for k in range(5)])
        content["images"] = pictures.transpose(0, 3, 2, 1)
        slope = np.linspace(0.8, 6.0, 480, dtype=np.float32)[:, None]
        near = (NAME_MAPS % 3 + 1).astype(np.float32)  # what a thing is shows in its depth
        content["depths"] = (slope * near / 2).transpose(0, 2, 1)
        content["rawDepths"] = content["depths"][:]
        content["labels"] = NAME_MAPS.transpose(0, 2, 1)
    return file.getvalue()


def segmentation_download():
    return {
        "nyu_depth_v2_labeled.mat": large(),
        "splits.mat": splits(),
        "classMapping40.mat": mapping(),
    }


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


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyu")
    source = lay(folder / "src", segmentation_download())
    return folder / "out", prepare("nyu_seg", source, folder / "out")


def test_names_become_forty_classes_and_all_is_cut_to_what_has_depth(segmentation):
    out, whole = segmentation
    assert len(whole.classes) == 40 and whole.classes[39] == "class_40"
    assert manifest.read(out).labels == "map"
    for id, record in (whole.records["train"] | whole.records["val"]).items():
        names = NAME_MAPS[int(id) - 1][44:471, 40:601]
        by_hand = {0: 255} | {n + 1: int(c) - 1 if c else 255 for n, c in enumerate(MAP_CLASSES)}
        expected = np.vectorize(by_hand.get)(names)
        np.testing.assert_array_equal(decode_label_map(record.label_map), expected)
        rgb, disparity = decode_rgbd(record)
        assert rgb.shape == (427, 561, 3) and disparity.shape == (427, 561) and record.label == 0


def test_rows_and_counts_tell_which_pictures_show_a_class(segmentation):
    out, whole = segmentation
    rows = [json.loads(line) for line in (out / "train-00000.jsonl").read_text().splitlines()]
    for row in rows:
        shown = np.unique(decode_label_map(whole.records["train"][row["id"]].label_map))
        assert row["shows"] == [int(k) for k in shown if k < 255] and row["label"] == 0
    report = json.loads((out / "parts" / "train-00000.json").read_text())
    assert report["shard"]["count"] == 3 and report["labels"]["0"] == 3


def test_verify_finds_a_map_of_another_dataset_and_a_label_out_of_range(segmentation, tmp_path):
    out, _ = segmentation
    whole = manifest.read(out)
    assert find_row_faults(out, whole) == []
    assert find_record_faults(out, whole, 2, lambda: None) == []
    few = replace(whole, classes=whole.classes[:30])
    assert "has label 39, the manifest has 30 classes" in find_row_faults(out, few)[0]
    fault = find_record_faults(out, few, 2, lambda: None)[0]
    assert "its map has label 39, none of 30 classes" in fault


def test_a_mapping_that_does_not_fit_is_explained(tmp_path):
    files = segmentation_download()
    one = lay(tmp_path / "1", {k: v for k, v in files.items() if not k.startswith("class")})
    assert "has no classMapping40.mat" in refusal("nyu_seg", one)
    two = lay(tmp_path / "2", files | {"classMapping40.mat": mapping(names=20)})
    assert "mapClass runs to 40, className has 20 names" in refusal("nyu_seg", two)
    three = lay(tmp_path / "3", files | {"nyu_depth_v2_labeled.mat": labeled()})
    assert "has no 'labels', only" in refusal("nyu_seg", three)
