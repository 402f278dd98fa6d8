import io
import json

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.stills import decode_rgbd
from omnivore_jax.ingest.layouts.base import LayoutOptions
from omnivore_jax.ingest.layouts.sunrgbd import SunRgbd
from omnivore_jax.prepare import Options
from omnivore_jax.prepare import prepare as command
from tests.ingest.downloads import names_in
from tests.ingest.layouts.downloads import lay, prepare, refusal
from tests.media import jpeg, part, png

KITCHEN, LAB = "kv2/kinect2data/000001_2014-05-26", "kv1/NYUdata/NYU0001"
OFFICE, LIBRARY = "realsense/lg/2014_10_21-office", "xtion/sun3ddata/hotel/0001"
TYPES = {KITCHEN: "kitchen", LAB: "lab\n", OFFICE: "office", LIBRARY: "library"}
FX = {KITCHEN: 529.5, LAB: 518.857901, OFFICE: 691.584229, LIBRARY: 570.342205}
BASELINES = {KITCHEN: 0.075, LAB: 0.075, OFFICE: 0.095, LIBRARY: 0.095}
MILLIMETRES = np.linspace(500, 9000, 24 * 32).astype(np.uint16).reshape(24, 32)
HOLES = np.where(np.arange(32) < 4, 0, MILLIMETRES).astype(np.uint16)


def rotated(values):
    """The bits as the PNGs of the release have them."""
    return png((values << 3) | (values >> 13))


def scene(id, name):
    return {
        f"SUNRGBD/{id}/image/a.jpg": jpeg(part(len(id))[:24, :32]),
        f"SUNRGBD/{id}/depth_bfx/a.png": rotated(MILLIMETRES),
        f"SUNRGBD/{id}/depth/b.png": rotated(HOLES),
        f"SUNRGBD/{id}/fullres/a.jpg": b"larger",
        f"SUNRGBD/{id}/annotation2Dfinal/index.json": b"{}",
        f"SUNRGBD/{id}/intrinsics.txt": f"{FX.get(id, 500)} 0 16 0 {FX.get(id, 500)} 12 0 0 1 \n",
        f"SUNRGBD/{id}/scene.txt": name,
    }


def split(train, val):
    """allsplit.mat: cells of paths on the authors' disk, some with a slash at the end."""
    file, content = io.BytesIO(), {}
    for key, ids in {"alltrain": train, "alltest": val}.items():
        content[key] = np.array([f"/n/fs/sun3d/data/SUNRGBD/{id}" for id in ids], object)[None]
    savemat(file, content)
    return {"SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat": file.getvalue()}


def download():
    files = {name: data for id, type in TYPES.items() for name, data in scene(id, type).items()}
    files |= scene("kv2/kinect2data/9", "stairs")
    return files | split([KITCHEN, f"{OFFICE}/", "kv2/kinect2data/9"], [LAB, f"{LIBRARY}/"])


def test_scenes_of_the_classes_are_in_the_splits_of_the_toolbox(tmp_path):
    whole = prepare("sunrgbd", lay(tmp_path / "src", download()), tmp_path / "out")
    names = {
        s: {id: whole.classes[r.label] for id, r in rows.items()}
        for s, rows in whole.records.items()
    }
    assert names == {
        "train": {KITCHEN: "kitchen", OFFICE: "office"},
        "val": {LAB: "lab", LIBRARY: "library"},
    }
    assert len(whole.classes) == 19 and whole.classes == tuple(sorted(whole.classes))
    assert manifest.read(tmp_path / "out").origin["depth"] == "released"


@pytest.mark.parametrize("convention", ["released", "metric"])
def test_disparity_follows_the_formula_of_either_convention(tmp_path, convention):
    """FACTS 8, by hand: baseline x fx / depth, depth in metres or 8 times that."""
    source = lay(tmp_path / "src", download())
    whole = prepare("sunrgbd", source, tmp_path / "out", convention=convention)
    values = MILLIMETRES.astype(int)
    # Rotated by hand: from 8.192 m on the high bits come back at the low end.
    raw = values * 8 % 65536 + values // 8192
    depth = np.clip(raw / 1000, 0.01, 50.0)
    if convention == "metric":
        depth = np.minimum(values / 1000, 8.0)
    for id, record in (whole.records["train"] | whole.records["val"]).items():
        expected = BASELINES[id] * FX[id] / depth
        np.testing.assert_allclose(decode_rgbd(record)[1], expected, rtol=1e-3)
    assert manifest.read(tmp_path / "out").origin["depth"] == convention


