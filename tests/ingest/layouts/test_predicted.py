import io
import json

import cv2
import numpy as np
import pytest

from omnivore_jax import prepare as command
from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.depth import depth_of, disparity_of
from omnivore_jax.data.records import RecordReader
from omnivore_jax.data.stills import decode_rgbd
from omnivore_jax.ingest.layouts.predicted import STORED, store
from omnivore_jax.prepare import Options
from tests.ingest.layouts import downloads
from tests.ingest.layouts.downloads import files_of, lay
from tests.ingest.layouts.test_imagenet import packed
from tests.media import clip, jpeg, part

HEIGHT, WIDTH = 80, 96
NAMES = ("cat/1.jpg", "cat/2.jpeg", "dog/1.JPG", "dog/3.jpg")
DISPARITY = np.linspace(-3, 90, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)


def encode(values, suffix):
    file = io.BytesIO()
    if suffix == ".npy":
        np.save(file, values)
    elif suffix == ".npz":
        np.savez_compressed(file, depth=values)
    else:
        return cv2.imencode(suffix, values)[1].tobytes()
    return file.getvalue()


def lay_maps(root, names=NAMES, values=DISPARITY, suffix=".npy"):
    return lay(root, {name.rpartition(".")[0] + suffix: encode(values, suffix) for name in names})


@pytest.fixture
def pictures(tmp_path):
    return lay(tmp_path / "src", {name: jpeg(part(k)) for k, name in enumerate(NAMES)})


def prepare(source, out, maps, layout="folder", **options):
    options = {"json": True, "threads": 2} | options
    command.prepare(layout, Options(str(source), str(out), depth=str(maps), **options))
    whole = manifest.read(out)
    readers = [RecordReader(out, shards) for shards in whole.splits.values()]
    return whole, {r[k].id: r[k] for r in readers for k in range(len(r))}


def refusal(source, out, maps, **options):
    with pytest.raises(UserError) as error:
        prepare(source, out, maps, **options)
    [message] = error.value.args
    assert "\n" not in message
    return message


def bad(out):
    rows = map(json.loads, (out / "bad_files.jsonl").read_text().splitlines())
    return {row["id"]: row["reason"] for row in rows}


def test_disparity_comes_back_within_what_16_bits_hold():
    """Half a step of depth, .0001, and .048 at the far end; 1 % of 75 is .34 deviations there."""
    stated = np.geomspace(0.001, 500, 100_000, dtype=np.float32)[None]
    back = disparity_of(depth_of(store(stated), STORED.scale), STORED.fx, STORED.baseline)
    expected = np.clip(stated.astype(float), 0.01, 75)
    error = np.abs(back - expected)
    near = expected >= 0.0573
    assert (error <= np.where(near, 1.01 * 0.0001 * expected**2 / 0.75 + 1e-5, 0.048)).all()
    assert (error / expected)[near].max() < 0.0101 and (np.diff(back) >= 0).all()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pfm", ".tiff"])
def test_predicted_disparity_is_taken_as_it_stands_and_what_is_negative_is_far(
    pictures, tmp_path, suffix
):
    maps = lay_maps(tmp_path / "maps", suffix=suffix)
    whole, records = prepare(pictures, tmp_path / "out", maps)
    assert whole.kind == "rgbd" and set(records) == set(NAMES)
    assert whole.origin["depth_maps"] == "predicted" and whole.origin["depth_kind"] == "disparity"
    for id, record in records.items():
        assert record.media == (pictures / id).read_bytes()
        expected = np.clip(DISPARITY, 0.01, 75)
        np.testing.assert_allclose(decode_rgbd(record)[1], expected, rtol=0.0101, atol=0.048)


def test_pictures_in_the_archives_of_imagenet_keep_labels_bytes_and_splits(tmp_path):
    source = lay(tmp_path / "src", packed())
    plain = downloads.prepare("imagenet", source, tmp_path / "plain")
    expected = plain.records["train"] | plain.records["val"]
    small = np.geomspace(0.5, 30, 24 * 40, dtype=np.float32).reshape(24, 40)
    maps = lay_maps(tmp_path / "maps", expected, small)
    whole, records = prepare(source, tmp_path / "out", maps, "imagenet")
    assert whole.classes == plain.classes and list(whole.splits) == list(plain.records)
    assert {r.id: (r.label, r.media) for r in records.values()} == {
        r.id: (r.label, r.media) for r in expected.values()
    }
    for record in records.values():
        np.testing.assert_allclose(decode_rgbd(record)[1], small, rtol=5e-3)


@pytest.mark.parametrize(("kind", "power"), [("inverse", 38.9145), ("disparity", 1.0)])
def test_whole_numbers_are_multiplied_by_their_unit(pictures, tmp_path, kind, power):
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) + 500
    maps = lay_maps(tmp_path / "maps", values=values, suffix=".png")
    fx = 518.86 if kind == "inverse" else 0.0
    _, records = prepare(
        pictures, tmp_path / "out", maps, depth_kind=kind, fx=fx, depth_scale=0.0002
    )
    expected = np.clip(values * 0.0002 * power, 0.01, 75)
    for record in records.values():
        np.testing.assert_allclose(decode_rgbd(record)[1], expected, rtol=0.0101)


