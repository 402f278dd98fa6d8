"""What an earlier version wrote is read, and a run that it began goes on to the same end.

`before/` was written by version 0.1.0 as of commit 14d229c: a run that was stopped at step 4 of 8,
the rows that it wrote when it was not stopped (metrics.jsonl), and the weights of its end, made by
`convert from-torch`. Its model has 6,736 parameters.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import omnivore_jax as ov
from omnivore_jax.core.tree import flatten
from omnivore_jax.weights.inspection import inspect, text
from omnivore_jax.weights.opening import open_weights
from tests.whole_runs import complete, rows, training_rows

BEFORE = Path(__file__).parent / "before"


def close(one, other):
    """Compares rows of figures; another processor rounds otherwise."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, dict):
            close(value, other[key])
        else:
            assert value == pytest.approx(other[key], rel=1e-3), key


@pytest.mark.slow
def test_a_run_of_before_goes_on_to_the_same_end(tmp_path):
    workdir = tmp_path / "before"
    shutil.copytree(BEFORE / "run", workdir)
    _, said = complete(BEFORE / "config.py", workdir, {})
    assert "resuming from step 4" in said
    expected = [json.loads(line) for line in (BEFORE / "metrics.jsonl").read_text().splitlines()]
    assert len(training_rows(workdir)) == 8 and len(rows(workdir)) == len(expected)
    for ours, theirs in zip(rows(workdir), expected, strict=True):
        close(ours, theirs)


def test_weights_of_before_are_read_and_their_numbers_are_as_they_were():
    model = ov.load(BEFORE / "before.safetensors")
    assert model.heads == {"image": 10, "rgbd": 10, "video": 30}
    params = flatten(model.params)
    for path, array in load_file(BEFORE / "before.safetensors").items():
        np.testing.assert_array_equal(params[path], array)


def test_how_to_run_in_a_card_of_before_is_ignored(tmp_path):
    """A card that asked for cuDNN used to load and then fail at the first call."""
    tensors = load_file(BEFORE / "before.safetensors")
    with safe_open(BEFORE / "before.safetensors", "np") as file:
        metadata = file.metadata()
    key = next(key for key, text in metadata.items() if text.startswith("{"))
    card = json.loads(metadata[key])
    card["model"] |= {"attention_backend": "cudnn", "dtype": "bfloat16", "drop_path": 0.5}
    save_file(tensors, tmp_path / "w.safetensors", metadata | {key: json.dumps(card)})
    x = np.random.default_rng(0).standard_normal((2, 1, 32, 32, 3), np.float32)
    models = [ov.load(path) for path in (BEFORE / "before.safetensors", tmp_path / "w.safetensors")]
    np.testing.assert_array_equal(*(model(x) for model in models))


def test_views_that_a_card_of_before_has_in_words_are_shown_as_a_protocol():
    view = inspect(open_weights(BEFORE / "before.safetensors"))["protocols"]["video"]
    assert (view["frames"], view["size"], view["clips"], view["crops"]) == (8, 32, 1, 1)
    assert "8 frames at stride 2 in the middle" in text(
        inspect(open_weights(BEFORE / "before.safetensors"))
    )
