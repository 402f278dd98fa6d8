import pytest

from tests.ingest.layouts.downloads import files_of, lay, picture, prepare, refusal

CATEGORIES = "/a/airfield 0\n/a/apartment_building/outdoor 1\n/z/zen_garden 2\n"
TRAIN = {
    "/a/airfield/00000001.jpg": 0,
    "/a/airfield/00000002.jpg": 0,
    "/a/apartment_building/outdoor/00000001.jpg": 1,
    "/z/zen_garden/00000001.jpg": 2,
}
VAL = {"Places365_val_00000001.jpg": 2, "Places365_val_00000002.jpg": 0}
LISTS = {
    "places365_train_standard.txt": "".join(f"{file} {k}\n" for file, k in TRAIN.items()),
    "places365_val.txt": "".join(f"{file} {k}\n" for file, k in VAL.items()),
    "categories_places365.txt": CATEGORIES,
}


def pictures(train="data_large", val="val_large"):
    files = {f"{train}{file}": picture(k) for k, file in enumerate(TRAIN)}
    return files | {f"{val}/{file}": picture(10 + k) for k, file in enumerate(VAL)}


@pytest.mark.parametrize("folders", [("data_large", "val_large"), ("data_256", "val_256")])
def test_labels_are_those_of_the_lists(tmp_path, folders):
    files = pictures(*folders)
    whole = prepare("places365", lay(tmp_path / "src", files | LISTS), tmp_path / "out")
    assert whole.classes == ("airfield", "apartment_building/outdoor", "zen_garden")
    labels = {id: r.label for rows in whole.records.values() for id, r in rows.items()}
    expected = {f"{folders[0]}{file}": label for file, label in TRAIN.items()}
    assert labels == expected | {f"{folders[1]}/{file}": label for file, label in VAL.items()}
    assert set(whole.records["val"]) == {f"{folders[1]}/{file}" for file in VAL}
    records = whole.records["train"] | whole.records["val"]
    assert {id: record.media for id, record in records.items()} == files


def test_the_lists_may_lie_in_the_folder_that_they_unpack_to_and_large_pictures_are_preferred(
    tmp_path,
):
    folder = {f"filelist_places365-standard/{name}": text for name, text in LISTS.items()}
    small = pictures("data_256", "val_256")
    prepare("places365", lay(tmp_path / "src", pictures() | folder | small), tmp_path / "out")
    prepare("places365", lay(tmp_path / "other", pictures() | LISTS), tmp_path / "same")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "same")


def test_one_split_alone_can_be_prepared(tmp_path):
    val = {k: v for k, v in (pictures() | LISTS).items() if "data_large" not in k}
    whole = prepare("places365", lay(tmp_path / "val", val), tmp_path / "out")
    assert len(whole.classes) == 3 and len(whole.records["val"]) == 2
    train = {k: v for k, v in (pictures() | LISTS).items() if "val_large" not in k}
    whole = prepare("places365", lay(tmp_path / "train", train), tmp_path / "share", val=0.5)
    assert [len(whole.records[split]) for split in ("train", "val")] == [3, 1]


REFUSALS = {
    "nothing": ({}, "has neither data_large/ nor data_256/, val_large/ nor val_256/; there is: no"),
    "no lists": (pictures(), "places365_train_standard.txt is not there; it belongs to the downl"),
    "no categories": (
        pictures() | {k: v for k, v in LISTS.items() if k[0] == "p"},
        "categories_places365.txt is not there",
    ),
    "other categories": (
        pictures() | LISTS | {"categories_places365.txt": "/a/airfield 0\n"},
        "has labels from 0 to 2 in train, but 1 classes",
    ),
    "no numbers": (
        pictures() | LISTS | {"places365_val.txt": "Places365_val_00000001.jpg\n"},
        "places365_val.txt: line 1 is 'Places365_val_00000001.jpg', not FILE NUMBER",
    ),
    "not unpacked": (LISTS | {"data_large/x": b""}, "lists 4 files, but"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_the_download_is_explained_in_one_line(tmp_path, case):
    files, says = REFUSALS[case]
    assert says in refusal("places365", lay(tmp_path / "src", files) if files else tmp_path / "no")