def test_raw_depth_has_the_holes_of_the_sensor_and_is_another_dataset(tmp_path):
    source = lay(tmp_path / "src", download())
    filled = prepare("sunrgbd", source, tmp_path / "out").records["train"][KITCHEN]
    raw = prepare("sunrgbd", source, tmp_path / "out", raw_depth=True).records["train"][KITCHEN]
    assert (cv2.imdecode(np.frombuffer(raw.depth, np.uint8), -1)[:, :4] == 0).all()
    assert filled.depth == rotated(MILLIMETRES) and raw.depth == rotated(HOLES)


def test_the_folder_of_the_sensors_itself_is_a_source(tmp_path):
    files = {name.removeprefix("SUNRGBD/"): data for name, data in download().items()}
    whole = prepare("sunrgbd", lay(tmp_path / "src", files), tmp_path / "out")
    assert set(whole.records["train"]) == {KITCHEN, OFFICE}


def test_scenes_without_type_are_missing_and_those_with_broken_files_are_bad(tmp_path, capsys):
    files = download() | {
        f"SUNRGBD/{KITCHEN}/intrinsics.txt": b"none",
        f"SUNRGBD/{OFFICE}/depth_bfx/second.png": b"x",
        f"SUNRGBD/{LIBRARY}/depth_bfx/a.png": png(MILLIMETRES[:, :20]),
    }
    del files[f"SUNRGBD/{LAB}/scene.txt"]
    files |= scene("kv1/b3dodata/img_0063", "bedroom")
    files |= split([KITCHEN, OFFICE, "kv1/b3dodata/img_0063"], [LAB, LIBRARY])
    out = tmp_path / "out"
    command("sunrgbd", Options(str(lay(tmp_path / "src", files)), str(out)))
    assert names_in(out / "missing_files.jsonl") == [LAB]
    rows = [json.loads(line) for line in (out / "bad_files.jsonl").read_text().splitlines()]
    reasons = {row["id"]: row["reason"] for row in rows}
    assert reasons.keys() == {KITCHEN, OFFICE, LIBRARY}
    assert "does not begin with the focal length" in reasons[KITCHEN]
    assert "should have one file; there is: a.png, second.png" in reasons[OFFICE]
    assert "20 x 24 pixels" in reasons[LIBRARY]
    said = capsys.readouterr().out
    assert "depth: released, depth_maps: depth_bfx" in said
    assert "train has 1 of the official 4,845" in said


def test_a_download_that_lacks_much_or_is_another_is_refused_in_one_line(tmp_path):
    assert "has no folder SUNRGBD" in refusal("sunrgbd", lay(tmp_path / "0", {"a.txt": "x"}))
    files = download()
    lone = lay(tmp_path / "1", {k: v for k, v in files.items() if "toolbox" not in k})
    assert "has no allsplit.mat, the split of the toolbox" in refusal("sunrgbd", lone)
    few = lay(tmp_path / "2", {k: v for k, v in files.items() if OFFICE not in k})
    assert "lacks 1 of the 4 scenes that its lists name" in refusal("sunrgbd", few)
    assert len(SunRgbd().list(few, LayoutOptions(max_missing=0.3)).missing) == 1
    damaged = lay(tmp_path / "3", files | {k: b"x" for k in split([], [])})
    assert "allsplit.mat cannot be read" in refusal("sunrgbd", damaged)
    assert "--val=0.1" in refusal("sunrgbd", few, val=0.1)
    with pytest.raises(UserError, match="--depth_rotated=True means nothing for sunrgbd; give"):
        command("sunrgbd", Options(str(few), str(tmp_path / "o"), depth_rotated=True))
    with pytest.raises(UserError, match="--raw_depth=True means nothing for folder"):
        command("folder", Options(str(few), str(tmp_path / "o"), raw_depth=True))
