import json
import sys

import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.ingest import preparation
from omnivore_jax.ingest.layouts.base import LayoutOptions
from omnivore_jax.ingest.layouts.table import LAYOUTS
from omnivore_jax.ingest.preparation import Work
from tests.ingest.downloads import numbers
from tests.ingest.layouts.downloads import files_of, lay, no_meter, picture, prepare, refusal
from tests.media import clip, depth_map, part, png

FILES = {f"pictures/{k}.jpg": picture(k) for k in range(4)} | {"9, b.jpg": picture(9)}
TABLE = """\
\ufefflabel,path,split
dog,pictures/0.jpg,
cat,pictures/1.jpg,train
cat,pictures/2.jpg,val

dog,"9, b.jpg",test
"""


def test_labels_are_names_and_paths_begin_at_the_table(tmp_path):
    whole = prepare(
        "manifest", lay(tmp_path / "src", FILES | {"manifest.csv": TABLE}), tmp_path / "a"
    )
    assert whole.classes == ("cat", "dog")
    assert {split: whole.labels(split) for split in whole.records} == {
        "train": {"0.jpg": "dog", "1.jpg": "cat"},
        "val": {"2.jpg": "cat"},
        "test": {"9, b.jpg": "dog"},
    }
    records = [record for rows in whole.records.values() for record in rows.values()]
    assert all(record.media == FILES[record.id] for record in records)
    (tmp_path / "src" / "manifest.csv").rename(tmp_path / "src" / "mine.csv")
    prepare("manifest", tmp_path / "src" / "mine.csv", tmp_path / "b")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_labels_are_numbers_and_a_share_is_held_out(tmp_path):
    rows = "".join(f"pictures/{k}.jpg,{k % 2}\n" for k in range(4))
    lay(tmp_path / "src", FILES | {"manifest.csv": "path,label\n" + rows})
    whole = prepare("manifest", tmp_path / "src", tmp_path / "out", val=0.5)
    assert whole.classes == ("0", "1")
    labels = whole.labels("train") | whole.labels("val")
    assert labels == {f"{k}.jpg": str(k % 2) for k in range(4)}
    assert sorted(whole.labels("val").values()) == ["0", "1"]


@pytest.mark.parametrize("labels", [("0", "2"), ("zebra", "ant")])
def test_a_list_of_classes_beside_it_gives_their_order(tmp_path, labels):
    rows = f"path,label\npictures/0.jpg,{labels[0]}\npictures/1.jpg,{labels[1]}\n"
    lay(tmp_path / "src", FILES | {"manifest.csv": rows, "classes.txt": "zebra\nbee\nant\n"})
    whole = prepare("manifest", tmp_path / "src", tmp_path / "out")
    assert whole.classes == ("zebra", "bee", "ant")
    assert whole.labels("train") == {"0.jpg": "zebra", "1.jpg": "ant"}


def test_depth_maps_stand_in_the_row_with_their_sensor(tmp_path):
    pairs = {f"{k}.png": png(part(k)) for k in range(2)}
    pairs |= {f"d/{k}.png": png(depth_map(80, 96)) for k in range(2)}
    table = "path,label,depth,fx,baseline\n0.png,a,d/0.png,500.5,0.1\n1.png,b,d/1.png,,\n"
    lay(tmp_path / "src", pairs | {"manifest.csv": table, "d/depth.json": '{"fx": 700}'})
    records = prepare("manifest", tmp_path / "src", tmp_path / "out").records["train"]
    assert (records["0.png"].fx, records["0.png"].baseline) == (500.5, 0.1)
    assert (records["1.png"].fx, records["1.png"].baseline) == (700, 0.075)
    assert records["1.png"].depth == pairs["d/1.png"] and records["1.png"].label == 1


