import io
import re

import numpy as np
import pytest
from scipy.io import savemat

from tests.ingest.layouts.downloads import files_of, lay, picture, prepare, refusal, tar

WNIDS = ("n01440764", "n01443537", "n02119789")
TRAIN = {
    w: {f"{w}_{10 * k + 3}.JPEG": picture(3 * n + k) for k in range(2)} for n, w in enumerate(WNIDS)
}
VAL = {f"ILSVRC2012_val_{k:08d}.JPEG": picture(10 + k) for k in (1, 2, 3, 4)}
TRUTH = {1: "n02119789", 2: "n01440764", 3: "n02119789", 4: "n01443537"}
IDS = {"n02119789": 1, "n01440764": 2, "n01443537": 3}
"""Numbers of the devkit: not in the order of the WordNet ids."""


def meta():
    """The devkit's list of synsets: leaves first, then inner nodes of the hierarchy."""
    rows = [(id, wnid, "words", 0) for wnid, id in IDS.items()] + [(4, "n00001740", "entity", 3)]
    form = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    file = io.BytesIO()
    savemat(file, {"synsets": np.array(rows, form)[:, None]})
    return file.getvalue()


def truth():
    return "".join(f"{IDS[TRUTH[k]]}\n" for k in sorted(TRUTH)).encode()


DEVKIT = {
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": truth(),
    "ILSVRC2012_devkit_t12/data/meta.mat": meta(),
}
KAGGLE = {
    "LOC_val_solution.csv": "ImageId,PredictionString\n"
    + "".join(f"ILSVRC2012_val_{k:08d},{w} 1 2 3 4 {w} 5 6 7 8 \n" for k, w in TRUTH.items()),
    "LOC_synset_mapping.txt": "".join(f"{w} some, words\n" for w in WNIDS),
}


def train_folders(root="train"):
    return {
        f"{root}/{w}/{name}": data for w, files in TRAIN.items() for name, data in files.items()
    }


def packed():
    return {
        "ILSVRC2012_img_train.tar": tar({f"{w}.tar": tar(files) for w, files in TRAIN.items()}),
        "ILSVRC2012_img_val.tar": tar(VAL),
        "ILSVRC2012_devkit_t12.tar.gz": tar(DEVKIT, "w:gz"),
    }


def flat_val(root="val"):
    return {f"{root}/{name}": data for name, data in VAL.items()}


def sorted_val():
    return {f"val/{TRUTH[int(name[15:23])]}/{name}": data for name, data in VAL.items()}


FORMS = {
    "class folders": train_folders() | sorted_val(),
    "devkit unpacked": train_folders() | flat_val() | DEVKIT,
    "devkit's files": train_folders()
    | flat_val()
    | {k.split("/")[-1]: v for k, v in DEVKIT.items()},
    "tars unpacked once": {f"train/{w}.tar": tar(files) for w, files in TRAIN.items()}
    | flat_val()
    | DEVKIT,
    "class folders beside the archive": train_folders()
    | sorted_val()
    | {"ILSVRC2012_img_val.tar": tar(VAL)},
    "Kaggle": train_folders("ILSVRC/Data/CLS-LOC/train")
    | flat_val("ILSVRC/Data/CLS-LOC/val")
    | KAGGLE,
}


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    """The archives as they are downloaded, and what is prepared of them."""
    root = tmp_path_factory.mktemp("imagenet")
    return prepare("imagenet", lay(root / "src", packed()), root / "out"), root / "out"


def test_downloaded_archives_are_read_in_place_with_labels_in_the_order_of_wordnet_ids(download):
    whole, _ = download
    assert whole.classes == WNIDS
    assert whole.labels("train") == {name: w for w, files in TRAIN.items() for name in files}
    assert whole.labels("val") == {name: TRUTH[int(name[15:23])] for name in VAL}
    media = {id: record.media for id, record in whole.records["train"].items()}
    assert media == train_folders()
    assert {r.id: r.media for r in whole.records["val"].values()} == sorted_val()


