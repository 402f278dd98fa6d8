import os

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.folder import list_names
from tests.ingest.layouts.downloads import prepare
from tests.media import jpeg, part


def lay(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_classes_are_folders_in_the_order_of_their_names_and_samples_lie_at_any_depth(tmp_path):
    lay(
        tmp_path,
        "dog/b.JPG",
        "dog/a.png",
        "cat/x/y/c.jpeg",
        "cat/notes.txt",
        "cat/.hidden.jpg",
        "cat/Thumbs",
    )
    names = list_names(tmp_path)
    assert (names.kind, names.classes) == ("image", ("cat", "dog"))
    assert names.splits == {"train": ["cat/x/y/c.jpeg", "dog/a.png", "dog/b.JPG"]}
    assert [names.class_of(id) for id in names.splits["train"]] == ["cat", "dog", "dog"]
    assert names.ignored == {".txt": 1, "Thumbs": 1}


def test_folders_train_and_val_are_splits(tmp_path):
    lay(tmp_path, "train/cat/1.mp4", "train/dog/1.webm", "val/dog/2.avi")
    names = list_names(tmp_path)
    assert (names.kind, names.classes) == ("video", ("cat", "dog"))
    assert names.splits == {
        "train": ["train/cat/1.mp4", "train/dog/1.webm"],
        "val": ["val/dog/2.avi"],
    }
    assert names.class_of("val/dog/2.avi") == "dog"
    with pytest.raises(UserError, match="has splits of its own"):
        list_names(tmp_path, val=0.1)


def test_a_share_of_every_class_is_held_out_the_same_however_many_files_come(tmp_path):
    lay(tmp_path, *(f"{name}/{k}.jpg" for name in ("a", "b") for k in range(40)), "one/1.jpg")
    splits = list_names(tmp_path, val=0.25).splits
    assert [sum(id.startswith(f"{c}/") for id in splits["val"]) for c in ("a", "b", "one")] == [
        10,
        10,
        0,
    ]
    assert sorted(splits["train"] + splits["val"]) == sorted(list_names(tmp_path).splits["train"])
    assert [id[2:] for id in splits["val"] if id[0] == "a"] != [
        id[2:] for id in splits["val"] if id[0] == "b"
    ]
    lay(tmp_path, *(f"b/{k}.jpg" for k in range(40, 80)))
    more = list_names(tmp_path, val=0.25).splits
    assert [id for id in more["val"] if id[0] == "a"] == [
        id for id in splits["val"] if id[0] == "a"
    ]


def test_every_class_of_two_files_or_more_has_one_in_each_split(tmp_path):
    lay(tmp_path, *(f"{c}/{k}.jpg" for c in "abc" for k in range(2)))
    assert (
        len(list_names(tmp_path, val=0.01).splits["val"])
        == len(list_names(tmp_path, val=0.9).splits["val"])
        == 3
    )


@pytest.mark.parametrize(
    ("picture", "depth"),
    [
        ("office/1.jpg", "office/1.depth.png"),
        ("office/1.png", "office/1_depth.png"),
        ("office/s1/image.jpg", "office/s1/depth.png"),
        ("office/s1/rgb.png", "office/s1/depth.png"),
        ("office/s1/image/0001-17.jpg", "office/s1/depth/0001-23.png"),
        ("office/s1/image/7.jpg", "office/s1/depth/7.png"),
        ("office/rgb_0.jpg", "office/sync_depth_0.png"),
        ("office/s1/rgb/7.jpg", "office/s1/depth/7.png"),
        ("office/s1/color/0.jpg", "office/s1/depth/0.png"),
        ("office/frame-000000.color.png", "office/frame-000000.depth.png"),
        ("apple/apple_1_1_1_crop.png", "apple/apple_1_1_1_depthcrop.png"),
    ],
)
def test_a_picture_finds_its_depth_map(tmp_path, picture, depth):
    lay(tmp_path, picture, depth)
    names = list_names(tmp_path)
    assert (names.kind, names.splits, names.depth) == (
        "rgbd",
        {"train": [picture]},
        {picture: depth},
    )
    assert not names.ignored
    assert list_names(tmp_path, "image").splits == {"train": [picture]}


def test_many_pictures_in_one_scene_are_paired_by_name_not_by_chance(tmp_path):
    lay(tmp_path, *(f"office/s/{folder}/{k}.png" for folder in ("image", "depth") for k in (1, 2)))
    assert list_names(tmp_path).depth == {
        f"office/s/image/{k}.png": f"office/s/depth/{k}.png" for k in (1, 2)
    }
    lay(tmp_path, "office/s/image/3.png")
    with pytest.raises(
        UserError, match=r"1 pictures have no depth map, the first is office/s/image/3.png"
    ):
        list_names(tmp_path)


def test_a_class_called_depth_is_a_class(tmp_path):
    lay(tmp_path, "depth/1.png", "width/1.png")
    assert (list_names(tmp_path).kind, list_names(tmp_path).classes) == (
        "image",
        ("depth", "width"),
    )


def test_files_of_another_kind_are_left_out_when_a_kind_is_asked_for(tmp_path):
    lay(tmp_path, "a/1.jpg", "a/2.mp4", "a/3.unknown", "a/4.csv")
    assert list_names(tmp_path, "image").splits["train"] == ["a/1.jpg"]
    assert list_names(tmp_path, "video").splits["train"] == [
        "a/2.mp4",
        "a/3.unknown",
    ]  # PyAV will tell


@pytest.mark.parametrize(
    ("files", "kind", "says"),
    [
        ([], "auto", "has no class folders"),
        (["1.jpg"], "auto", "has no class folders"),
        (["a/1.txt"], "auto", "has no pictures and no clips"),
        (["a/1.jpg"], "video", "no files of kind 'video'"),
        (
            ["a/1.jpg", "a/2.mp4", "b/3.mp4"],
            "auto",
            r"1 pictures \(as a/1.jpg\) and 2 clips \(as a/2.mp4\)",
        ),
        (["a/1.jpg", "b/1.txt"], "auto", "1 folders without files of kind 'image', one is b"),
        (
            ["a/1.jpg", "a/2.jpg", "a/2.depth.png"],
            "auto",
            "the first is a/1.jpg; put it at a/1.depth.png",
        ),
    ],
)
def test_folders_that_hold_no_dataset_are_explained_in_one_line(tmp_path, files, kind, says):
    lay(tmp_path, *files)
    with pytest.raises(UserError, match=says) as error:
        list_names(tmp_path, kind)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_left_out(tmp_path, monkeypatch):
    lay(tmp_path, "a/1.jpg", "b/x/2.jpg")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("x"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        list_names(tmp_path)


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        list_names(tmp_path / "nowhere")


@pytest.mark.parametrize("train", ["train", "Train", "training"])
@pytest.mark.parametrize(("folder", "split"), [("valid", "val"), ("dev", "val"), ("TEST", "test")])
def test_usual_names_of_splits_are_splits_in_any_case(tmp_path, train, folder, split):
    lay(tmp_path, f"{train}/cat/1.jpg", f"{folder}/cat/2.jpg")
    names = list_names(tmp_path)
    assert names.classes == ("cat",)
    assert names.splits == {"train": [f"{train}/cat/1.jpg"], split: [f"{folder}/cat/2.jpg"]}


def test_a_train_beside_cars_is_a_class(tmp_path):
    lay(tmp_path, "train/1.jpg", "car/1.jpg")
    assert list_names(tmp_path).classes == ("car", "train")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (("train/a/1.jpg", "val/a/1.jpg", "valid/a/2.jpg"), "val and valid, which both name"),
        (("train/a/1.jpg", "val/a/1.jpg", "more/a/2.jpg"), "has more beside the splits"),
        (("train/a/1.jpg", "val/b/1.jpg"), "1 classes without training samples, one is b"),
        (("train/a/1.jpg", "val/1.JPEG"), "1 files outside class folders, one is 1.JPEG"),
    ],
)
def test_splits_that_would_lose_files_are_explained_in_one_line(tmp_path, files, says):
    lay(tmp_path, *files)
    with pytest.raises(UserError, match=says) as error:
        list_names(tmp_path)
    assert "\n" not in str(error.value)


