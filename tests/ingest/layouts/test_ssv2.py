import json

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.base import LayoutOptions
from omnivore_jax.ingest.layouts.ssv2 import SomethingSomething
from tests.ingest.downloads import lay, names_in, prepare_clips
from tests.media import clip

HOLD, POUR = "Holding something next to something", "Pouring something into something"
LABELS = json.dumps({POUR: "1", HOLD: "0"})


def caption(id, template):
    words = {"id": id, "label": "holding potato next to bottle", "placeholders": ["potato"]}
    return words | {"template": template}


TRAIN = json.dumps(
    [
        caption("78687", "Holding [something] next to [something]"),
        caption("42326", "Pouring [something] into [something]"),
        caption("9", "Pouring [something] into [something]"),
        caption("10", "Pouring [something] into [something]"),
    ]
)
VAL = json.dumps([caption("74225", "Pouring [something] into [something]")])
VP9 = "vp9 without a frame count"
FOLDER = "20bn-something-something-v2"
CLIPS = {
    f"{FOLDER}/78687.webm": clip(VP9, 10),
    f"{FOLDER}/42326.webm": clip(VP9, 11),
    f"{FOLDER}/9.webm": clip(VP9, 12),
    f"{FOLDER}/74225.webm": clip(VP9, 13),
    f"{FOLDER}/1.webm": b"of the test split",
}


def download(prefix="something-something-v2-"):
    lists = {"labels": LABELS, "train": TRAIN, "validation": VAL}
    return CLIPS | {f"{prefix}{name}.json": text for name, text in lists.items()}


@pytest.mark.parametrize("prefix", ["something-something-v2-", "labels/"])
def test_templates_are_classes_by_the_numbers_of_the_labels(tmp_path, prefix):
    samples = prepare_clips("ssv2", lay(tmp_path / "src", download(prefix)), tmp_path / "out")
    assert samples == {
        "train": [
            ("78687", HOLD, list(range(10))),
            ("42326", POUR, list(range(11))),
            ("9", POUR, list(range(12))),
        ],
        "val": [("74225", POUR, list(range(13)))],
    }
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["classes"] == [HOLD, POUR]
    assert names_in(tmp_path / "out" / "missing_files.jsonl") == ["10"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"labels.json": None}, "has no something-something-v2-labels.json or labels.json"),
        ({"labels.json": "{"}, "labels.json cannot be used"),
        ({"labels.json": '{"a": "0", "b": "2"}'}, "numbers are not 0, 1, 2"),
        ({"train.json": json.dumps([caption("1", "Eating [it]")])}, "train.json .*no 'Eating it'"),
        ({"validation.json": "[3]"}, "validation.json cannot be used"),
    ],
)
def test_lists_that_are_no_release_are_named_in_one_line(tmp_path, files, says):
    whole = CLIPS | {"labels.json": LABELS, "train.json": TRAIN, "validation.json": VAL}
    whole = {name: data for name, data in (whole | files).items() if data is not None}
    with pytest.raises(UserError, match=says) as error:
        SomethingSomething().list(lay(tmp_path, whole), LayoutOptions())
    assert "\n" not in str(error.value)
