"""Files that a person points at are told by their content."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.depth import Intrinsics
from omnivore_jax.inference.media import Finder
from tests import media

UNKNOWN = Intrinsics(0.0, 0.075, 0.001)
FINDER = Finder(None, UNKNOWN._replace(fx=500.0))
PICTURE = media.jpeg(media.scene(3))
DEPTH = media.png(media.depth_map(*media.SIDE))


def write(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_D", ".depth").replace("_O", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_a_folder_is_told_file_by_file(tmp_path):
    folder = write(
        tmp_path,
        a_Ojpg=PICTURE,
        b_Odat=media.clip(n=4),
        s__c_Ojpg=PICTURE,
        s__c_D_Opng=DEPTH,
        s__alone_D_Opng=DEPTH,
        sun__image__d_Ojpg=PICTURE,
        sun__depth__d_Opng=DEPTH,
        grey_Opng=DEPTH,
        noise_Ojpg=b"no picture",
        notes_Otxt=b"no medium at all",
    )
    items, others = FINDER.find([folder])
    found = {str(item.path.relative_to(folder)): item.kind for item in items}
    assert found == {
        "a.jpg": "image",
        "b.dat": "video",
        "s/c.jpg": "rgbd",
        "sun/image/d.jpg": "rgbd",
    }
    assert {path.name for path, _ in others} == {"alone.depth.png", "grey.png", "noise.jpg"}


def test_depth_that_is_named_goes_with_its_picture(tmp_path):
    write(tmp_path, a_Ojpg=PICTURE, far_Opng=DEPTH)
    (tmp_path / "depth.json").write_text('{"fx": 123.0, "scale": 0.002}')
    depth = tmp_path / "far.png"
    (item,) = Finder(depth, UNKNOWN).find([tmp_path / "a.jpg"]).items
    record = item.record()
    assert (item.kind, record.fx, record.scale, record.depth) == ("rgbd", 123.0, 0.002, DEPTH)


def test_a_map_without_a_focal_length_is_refused(tmp_path):
    write(tmp_path, a_Ojpg=PICTURE, a_D_Opng=DEPTH)
    with pytest.raises(UserError, match=r"a\.depth\.png: its focal length is not known; give --fx"):
        Finder(None, UNKNOWN).find([tmp_path])


@pytest.mark.parametrize(
    ("content", "words"),
    [(DEPTH, "a 16-bit grey PNG"), (b"", "an empty file"), (b"text", "neither a picture nor")],
)
def test_a_file_that_is_named_has_to_be_a_medium(tmp_path, content, words):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        FINDER.find([path])


def test_what_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        FINDER.find([tmp_path / "none.jpg"])
    with pytest.raises(UserError, match="holds no picture and no clip"):
        FINDER.find([tmp_path])
    write(tmp_path, a_Ojpg=PICTURE, b_Ojpg=PICTURE)
    with pytest.raises(UserError, match="belongs to one picture"):
        Finder(tmp_path / "d.png", UNKNOWN).find([tmp_path])


def test_a_copy_of_a_clip_is_one_whatever_its_name(tmp_path):
    case = Path(__file__).parents[1] / "data" / "cases" / "title_not_utf8.avi"
    shutil.copy(case, tmp_path / "clip.jpg")
    assert [item.kind for item in FINDER.find([tmp_path]).items] == ["video"]
    assert np.all([item.depth is None for item in FINDER.find([tmp_path]).items])


def test_a_depth_json_above_the_folder_is_somebody_elses(tmp_path):
    write(tmp_path, s__a_Ojpg=PICTURE, s__a_D_Opng=DEPTH)
    (tmp_path / "depth.json").write_text('{"another": "program"}')
    (item,) = FINDER.find([tmp_path / "s"]).items
    assert item.intrinsics is not None and item.intrinsics.fx == 500.0


def test_a_picture_that_is_named_brings_the_map_beside_it(tmp_path):
    write(tmp_path, a_Ojpg=PICTURE, a_D_Opng=DEPTH, b_Ojpg=PICTURE)
    items = FINDER.find([tmp_path / "a.jpg", tmp_path / "b.jpg"]).items
    assert [item.kind for item in items] == ["rgbd", "image"]
    assert items[0].depth == tmp_path / "a.depth.png"
