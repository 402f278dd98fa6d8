import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.base import LayoutOptions
from omnivore_jax.ingest.layouts.ucf101 import Ucf101
from tests.ingest.downloads import lay, prepare_clips
from tests.media import clip

NAMES = {
    "v_YoYo_g01_c01.avi": "YoYo",
    "v_YoYo_g08_c01.avi": "YoYo",
    "v_ApplyEyeMakeup_g01_c01.avi": "ApplyEyeMakeup",
    "v_ApplyEyeMakeup_g08_c02.avi": "ApplyEyeMakeup",
}
CLIPS = {
    f"{label}/{name}": clip("mpeg4 with B-frames", 10 + k)
    for k, (name, label) in enumerate(NAMES.items())
}
LISTS = {
    "classInd.txt": "1 ApplyEyeMakeup\r\n2 YoYo\r\n\r\n",
    "trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi 1\nYoYo/v_YoYo_g08_c01.avi 2\n",
    "testlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\nYoYo/v_YoYo_g01_c01.avi\n",
    "trainlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\nYoYo/v_YoYo_g01_c01.avi 2\n",
    "testlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi\nYoYo/v_YoYo_g08_c01.avi\n",
}
FIRST = [
    ("v_ApplyEyeMakeup_g08_c02", "ApplyEyeMakeup", list(range(13))),
    ("v_YoYo_g08_c01", "YoYo", list(range(11))),
]
SECOND = [
    ("v_ApplyEyeMakeup_g01_c01", "ApplyEyeMakeup", list(range(12))),
    ("v_YoYo_g01_c01", "YoYo", list(range(10))),
]


@pytest.mark.parametrize("flat", [False, True])
def test_the_lists_of_a_fold_are_its_splits(tmp_path, flat):
    files = {f"ucfTrainTestlist/{name}": text for name, text in LISTS.items()}
    files |= {
        f"UCF-101/{path.rpartition('/')[2] if flat else path}": data for path, data in CLIPS.items()
    }
    source = lay(tmp_path / "src", files)
    first = prepare_clips("ucf101", source, tmp_path / "1")
    second = prepare_clips("ucf101", source, tmp_path / "2", fold=2)
    assert first == {"train": FIRST, "val": SECOND} and second == {"train": SECOND, "val": FIRST}


def test_a_fold_without_lists_or_with_unknown_classes_is_an_error(tmp_path):
    source = lay(tmp_path, CLIPS | LISTS)
    with pytest.raises(UserError, match="has no trainlist03.txt, a list .*it holds ApplyEye"):
        Ucf101().list(source, LayoutOptions(fold=3))
    with pytest.raises(UserError, match="--fold=4"):
        Ucf101().list(source, LayoutOptions(fold=4))
    lay(tmp_path, {"testlist01.txt": "Archery/v_Archery_g01_c01.avi\n"})
    with pytest.raises(UserError, match="testlist01.txt cannot be used .no 'Archery'"):
        Ucf101().list(source, LayoutOptions())