REFUSALS = {
    "an unknown column": ("path,label,lable\n", "column 'lable' is unknown; use path, label"),
    "no label column": ("path\n", "column 'label' is missing; it has path"),
    "a column twice": ("path,label,path\n", "column 'path' is there twice"),
    "a start without an end": (
        "path,label,start\n",
        "column 'end' is missing, which 'start' needs",
    ),
    "a span of depth": ("path,label,start,end,depth\n", "is of clips, 'depth' of pictures"),
    "a span of a picture": (
        "path,label,start,end\npictures/1.jpg,a,0,1\n",
        "row 1, column start: a span is of a clip",
    ),
    "a start that is no number": (
        "path,label,start,end\npictures/1.jpg,a,soon,1\n",
        "row 1, column start: 'soon' is no number of seconds",
    ),
    "an end before the start": (
        "path,label,start,end\npictures/1.jpg,a,2,1\n",
        "row 1, column end: '1' is no number of seconds after start, 2",
    ),
    "fx without depth": ("path,label,fx\n", "'fx' is of depth maps, but 'depth' is missing"),
    "no rows": ("path,label\n", "has no rows"),
    "a missing file": (
        "path,label\npictures/0.jpg,a\nno.jpg,b\n",
        "row 2, column path: no.jpg is not there",
    ),
    "an empty label": ("path,label\npictures/0.jpg,\n", "row 1, column label: it is empty"),
    "an empty path": ("path,label\n,a\n", "row 1, column path: it is empty"),
    "a file twice": (
        "path,label\npictures/1.jpg,a\npictures/0.jpg,a\n./pictures//1.jpg,b\n",
        "row 3, column path: pictures/1.jpg is in row 1 too",
    ),
    "another split": (
        "path,label,split\npictures/1.jpg,a,dev\n",
        "row 1, column split: 'dev' is none; use train, val, test",
    ),
    "no focal length": (
        "path,label,depth,fx\npictures/1.jpg,a,pictures/2.jpg,wide\n",
        "row 1, column fx: 'wide' is no number above 0",
    ),
    "a comma in a name": (
        "path,label\n9, b.jpg,a\n",
        "row 1 has 3 cells, the header names 2 columns",
    ),
    "a gap in the numbers": (
        "path,label\npictures/1.jpg,0\npictures/0.jpg,7\n",
        "has numbers up to 7, but not 1; write names",
    ),
    "two kinds": (
        "path,label\npictures/1.jpg,a\nmanifest.csv,b\n",
        "row 1 has a picture (pictures/1.jpg), row 2 a clip",
    ),
    "not UTF-8": (b"path,label\n\xe4,a\n", "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_mistake_is_one_line_with_its_row_and_column(tmp_path, case):
    table, says = REFUSALS[case]
    assert says in refusal("manifest", lay(tmp_path, FILES | {"manifest.csv": table}))


def test_several_mistakes_are_a_line_each_up_to_ten(tmp_path):
    lay(tmp_path, {"manifest.csv": "path,label\n" + "".join(f"{k}.jpg,a\n" for k in range(30))})
    with pytest.raises(UserError) as error:
        LAYOUTS["manifest"].list(tmp_path, LayoutOptions())
    assert [f"row {k + 1}, column path" in line for k, line in enumerate(error.value.args)] == [
        True
    ] * 10


def test_options_that_do_not_fit_are_refused(tmp_path):
    lay(tmp_path, FILES | {"manifest.csv": TABLE})
    assert "has splits of its own (train, val, test)" in refusal("manifest", tmp_path, val=0.1)
    assert "which --kind=rgbd needs" in refusal("manifest", tmp_path, kind="rgbd")
    lay(tmp_path, {"classes.txt": "cat\nbird\n"})
    assert "row 4, column label: 'dog' is none of the 2 classes" in refusal("manifest", tmp_path)
    lay(tmp_path, {"classes.txt": b"\xff"})
    assert "classes.txt is no text" in refusal("manifest", tmp_path)
    assert "has neither of manifest.csv and manifest" in refusal("manifest", tmp_path / "pictures")


def test_parquet_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    lay(tmp_path, {"manifest.parquet": b"PAR1"})
    assert "needs pyarrow; pip install pyarrow" in refusal("manifest", tmp_path)


def test_a_parquet_table_is_read_as_the_same_csv(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    lay(tmp_path / "src", FILES)
    rows = {"path": ["pictures/0.jpg", "pictures/1.jpg"], "label": [1, 0], "split": ["val", None]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "src" / "manifest.parquet")
    whole = prepare("manifest", tmp_path / "src", tmp_path / "out")
    assert whole.labels("train") == {"1.jpg": "0"} and whole.labels("val") == {"0.jpg": "1"}
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["classes"] == ["0", "1"]


def test_spans_of_one_clip_are_samples_of_their_own(tmp_path):
    table = "path,label,start,end\na.mp4,run,0,0.48\na.mp4,jump,0.48,1.2\nb.mp4,run,,\n"
    files = {"manifest.csv": table, "a.mp4": clip(), "b.mp4": clip()}
    whole = prepare("manifest", lay(tmp_path / "src", files), tmp_path / "out")
    records = whole.records["train"]
    assert len(records) == 3
    spans = {record.id: numbers(record.media) for record in records.values()}
    assert spans["a.mp4@0.0-0.48"] == list(range(12))
    assert spans["a.mp4@0.48-1.2"] == list(range(12, 30))
    assert spans["b.mp4"] == list(range(60))


LABEL_MAPS = {
    f"maps/{k}.png": png((np.mgrid[:24, :40][1] // 14 + k).astype(np.uint8)) for k in (0, 1)
}
MAP_TABLE = "path,label_map\npictures/0.jpg,maps/0.png\npictures/1.jpg,maps/1.png\n"
MAP_FILES = {name: FILES[name] for name in ("pictures/0.jpg", "pictures/1.jpg")} | LABEL_MAPS
MAP_FILES |= {"classes.txt": "sky\nsea\nland\nship\n", "manifest.csv": MAP_TABLE}


def test_label_maps_stand_in_the_row_and_their_names_beside_the_table(tmp_path):
    whole = prepare("manifest", lay(tmp_path / "src", MAP_FILES), tmp_path / "out", val=0.5)
    content = manifest.read(tmp_path / "out")
    assert content.labels == "map" and content.classes == ("sky", "sea", "land", "ship")
    records = whole.records["train"] | whole.records["val"]
    assert {id: r.label_map for id, r in records.items()} == {
        "pictures/0.jpg": LABEL_MAPS["maps/0.png"],
        "pictures/1.jpg": LABEL_MAPS["maps/1.png"],
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes.txt": None}, "label maps hold numbers; write what they mean into"),
        ({"manifest.csv": "path,label,label_map\n"}, "'label' does not go with 'label_map'"),
        ({"manifest.csv": "path,label_map\npictures/0.jpg,\n"}, "label_map: it is empty"),
        (
            {"manifest.csv": "path,label_map\npictures/0.jpg,maps/7.png\n"},
            "maps/7.png is not there",
        ),
    ],
)
def test_a_table_of_maps_that_cannot_be_is_explained(tmp_path, change, words):
    files = {name: data for name, data in (MAP_FILES | change).items() if data is not None}
    assert words in refusal("manifest", lay(tmp_path, files))


def test_a_map_of_another_size_is_left_out_and_named(tmp_path):
    small = {"maps/1.png": png(np.zeros((9, 9), np.uint8))}
    prepare("manifest", lay(tmp_path / "src", MAP_FILES | small), tmp_path / "out")
    [bad] = map(json.loads, (tmp_path / "out" / "bad_files.jsonl").read_text().splitlines())
    assert bad["id"] == "pictures/1.jpg" and "the label map has 9 x 9 pixels" in bad["reason"]


def test_pictures_with_label_maps_are_not_made_smaller(tmp_path):
    source, work = lay(tmp_path / "src", MAP_FILES), Work((0, 1), 4, 1, False, short_side=16)
    with pytest.raises(UserError, match="pictures with label maps are stored as they are"):
        preparation.prepare("manifest", source, tmp_path / "out", LayoutOptions(), work, no_meter)
