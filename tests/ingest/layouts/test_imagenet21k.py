import pytest

from tests.ingest.layouts.downloads import files_of, lay, picture, prepare, refusal, tar

SYNSETS = {
    f"n0000000{k}": {f"n0000000{k}_{j}.JPEG": picture(3 * k + j) for j in range(2)} for k in (4, 5)
}
TARS = {f"{wnid}.tar": tar(files) for wnid, files in SYNSETS.items()}
FOLDERS = {f"{w}/{name}": data for w, files in SYNSETS.items() for name, data in files.items()}
FORMS = {
    "class folders": FOLDERS,
    "a tar a synset": TARS,
    "unpacked once": {f"winter21_whole/{name}": data for name, data in TARS.items()},
    "a tar of tars": {"fall11_whole.tar": tar(TARS)},
    "some unpacked": TARS | {k: v for k, v in FOLDERS.items() if "n00000004" in k},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet21k")
    whole = prepare("imagenet21k", lay(root / "src", FORMS["class folders"]), root / "out")
    return whole, files_of(root / "out")


def test_every_synset_is_a_class_of_the_training_split(folders):
    whole, _ = folders
    assert whole.classes == tuple(SYNSETS) and set(whole.records) == {"train"}
    assert whole.labels("train") == {name: w for w, files in SYNSETS.items() for name in files}
    assert {r.id: r.media for r in whole.records["train"].values()} == {
        f"train/{id}": data for id, data in FOLDERS.items()
    }


@pytest.mark.parametrize("form", list(FORMS)[1:])
def test_packed_or_not_the_prepared_dataset_is_the_same_to_the_byte(folders, tmp_path, form):
    prepare("imagenet21k", lay(tmp_path / "src", FORMS[form]), tmp_path / "out")
    assert files_of(tmp_path / "out") == folders[1]


def test_a_share_can_be_held_out_and_a_synset_without_pictures_is_no_class(tmp_path):
    lay(tmp_path / "src", TARS | {"n00000001.tar": tar({}), "n00000009.tar": tar({"a.txt": b"x"})})
    whole = prepare("imagenet21k", tmp_path / "src", tmp_path / "out", val=0.5)
    assert whole.classes == tuple(SYNSETS)
    assert [len(whole.records[split]) for split in ("train", "val")] == [2, 2]
    assert set(whole.labels("val").values()) == set(SYNSETS)


def test_what_is_not_the_download_is_explained_in_one_line(tmp_path):
    assert "there is: no folder" in refusal("imagenet21k", tmp_path / "nowhere")
    lay(tmp_path, {"winter21_whole.tar.gz": b"x"})
    assert "unpack it once: tar -xzf" in refusal("imagenet21k", tmp_path)
    lay(tmp_path, {"fall11_whole.tar": tar({"a.txt": b"x"})})
    assert "holds no nXXXXXXXX.tar" in refusal("imagenet21k", tmp_path)
    lay(tmp_path, {"fall11_whole.tar": tar(TARS, "w:gz")})
    assert "cut short, damaged or compressed" in refusal("imagenet21k", tmp_path)
