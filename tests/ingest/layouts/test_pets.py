import io

import pytest
from PIL import Image

from omnivore_jax.data.decode import decode_image
from tests.ingest.layouts.downloads import lay, picture, prepare, refusal
from tests.media import part, png

TRAINVAL = """\
# Image CLASS-ID SPECIES BREED ID
Abyssinian_100 1 1 1
american_bulldog_7 2 2 1
Egyptian_Mau_14 3 1 2
"""
TEST = "american_bulldog_9 2 2 1\nAbyssinian_2 1 1 1\nEgyptian_Mau_3 3 1 2\n"


def gif(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "GIF")
    return file.getvalue()


def download():
    names = ("Abyssinian_100", "american_bulldog_7", "american_bulldog_9", "Abyssinian_2")
    pictures = {f"images/{name}.jpg": picture(k) for k, name in enumerate(names)}
    # Under names of JPEG, as in the download
    pictures |= {
        "images/Egyptian_Mau_14.jpg": gif(part(5)),
        "images/Egyptian_Mau_3.jpg": png(part(6)),
    }
    return pictures | {
        "images/Abyssinian_100.mat": b"x",
        "annotations/trainval.txt": TRAINVAL,
        "annotations/test.txt": TEST,
    }


def test_trainval_is_trained_on_and_test_validates_with_classes_from_zero(tmp_path):
    files = download()
    whole = prepare("pets", lay(tmp_path / "src", files), tmp_path / "out")
    assert whole.classes == ("Abyssinian", "american_bulldog", "Egyptian_Mau")
    assert whole.labels("train") == {
        "Abyssinian_100.jpg": "Abyssinian",
        "american_bulldog_7.jpg": "american_bulldog",
        "Egyptian_Mau_14.jpg": "Egyptian_Mau",
    }
    assert whole.labels("val") == {
        "american_bulldog_9.jpg": "american_bulldog",
        "Abyssinian_2.jpg": "Abyssinian",
        "Egyptian_Mau_3.jpg": "Egyptian_Mau",
    }
    records = whole.records["train"] | whole.records["val"]
    assert all(record.media == files[id] for id, record in records.items())


def test_a_gif_and_a_png_under_the_name_of_a_jpeg_are_decoded(tmp_path):
    whole = prepare("pets", lay(tmp_path / "src", download()), tmp_path / "out")
    mau = decode_image(whole.records["train"]["images/Egyptian_Mau_14.jpg"].media)
    assert abs(mau.astype(int) - part(5)).mean() < 8  # a palette of 256 colors
    exact = decode_image(whole.records["val"]["images/Egyptian_Mau_3.jpg"].media)
    assert (exact == part(6)).all()


REFUSALS = {
    "nothing": ({"images/x": b""}, "has no images/ or no annotations/"),
    "no list": ({"images/x": b"", "annotations/test.txt": TEST}, "trainval.txt is not there"),
    "a short line": (
        download() | {"annotations/test.txt": "Abyssinian_2 1 1 1\nAbyssinian_3 1\n"},
        "test.txt: line 2 is 'Abyssinian_3 1', not NAME NUMBER NUMBER NUMBER",
    ),
    "two breeds of one class": (
        download() | {"annotations/test.txt": "Bengal_2 1 1 1\n"},
        "class 1 is Abyssinian and, by Bengal_2, Bengal too",
    ),
    "a class too few": (
        download()
        | {
            "annotations/trainval.txt": "Abyssinian_100 1 1 1\nEgyptian_Mau_14 3 1 2\n",
            "annotations/test.txt": "Abyssinian_2 1 1 1\n",
        },
        "names 2 classes, but not number 1",
    ),
    "twice": (
        download() | {"annotations/test.txt": TEST + TEST},
        "lists images/Abyssinian_2.jpg twice",
    ),
    "no text": (download() | {"annotations/test.txt": b"\xff\xfe\x00"}, "test.txt is no text"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_the_download_is_explained_in_one_line(tmp_path, case):
    files, says = REFUSALS[case]
    assert says in refusal("pets", lay(tmp_path, files))
