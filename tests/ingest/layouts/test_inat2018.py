import json

import pytest

from tests.ingest.layouts.downloads import lay, picture, prepare, refusal

CATEGORIES = [
    {"id": 1, "name": "1", "supercategory": "Insecta"},
    {"id": 0, "name": "0", "supercategory": "Plantae"},
    {"id": 2, "name": "2", "supercategory": "Aves"},
]
SPLITS = {"train": {7: 2, 3: 0, 5: 1, 9: 2}, "val": {11: 1, 12: 0}}
"""Category by picture."""


def file(k, category):
    return f"train_val2018/{('Plantae', 'Insecta', 'Aves')[category]}/{category}/{k:032x}.jpg"


def annotations(split, categories=CATEGORIES):
    rows = SPLITS[split].items()
    return json.dumps(
        {
            "info": {"year": 2018},
            "images": [{"id": k, "file_name": file(k, c), "license": 3} for k, c in rows],
            "licenses": [],
            "annotations": [
                {"id": 100 + k, "image_id": k, "category_id": c} for k, c in reversed(rows)
            ],
            "categories": categories,
        }
    )


def download():
    pictures = {file(k, c): picture(k) for rows in SPLITS.values() for k, c in rows.items()}
    return pictures | {f"{split}2018.json": annotations(split) for split in SPLITS}


def test_labels_are_the_category_ids(tmp_path):
    files = lay(tmp_path / "src", download())
    whole = prepare("inat2018", files, tmp_path / "out")
    assert whole.classes == ("0", "1", "2")
    for split, rows in SPLITS.items():
        got = {id: (record.label, record.media) for id, record in whole.records[split].items()}
        assert got == {file(k, c): (c, picture(k)) for k, c in rows.items()}


def test_the_names_of_the_species_are_taken_where_they_are_there(tmp_path):
    names = [{"id": k, "name": f"Species {k}", "kingdom": "x"} for k in (2, 0, 1)]
    lay(tmp_path / "src", download() | {"categories.json": json.dumps(names)})
    whole = prepare("inat2018", tmp_path / "src", tmp_path / "out")
    assert whole.classes == ("Species 0", "Species 1", "Species 2")


def test_a_picture_that_is_missing_is_left_out_and_named(tmp_path):
    files = download()
    del files[file(5, 1)]
    whole = prepare("inat2018", lay(tmp_path / "src", files), tmp_path / "out")
    assert len(whole.records["train"]) == 3
    row = json.loads((tmp_path / "out" / "bad_files.jsonl").read_text())
    assert row["id"] == file(5, 1) and "No such file" in row["reason"]


REFUSALS = {
    "neither list": (
        {"train_val2018/x": b""},
        "neither train2018.json nor val2018.json; there is: train_val2018",
    ),
    "no pictures": ({"val2018.json": b"{}"}, "has no train_val2018/"),
    "pictures elsewhere": (
        {k: v for k, v in download().items() if k.endswith("json")} | {"train_val2018/x": b""},
        "train2018.json lists 4 files, but",
    ),
    "no JSON": (download() | {"val2018.json": b"{"}, "val2018.json cannot be read"),
    "another JSON": (download() | {"val2018.json": b"[]"}, "val2018.json is not as published"),
    "a category is missing": (
        download() | {f"{s}2018.json": annotations(s, CATEGORIES[:2]) for s in SPLITS},
        "has labels from 0 to 2 in train, but 2 classes",
    ),
    "a number is missing": (
        download() | {f"{s}2018.json": annotations(s, CATEGORIES[::2]) for s in SPLITS},
        "names 2 classes, but not number 0",
    ),
    "the same picture in both": (
        download() | {"val2018.json": annotations("train")},
        "in two splits",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_the_download_is_explained_in_one_line(tmp_path, case):
    files, says = REFUSALS[case]
    assert says in refusal("inat2018", lay(tmp_path, files))
