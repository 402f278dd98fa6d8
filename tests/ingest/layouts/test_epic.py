import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.ingest.layouts.base import LayoutOptions
from omnivore_jax.ingest.layouts.epic import EpicKitchens, seconds
from tests.ingest.downloads import lay, names_in, prepare_clips
from tests.media import clip

HEAD = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)


def row(id, start, stop, verb, noun):
    video = id.rpartition("_")[0]
    times = f"00:00:00.10,00:00:0{start},00:00:0{stop},1,9"
    return f"{id},P01,{video},{times},take it,x,{verb},y,{noun},\"['plate', 'knife']\",\"[2, 4]\"\n"


# 25 frames a second: 0.52 s is frame 13
TRAIN = HEAD + (
    row("P01_01_0", "0.52", "1.00", 3, 2)
    + row("P01_01_1", "0.00", "0.40", 0, 4)
    + row("P01_102_0", "1.20", "1.40", 3, 2)
    + row("P09_01_0", "0.00", "1.00", 3, 2)
    + row("P01_01_2", "0.04", "0.12", 3, 2)
)
VAL = HEAD + row("P01_102_1", "0.10", "0.20", 0, 2) + row("P01_01_3", "2.30", "9.00", 0, 4)
ANNOTATIONS = {"EPIC_100_train.csv": TRAIN, "EPIC_100_validation.csv": VAL}
NAMES = {
    "EPIC_100_verb_classes.csv": "id,key,instances,category\n0,take,\"['take', 'grab']\",retrieve\n"
    "3,close,['close'],access\n",
    "EPIC_100_noun_classes.csv": "id,key,instances,category\n2,plate,['plate'],crockery\n"
    "4,board:chopping,['board'],utensils\n",
}
VIDEOS = {"P01/videos/P01_01.MP4": clip(), "P01/P01_102.MP4": clip("h264 with open groups")}
TRAIN_SAMPLES = [
    ("P01_01_0", "close plate", list(range(13, 25))),
    ("P01_01_1", "take board:chopping", list(range(10))),
    ("P01_102_0", "close plate", list(range(30, 35))),
    ("P01_01_2", "close plate", [1, 2]),
]
VAL_SAMPLES = [
    ("P01_102_1", "take plate", [3, 4]),
    ("P01_01_3", "take board:chopping", [58, 59]),
]


def test_samples_are_the_frames_of_their_time_and_classes_pairs_of_verb_and_noun(tmp_path):
    files = {f"annotations/{name}": text for name, text in (ANNOTATIONS | NAMES).items()}
    out = tmp_path / "out"
    samples = prepare_clips("epic100", lay(tmp_path / "src", files | VIDEOS), out)
    assert samples == {"train": TRAIN_SAMPLES, "val": VAL_SAMPLES}
    # by number those of training, then the one that only validation has
    classes = ("take board:chopping", "close plate", "take plate")
    assert manifest.read(out).classes == classes
    assert names_in(out / "missing_files.jsonl") == ["P09_01_0"]


def test_without_names_classes_are_numbers_and_the_released_order_comes_first(tmp_path):
    source = lay(tmp_path, ANNOTATIONS | VIDEOS)
    assert EpicKitchens().list(source, LayoutOptions()).classes == ("0:4", "3:2", "0:2")
    lay(tmp_path, NAMES | {"epic_action_classes.csv": "close,plate\ntake,plate\n"})
    found = EpicKitchens().list(source, LayoutOptions())
    assert found.classes == ("close plate", "take plate", "take board:chopping")
    assert found.item("P01_01_0").edits == ("span", 0.52, 1.0)


def test_a_video_that_is_damaged_costs_its_own_samples_only(tmp_path):
    videos = {"videos/P01_01.mp4": VIDEOS["P01/videos/P01_01.MP4"], "videos/P01_102.mp4": b"x"}
    source = lay(tmp_path / "src", ANNOTATIONS | videos)
    samples = prepare_clips("epic100", source, tmp_path / "out")
    assert [id for id, *_ in samples["train"]] == ["P01_01_0", "P01_01_1", "P01_01_2"]
    assert names_in(tmp_path / "out" / "bad_files.jsonl") == ["P01_102_0", "P01_102_1"]
    reasons = (tmp_path / "out" / "bad_files.jsonl").read_text()
    assert "P01_102.mp4 from 1.20 to 1.40 s: " in reasons


def test_times_are_hours_minutes_and_seconds():
    assert seconds("01:02:03.45") == pytest.approx(3723.45)


def test_a_time_that_is_none_is_named_with_its_file(tmp_path):
    bad = {"EPIC_100_train.csv": TRAIN.replace("00:00:00.52", "soon")}
    with pytest.raises(UserError, match="EPIC_100_train.csv cannot be used") as error:
        EpicKitchens().list(lay(tmp_path, ANNOTATIONS | VIDEOS | bad), LayoutOptions())
    assert "\n" not in str(error.value)