def test_a_table_names_the_classes_of_tiny_imagenets_validation(tmp_path):
    lay(tmp_path, "train/n01/images/n01_0.JPEG", "train/n02/images/n02_0.JPEG")
    lay(tmp_path, "val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG")
    table = tmp_path / "val" / "val_annotations.txt"
    table.write_text("val_0.JPEG\tn02\t0\t32\t44\t62\nval_1.JPEG\tn01\t52\t55\t57\t59\n")
    names = list_names(tmp_path)
    assert names.classes == ("n01", "n02")
    assert list(map(names.class_of, names.splits["val"])) == ["n02", "n01"]
    assert set(names.splits) == {"train", "val"}
    assert names.ignored == {"test/images (no labels)": 1}
    table.write_text("val_0.JPEG\tn02\t0\t32\t44\t62\n")
    with pytest.raises(UserError, match="1 pictures that the table of their split does not name"):
        list_names(tmp_path)


def test_masks_and_full_sizes_are_left_out_by_name_and_filled_maps_come_first(tmp_path):
    lay(tmp_path, *(f"apple/a_1{end}.png" for end in ("_crop", "_depthcrop", "_maskcrop")))
    scene = ("image/1.jpg", "depth/1.png", "depth_bfx/1.png", "fullres/1.jpg")
    lay(tmp_path, *(f"office/s/{file}" for file in scene))
    names = list_names(tmp_path)
    assert names.depth == {
        "apple/a_1_crop.png": "apple/a_1_depthcrop.png",
        "office/s/image/1.jpg": "office/s/depth_bfx/1.png",
    }
    assert names.splits == {"train": list(names.depth)}
    assert names.ignored == {"mask": 1, "fullres": 1, ".png": 1}


