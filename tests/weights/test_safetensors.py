import json
import struct
import time

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_output, new_file
from omnivore_jax.weights import safetensors as weights
from omnivore_jax.weights.lazy import lazy
from omnivore_jax.weights.opening import open_weights
from tests.weights.torch import layout_files

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(7, np.int64),
    "half": np.ones((2, 2), np.float16),
    "brain": np.array([1.5, -2], ml_dtypes.bfloat16),
    "none": np.zeros((0, 3), np.float32),
}


def write(path, card):
    weights.write_safetensors(path, {name: lazy(array) for name, array in ARRAYS.items()}, card)
    return path


def header(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def lie(path, change):
    """Writes another header before the same bytes."""
    entries, rest = header(path)
    change(entries)
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)
    return path


def test_a_file_of_ours_is_one_of_the_librarys(tmp_path):
    path = write(tmp_path / "w", {"some": "card"})
    held = load_file(path)
    assert held.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(held[name], array)
        assert held[name].dtype == array.dtype
    read, metadata = weights.read_safetensors(path)
    assert json.loads(metadata[weights.CARD]) == {"some": "card"}
    assert all(read[name].read().tobytes() == array.tobytes() for name, array in ARRAYS.items())


def test_the_card_is_replaced_while_the_arrays_stay(tmp_path):
    path = write(tmp_path / "w", {"some": "card"})
    before = path.stat().st_size
    weights.replace_card(path, {"another": "x" * 20_000})
    read, metadata = weights.read_safetensors(path)
    assert (
        json.loads(metadata[weights.CARD]) == {"another": "x" * 20_000}
        and path.stat().st_size == before
    )
    np.testing.assert_array_equal(read["b"].read(), ARRAYS["b"])
    with pytest.raises(ValueError, match="has grown by .* bytes more than there is room for"):
        weights.replace_card(path, {"another": "x" * 100_000})


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["b"].update(shape=[2, 4]),
        lambda h: h["b"].update(data_offsets=[0, 10**12]),
        lambda h: h["b"].update(data_offsets=[-4, 20]),
        lambda h: h["b"].update(dtype="F1000"),
        lambda h: h["half"].update(data_offsets=h["b"]["data_offsets"]),
        lambda h: h.pop("b"),
        lambda h: h.update(b=3),
    ],
)
def test_a_header_that_lies_is_one_line(tmp_path, change):
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        weights.read_safetensors(lie(write(tmp_path / "w", {}), change))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"PK\x03\x04 and more",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 10) + b"{no json}",
    ],
)
def test_what_is_no_weights_is_one_line(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(
        UserError,
        match=r"neither a safetensors|not a whole safetensors|needs PyTorch|not a checkpoint",
    ):
        open_weights(tmp_path / "w")
    with pytest.raises(UserError, match="is not there"):
        open_weights(tmp_path / "v")


def test_a_file_that_is_cut_off_is_one_line(tmp_path):
    path = layout_files.save(tmp_path / "w", layout_files.released())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        open_weights(path)


def test_a_card_that_describes_no_model_is_one_line(tmp_path):
    for card in (
        "{",
        "[]",
        '{"model": {}}',
        '{"model": {"name": "x"}, "heads": {}, "preprocessing": {}}',
    ):
        save_file({"a": np.zeros(1, np.float32)}, tmp_path / "w", metadata={weights.CARD: card})
        with pytest.raises(UserError, match="its card describes no model"):
            open_weights(tmp_path / "w")


@pytest.mark.slow
def test_a_million_keys_are_read_and_explained_in_seconds(tmp_path):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"trunk.{i}.w": entry for i in range(1_000_000)}).encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(text)) + text)
    began = time.monotonic()
    with pytest.raises(UserError, match="no Swin trunk"):
        open_weights(tmp_path / "w")
    assert time.monotonic() - began < 120


def test_a_new_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "w"
    path.write_text("old")
    with pytest.raises(RuntimeError), new_file(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with new_file(path) as draft:
        draft.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_destination_that_could_be_elsewhere_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").symlink_to(tmp_path / "real" / "x")
    for path, says in {
        tmp_path / "link" / "w": "link is a symbolic link",
        tmp_path / "file": "file is a symbolic link",
        tmp_path / "real" / ".." / "w": "goes up a folder",
        tmp_path / "nowhere" / "w": "is not a folder; make it first",
        tmp_path / "real": "is a folder; name a file in it",
    }.items():
        with pytest.raises(UserError, match=says):
            check_output(path)
