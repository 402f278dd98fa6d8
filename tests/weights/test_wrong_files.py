"""Files that are not what they should be: one line wherever they are opened; nothing is run."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import omnivore_jax as ov
from omnivore_jax import convert
from omnivore_jax.core.errors import UserError
from omnivore_jax.model.variants import model_config
from omnivore_jax.weights.class_names import class_names
from omnivore_jax.weights.conversion import convert as convert_file
from omnivore_jax.weights.diff import compare
from omnivore_jax.weights.initial import plan_initial
from omnivore_jax.weights.opening import open_weights
from omnivore_jax.weights.torch.released import write_hub_folder, write_released
from tests.weights.torch import layout_files
from tests.weights.torch.layout_files import PLAIN


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _header(text):
    return struct.pack("<Q", len(text)) + text


def _zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "no tensors")
    return path.read_bytes()


def wrong_files(folder):
    """Contents by what is wrong with them."""
    whole = layout_files.save(folder / "whole", layout_files.released()).read_bytes()
    trap = {"trunk": Trap(folder / "it ran")}
    contents = {
        "empty": b"",
        "a byte": b"\x80",
        "a text": b"these are no weights\n",
        "a card": json.dumps([1, 2]).encode(),
        "cut off": whole[: len(whole) // 2],
        "header cut off": whole[:50],
        "header of no JSON": _header(b"{nothing}"),
        "header of another kind": _header(b'{"a": 3}'),
        "metadata of another kind": _header(b'{"__metadata__": {"card": "[1]"}}'),
        "card of another kind": _header(b'{"__metadata__": {"card": "{\\"heads\\": 3}"}}'),
        "a type that we lack": _header(
            b'{"a": {"dtype": "F8_E5M2", "shape": [1], "data_offsets": [0, 1]}}'
        )
        + b"x",
        "a zip": _zip(folder / "zip"),
        "a zip cut off": _zip(folder / "zip")[:20],
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(64),
        "garbage after the mark of a pickle": b"\x80\x02garbage",
        **{f"a pickle, {n}": pickle.dumps(trap, protocol=n) for n in range(6)},
        "an old pickle of numbers": pickle.dumps([1, 2], protocol=2),
    }
    for name in ("whole", "zip"):
        (folder / name).unlink()
    return contents


def entries(path, folder):
    """Every way in which a file of weights is opened."""
    target = folder / "out.safetensors"
    options = convert.Options(certificate=False)
    return {
        "open": lambda: open_weights(path),
        "load": lambda: ov.load(path),
        "from-torch": lambda: convert_file(path, target, PLAIN),
        "released": lambda: write_released(path, folder / "out.pt", PLAIN),
        "hub": lambda: write_hub_folder(path, folder / "out", PLAIN),
        "inspect": lambda: convert.inspect(options, path),
        "diff": lambda: compare(path, path),
        "init_from": lambda: plan_initial(path, model_config("tiny"), {}),
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".torch", ".json", ""])
def test_a_file_that_is_no_weights_is_one_line_wherever_it_is_opened(tmp_path, suffix):
    pytest.importorskip("torch")
    for kind, content in wrong_files(tmp_path).items():
        path = tmp_path / f"f{suffix}"
        path.write_bytes(content)
        for name, enter in entries(path, tmp_path).items():
            with pytest.raises(UserError) as failed:
                enter()
            message = str(failed.value)
            assert "\n" not in message and path.name in message, (kind, name, message)
        assert list(tmp_path.iterdir()) == [path], kind  # nothing was run, nothing was written


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_pytorchs_files_are_read_whatever_they_are_called(tmp_path, zipped, suffix):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(x.copy()) for name, x in layout_files.released().items()}
    path = tmp_path / f"f{suffix}"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    assert open_weights(path).layout == "released Omnivore"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\0\0", b"\xff\xfe\xfa", b"[1", b"3\n4", b'{"a"'])
@pytest.mark.parametrize("suffix", [".json", ".csv", ".txt", ""])
def test_a_list_of_classes_that_is_none_is_one_line(tmp_path, content, suffix):
    path = tmp_path / f"names{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError) as failed:
        class_names(str(path), 4)
    assert "\n" not in str(failed.value) and "--classes: " in str(failed.value)


def test_json_is_told_by_its_content(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text('["a, b", "c"]')
    assert class_names(str(path), 2) == ["a, b", "c"]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file that fails to be read")
def test_a_file_that_cannot_be_read_is_not_said_to_be_one_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="/proc/self/mem cannot be read: Input/output error"):
        convert_file(Path("/proc/self/mem"), tmp_path / "w.safetensors", PLAIN)


def test_what_a_card_of_before_says_of_how_to_run_is_ignored(tmp_path):
    before = Path(__file__).parents[1] / "before" / "before.safetensors"
    content = before.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    card = json.loads(header["__metadata__"]["card"])
    card["model"] |= {"dtype": "bfloat16", "attention_backend": "cudnn", "drop_path": 0.3}
    header["__metadata__"]["card"] = json.dumps(card)
    text = json.dumps(header).encode()
    assert len(text) <= length
    path = tmp_path / "old.safetensors"
    path.write_bytes(content[:8] + text.ljust(length) + content[8 + length :])
    model = ov.load(path)
    assert not {"dtype", "attention_backend", "drop_path", "dropout"} & model.card["model"].keys()
    x = np.zeros((1, 1, 8, 8, 3), "float32")
    assert model(x, "image").dtype == "float32"
    assert (model(x, "image") == ov.load(before)(x, "image")).all()