def test_names_that_are_not_utf8_are_left_out_and_named(tmp_path):
    lay(tmp_path / "src", "a/1.jpg", os.fsdecode(b"a/\xe4.jpg"))
    for file in (tmp_path / "src" / "a").iterdir():
        file.write_bytes(jpeg(part(1)))
    whole = prepare("folder", tmp_path / "src", tmp_path / "out")
    assert list(whole.records["train"]) == ["a/1.jpg"]
    bad = (tmp_path / "out" / "bad_files.jsonl").read_text()
    assert "udce4.jpg is not UTF-8" in bad
    lay(tmp_path / "src", os.fsdecode(b"\xe4/1.jpg"))
    with pytest.raises(UserError, match="is not UTF-8; rename it"):
        list_names(tmp_path / "src")


@pytest.mark.parametrize("root", ["", "train/"])
@pytest.mark.parametrize("pictures", ["rgb", "image", "color"])
def test_a_class_may_hold_its_folders_of_pictures_and_depth_itself(tmp_path, root, pictures):
    files = [f"{root}office/{pictures}/{k}.jpg" for k in range(2)]
    maps = [f"{root}office/depth/{k}.png" for k in range(2)]
    beside = (f"{root}lab/a.jpg", f"{root}lab/a.depth.png")
    lay(tmp_path, *files, *maps, *beside)
    names = list_names(tmp_path)
    assert names.kind == "rgbd" and names.classes == ("lab", "office")
    assert names.depth == dict(zip(files, maps, strict=True)) | {beside[0]: beside[1]}
    assert names.splits == {"train": sorted([*files, beside[0]])}


def test_a_folder_of_pictures_that_is_called_depth_is_no_depth(tmp_path):
    lay(tmp_path, "ocean/depth/1.png", "ocean/depth/2.png", "sky/1.png")
    names = list_names(tmp_path)
    assert names.kind == "image" and len(names.splits["train"]) == 3
