import cv2
import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.decode import DecodeError
from omnivore_jax.data.records import RecordReader
from omnivore_jax.ingest.inpaint import RADIUS, Filled, inpainted
from omnivore_jax.ingest.layouts.base import FileBytes, LayoutOptions
from omnivore_jax.ingest.layouts.sunrgbd import SunRgbd
from omnivore_jax.ingest.shards import digest_of
from omnivore_jax.prepare import Options, prepare
from tests.ingest.layouts.downloads import lay, picture
from tests.ingest.layouts.test_sunrgbd import KITCHEN, MILLIMETRES, download
from tests.media import png

PLANE = np.tile(np.arange(2000, 2040, dtype=np.uint16), (24, 1))
HOLE = (slice(8, 13), slice(9, 15))


def rotated(values):
    return (values << 3) | (values >> 13)


def with_hole(values):
    values = values.copy()
    values[HOLE] = 0
    return values


def read(tmp_path, values, bits_rotated=False):
    path = tmp_path / "map.png"
    path.write_bytes(values if isinstance(values, bytes) else png(values))
    data = Filled(FileBytes(path), bits_rotated).read()
    return data, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_hole_in_a_plane_becomes_the_plane_and_the_rest_is_kept(tmp_path):
    data, filled = read(tmp_path, with_hole(PLANE))
    assert filled.dtype == np.uint16 and data == read(tmp_path, with_hole(PLANE))[0]
    seen = with_hole(PLANE) > 0
    np.testing.assert_array_equal(filled[seen], PLANE[seen])
    assert np.abs(filled.astype(int) - PLANE)[HOLE].max() <= 4


@pytest.mark.parametrize("millimetres", [PLANE, PLANE + 6170])
def test_bits_are_rotated_back_before_and_again_after(tmp_path, millimetres):
    """Also across 8,192 mm, where the highest bits come back as the lowest."""
    _, plain = read(tmp_path, with_hole(millimetres))
    _, filled = read(tmp_path, rotated(with_hole(millimetres)), bits_rotated=True)
    np.testing.assert_array_equal(filled, rotated(plain))


@pytest.mark.parametrize("values", [PLANE, np.zeros_like(PLANE)])
def test_a_map_without_holes_or_without_values_keeps_its_bytes(tmp_path, values):
    assert read(tmp_path, values)[0] == png(values)


def test_what_is_no_depth_map_is_damaged(tmp_path):
    with pytest.raises(DecodeError):
        read(tmp_path, b"no picture")


def test_the_digest_of_a_shard_knows_of_it_and_the_bits_of_sun_are_rotated(tmp_path):
    source = lay(tmp_path / "src", download())
    for convention in ("released", "metric"):
        options = LayoutOptions(convention=convention, raw_depth=True)
        item = SunRgbd().list(source, options).item(KITCHEN)
        made = inpainted(item)
        assert digest_of("rgbd", [made]) != digest_of("rgbd", [item])
        values = cv2.imdecode(np.frombuffer(made.depth.media.read(), np.uint8), -1)
        back = (values >> 3) | (values << 13)
        # The hole is the left edge: its values are those of the rows around, not of mixed bits.
        row = int(MILLIMETRES[1, 4]) - int(MILLIMETRES[0, 4])
        assert (np.abs(back[:, :4].astype(int) - MILLIMETRES[:, 4:5]) < RADIUS * row).all()
        np.testing.assert_array_equal(back[:, 4:], MILLIMETRES[:, 4:])


def test_a_folder_is_stored_without_holes_and_the_manifest_says_so(tmp_path, capsys):
    files = {f"{c}/{k}.jpg": picture(k) for k, c in enumerate("ab")}
    maps = {name.replace(".jpg", ".depth.png"): png(with_hole(PLANE)) for name in files}
    source, out = lay(tmp_path / "src", files | maps), tmp_path / "out"
    prepare("folder", Options(str(source), str(out), fx=500.0))
    prepare("folder", Options(str(source), str(out), fx=500.0, inpaint=True))
    whole = manifest.read(out)
    record = RecordReader(out, whole.splits["train"])[0]
    assert cv2.imdecode(np.frombuffer(record.depth, np.uint8), -1).all()
    assert whole.origin["by"] == "omnivore_jax.prepare folder --inpaint"
    only = lay(tmp_path / "pictures", files)
    with pytest.raises(UserError, match="--inpaint, but .* has no depth maps; leave it out"):
        prepare("folder", Options(str(only), str(tmp_path / "o"), inpaint=True))