def test_metres_become_disparity_by_the_formula(pictures, tmp_path):
    """FACTS 8, by hand: baseline x fx / depth, clipped to 0.01 .. 50; what is no number is far."""
    metres = np.linspace(0.4, 80, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    metres[0, :3] = 0, np.nan, -1
    maps = lay_maps(tmp_path / "maps", values=metres)
    _, records = prepare(
        pictures, tmp_path / "out", maps, depth_kind="metres", fx=500.0, baseline=0.1
    )
    seen = np.where(metres > 0, metres, 50)
    for record in records.values():
        expected = 0.1 * 500 / np.clip(seen, 0.01, 50)
        np.testing.assert_allclose(decode_rgbd(record)[1], expected, rtol=2e-3)


def test_maps_may_lie_in_one_folder_be_smaller_and_those_of_floats_come_first(pictures, tmp_path):
    (pictures / "dog" / "1.JPG").rename(pictures / "dog" / "4.jpg")
    names = ("1.x", "2.x", "3.x", "4.x")
    small = np.full((HEIGHT // 2, WIDTH // 2), 3.0, np.float32)
    maps = lay_maps(tmp_path / "maps", names, small, ".pfm")
    lay_maps(maps, names, np.full((HEIGHT, WIDTH), 60_000, np.uint16), ".png")
    _, records = prepare(pictures, tmp_path / "out", maps)
    assert len(records) == 4
    for record in records.values():
        disparity = decode_rgbd(record)[1]
        assert disparity.shape == (HEIGHT, WIDTH)
        np.testing.assert_allclose(disparity, 3.0, rtol=5e-4)


def test_a_damaged_map_is_a_bad_file_with_a_reason(pictures, tmp_path):
    maps = lay_maps(tmp_path / "maps")
    (maps / "cat" / "1.npy").write_bytes(encode(DISPARITY, ".npy")[:-100])
    (maps / "cat" / "2.npy").write_bytes(encode(np.stack([DISPARITY] * 3), ".npy"))
    (maps / "dog" / "1.npy").write_bytes(encode(DISPARITY[:40], ".npy"))
    _, records = prepare(pictures, tmp_path / "out", maps)
    reasons = bad(tmp_path / "out")
    assert set(records) == {"dog/3.jpg"} and set(reasons) == set(NAMES[:3])
    assert "damaged" in reasons["cat/1.jpg"] and "two dimensions" in reasons["cat/2.jpeg"]
    assert "do not show the same part" in reasons["dog/1.JPG"]


@pytest.mark.parametrize("suffix", [".npz", ".pfm", ".tiff", ".png"])
def test_a_file_that_is_cut_short_is_bad_whatever_its_format(pictures, tmp_path, suffix):
    values = (DISPARITY * 500 + 2000).astype(np.uint16) if suffix == ".png" else DISPARITY
    maps = lay_maps(tmp_path / "maps", values=values, suffix=suffix)
    data = encode(values, suffix)
    (maps / f"cat/1{suffix}").write_bytes(data[: len(data) // 2])
    (maps / f"cat/2{suffix}").write_bytes(b"")
    prepare(pictures, tmp_path / "out", maps)
    assert set(bad(tmp_path / "out")) == {"cat/1.jpg", "cat/2.jpeg"}


def test_pictures_without_maps_are_missing_within_the_budget(pictures, tmp_path):
    maps = lay_maps(tmp_path / "maps", NAMES[:3])
    line = refusal(pictures, tmp_path / "out", maps)
    assert "lacks 1 of the 4 maps, the first is that of dog/3.jpg" in line
    _, records = prepare(pictures, tmp_path / "out", maps, max_missing=0.25)
    assert set(records) == set(NAMES[:3])
    missing = (tmp_path / "out" / "missing_files.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in missing] == ["dog/3.jpg"]


def test_shards_are_made_anew_when_maps_are_read_otherwise(pictures, tmp_path):
    maps, out = lay_maps(tmp_path / "maps"), tmp_path / "out"
    prepare(pictures, out, maps)
    first = files_of(out)
    prepare(pictures, out, maps)
    assert files_of(out) == first
    _, records = prepare(pictures, out, maps, depth_kind="inverse", fx=10.0, baseline=0.1)
    expected = np.clip(DISPARITY, 0.01, 75)
    for record in records.values():
        np.testing.assert_allclose(decode_rgbd(record)[1], expected, rtol=0.0101, atol=0.048)
    assert manifest.read(out).origin["depth_kind"] == "inverse" and files_of(out) != first


def test_what_does_not_fit_is_refused_in_one_line(pictures, tmp_path):
    maps, out = lay_maps(tmp_path / "maps"), tmp_path / "out"
    assert "--depth=" in refusal(pictures, out, tmp_path / "none") and not out.exists()
    assert "--depth_kind=inverse without --depth" in refusal(
        pictures, out, "", depth_kind="inverse"
    )
    assert "needs a focal length" in refusal(pictures, out, maps, depth_kind="metres")
    assert "--fx=500 means nothing" in refusal(pictures, out, maps, fx=500.0)
    assert "--depth_rotated means nothing" in refusal(pictures, out, maps, depth_rotated=True)
    empty = lay(tmp_path / "empty", {"notes.txt": "none"})
    assert "has none of the 4 maps" in refusal(pictures, out, empty)
    flat = lay_maps(tmp_path / "flat", ("1.x", "2.x", "3.x"))
    assert "the map of cat/1.jpg and of dog/1.JPG" in refusal(pictures, out, flat)
    clips = lay(tmp_path / "clips", {"a/1.mp4": clip(n=10), "b/2.mp4": clip(n=10)})
    assert "of kind video" in refusal(clips, out, maps)