@pytest.mark.parametrize("form", FORMS)
def test_unpacked_or_not_the_prepared_dataset_is_the_same_to_the_byte(download, tmp_path, form):
    prepare("imagenet", lay(tmp_path / "src", FORMS[form]), tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(download[1])


def test_the_validation_split_alone_can_be_prepared(tmp_path):
    files = {k: v for k, v in packed().items() if "train" not in k}
    whole = prepare("imagenet", lay(tmp_path / "src", files), tmp_path / "out")
    assert whole.classes == WNIDS and len(whole.records["val"]) == 4
    assert set(whole.records) == {"val"}


def test_a_share_of_the_training_split_can_be_held_out_where_there_is_no_other(tmp_path):
    lay(tmp_path / "src", train_folders())
    whole = prepare("imagenet", tmp_path / "src", tmp_path / "out", val=0.5)
    assert sorted(whole.labels("val").values()) == list(WNIDS)
    assert whole.records["train"].keys() | whole.records["val"].keys() == train_folders().keys()


def cut(name, length):
    files = packed()
    return files | {name: files[name][:length]}


TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
REFUSALS = {
    "nothing": ({}, "has neither ILSVRC2012_img_train.tar nor train/.*there is: no folder"),
    "something else": ({"cat/1.jpg": b"x", "b": b""}, "there is: b, cat"),
    "cut inside a picture": (cut(TRAIN_TAR, 3000), f"{TRAIN_TAR} is cut short"),
    "cut between two synsets": (cut(TRAIN_TAR, 10240 + 512), f"{TRAIN_TAR} is cut short"),
    "cut validation": (cut(VAL_TAR, 1500), f"{VAL_TAR} is cut short"),
    "no labels": (train_folders() | flat_val(), "no labels of the validation pictures; put ILSVRC"),
    "too few labels": (
        flat_val() | DEVKIT | {next(iter(DEVKIT)): b"1\n2\n3\n"},
        "val has ILSVRC2012_val_00000004.JPEG, of which the list of labels .* says nothing",
    ),
    "labels of another devkit": (
        flat_val() | DEVKIT | {next(iter(DEVKIT)): b"9\n" * 4},
        "do not fit",
    ),
    "meta.mat is damaged": (
        flat_val() | DEVKIT | {"ILSVRC2012_devkit_t12/data/meta.mat": meta()[:200]},
        "do not fit each other or cannot be read",
    ),
    "Kaggle's list is damaged": (
        flat_val() | KAGGLE | {"LOC_val_solution.csv": "ImageId,PredictionString\nx,y\n"},
        "line 2 is 'x,y', not ILSVRC2012_val_NUMBER",
    ),
    "Kaggle's list is no text": (
        flat_val() | KAGGLE | {"LOC_val_solution.csv": b"ImageId,PredictionString\n\xff\xfe,y\n"},
        "line 2 is .* not ILSVRC2012_val_NUMBER",
    ),
    "an empty synset": (
        train_folders() | {"train/n09999999/readme.txt": b"x"},
        "1 synsets without pictures in train, one is n09999999",
    ),
    "an incomplete training split": (
        {k: v for k, v in train_folders().items() if WNIDS[0] not in k} | sorted_val(),
        f"pictures of {WNIDS[0]} in val, but train lacks this synset",
    ),
    "pictures under other names": (
        train_folders() | {"val/1.jpg": b"x"} | DEVKIT,
        "neither class folders nor ILSVRC2012_val_00000001.JPEG",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_the_download_is_explained_in_one_line(tmp_path, case):
    files, says = REFUSALS[case]
    assert re.search(says, refusal("imagenet", lay(tmp_path / "src", files)))


def test_a_devkit_that_is_cut_short_is_explained(tmp_path):
    files = packed()
    gz = "ILSVRC2012_devkit_t12.tar.gz"
    lay(tmp_path, files | {gz: files[gz][:100]})
    assert f"{gz} cannot be read" in refusal("imagenet", tmp_path)


def test_options_that_do_not_fit_are_refused(tmp_path):
    lay(tmp_path, FORMS["class folders"])
    assert "of kind 'image'; leave it out" in refusal("imagenet", tmp_path, kind="video")
    assert "a validation split of its own" in refusal("imagenet", tmp_path, val=0.1)
