"""PyTorch is installed by requirements-torch.txt; without it these tests are skipped."""

import argparse
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.weights.torch import layout_files
from tests.weights.torch.layout_files import PLAIN

torch = pytest.importorskip("torch")

import omnivore_jax as ov  # noqa: E402
from omnivore_jax import convert as convert_command  # noqa: E402
from omnivore_jax.core.errors import UserError  # noqa: E402
from omnivore_jax.core.tree import flatten  # noqa: E402
from omnivore_jax.model.params import abstract_model  # noqa: E402
from omnivore_jax.model.preprocess import Preprocessing  # noqa: E402
from omnivore_jax.model.variants import model_config  # noqa: E402
from omnivore_jax.weights import bias_forms  # noqa: E402
from omnivore_jax.weights.bias_forms import resize_bicubic  # noqa: E402
from omnivore_jax.weights.card import Origin, make_card  # noqa: E402
from omnivore_jax.weights.conversion import convert  # noqa: E402
from omnivore_jax.weights.diff import compare, summary  # noqa: E402
from omnivore_jax.weights.lazy import lazy  # noqa: E402
from omnivore_jax.weights.opening import open_weights  # noqa: E402
from omnivore_jax.weights.request import Request  # noqa: E402
from omnivore_jax.weights.safetensors import write_safetensors  # noqa: E402
from omnivore_jax.weights.torch import certificate  # noqa: E402
from omnivore_jax.weights.torch.names import to_torch  # noqa: E402
from omnivore_jax.weights.torch.released import write_hub_folder, write_released  # noqa: E402
from tests.params import random_params  # noqa: E402


def nested(state):
    """The two dicts of a released file, as tensors."""
    tree = {"trunk": {}, "heads": {}}
    for name, array in state.items():
        part, _, key = name.partition(".")
        tree[part][key] = torch.from_numpy(array.copy())
    return tree


@pytest.fixture
def source(tmp_path):
    torch.save(nested(layout_files.released()), tmp_path / "swinT_checkpoint.torch")
    return tmp_path / "swinT_checkpoint.torch"


@pytest.mark.parametrize("zipped", [True, False])
def test_both_of_pytorchs_formats_hold_the_golden_arrays(tmp_path, zipped):
    torch.save(
        nested(layout_files.released()), tmp_path / "f", _use_new_zipfile_serialization=zipped
    )
    source = open_weights(tmp_path / "f")
    assert source.layout == "released Omnivore" and source.unknown == []
    for path, want in layout_files.golden_params().items():
        np.testing.assert_array_equal(source.arrays[path].read(), want, err_msg=path)


def test_into_jax_and_out_again_not_a_bit_changes(source, tmp_path):
    convert(source, tmp_path / "w.safetensors", PLAIN)
    write_released(tmp_path / "w.safetensors", tmp_path / "back.torch", PLAIN)
    before, after = (
        torch.load(source, weights_only=True),
        torch.load(tmp_path / "back.torch", weights_only=True),
    )
    assert after.keys() == before.keys()
    for part, tensors in before.items():
        buffers = {key for key in after[part] if key.endswith("relative_position_index")}
        assert after[part].keys() - buffers == tensors.keys() and len(buffers) == (
            8 if part == "trunk" else 0
        )
        assert all(torch.equal(after[part][key], tensor) for key, tensor in tensors.items())
    index = after["trunk"]["layers.0.blocks.0.attn.relative_position_index"]
    assert index.dtype == torch.int64 and tuple(index.shape) == (196, 196)
    assert (index.diagonal() == 3 * 169 + 84).all()  # a token and itself: the centre of the table
    assert summary(compare(source, tmp_path / "back.torch")[0]) == "129 equal"


def test_what_the_released_layout_cannot_say_is_on_the_certificate(tmp_path):
    config = model_config("demo", position_bias="factored")
    params = flatten(random_params(config, {"image": 10, "mine": 3}))
    held = {path: lazy(np.asarray(array)) for path, array in params.items()}
    write_safetensors(tmp_path / "w", held, make_card(config, {"image": 10, "mine": 3}, {}))
    write_released(tmp_path / "w", tmp_path / "f.torch", PLAIN)
    lines = json.loads((tmp_path / "f.torch.json").read_text())["certificate"]["differences"]
    assert "window_index=geometric: outputs differ where the input clamps a window" in lines[0]
    assert "no hub name builds this trunk" in lines[1] and lines[1].endswith("and depth summed")
    assert "no hub name has the heads {'image': 10, 'mine': 3}" in lines[2] and len(lines) == 3
    state = torch.load(tmp_path / "f.torch", weights_only=True)
    assert sorted(state["heads"]) == ["image.bias", "image.weight", "mine.bias", "mine.weight"]
    base = "trunk.layers.1.blocks.1.attn.relative_position_bias_table"
    joint = params[f"{base}.temporal"][:, None] + params[f"{base}.spatial"][None]
    table = state["trunk"][base.removeprefix("trunk.")]
    np.testing.assert_array_equal(table.numpy().reshape(joint.shape), joint)


def test_the_epic_file_comes_back_with_its_nameless_head(tmp_path):
    _, state = layout_files.files()["epic"]
    torch.save(nested(state), tmp_path / "f")
    convert(tmp_path / "f", tmp_path / "w.safetensors", PLAIN)
    write_released(tmp_path / "w.safetensors", tmp_path / "back.torch", PLAIN)
    back = torch.load(tmp_path / "back.torch", weights_only=True)
    assert back["heads"].keys() == {"1.weight", "1.bias"}
    assert torch.equal(back["heads"]["1.weight"], torch.from_numpy(state["heads.1.weight"]))


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_does_not(tmp_path, how):
    target, trap = tmp_path / "f.pth", {"trunk": Evil(tmp_path / "it ran")}
    if how == "torch":
        torch.save(trap, target)
    else:
        target.write_bytes(pickle.dumps(trap))
    with pytest.raises(UserError, match=r"asks to run code \(posix.mkdir\)|damaged") as failed:
        convert(target, tmp_path / "w.safetensors", PLAIN)
    assert "\n" not in str(failed.value) and list(tmp_path.iterdir()) == [target]


def test_a_damaged_file_is_one_line(source, tmp_path):
    whole = source.read_bytes()
    for content in (
        whole[: len(whole) // 2],
        whole[:100],
        b"\x80\x02garbage",
        pickle.dumps([1, 2]),
        pickle.dumps(3),
    ):
        source.write_bytes(content)
        with pytest.raises(
            UserError, match=r"not a checkpoint of PyTorch or damaged|no Swin trunk"
        ) as failed:
            open_weights(source)
        assert "\n" not in str(failed.value)


def test_what_training_files_hold_beside_their_tensors_does_no_harm(tmp_path):
    state = nested(layout_files.released())
    beside = {
        "config": argparse.Namespace(lr=1e-3, name="swin"),
        "max_accuracy": np.float64(81.2),
        "epoch": np.int64(3),
    }
    torch.save(state | beside, tmp_path / "f")
    source = open_weights(tmp_path / "f")
    assert len(source.arrays) == 129 and sorted(source.training) == sorted(beside)


@pytest.mark.parametrize(
    "strange",
    [
        torch.zeros(192).to(torch.float8_e4m3fn),
        torch.eye(3).to_sparse(),
        torch.zeros(3, device="meta"),
    ],
    ids=["float8", "sparse", "meta"],
)
def test_a_tensor_that_is_not_plain_numbers_is_named(tmp_path, strange):
    state = nested(layout_files.released())
    state["trunk"]["norm.weight"] = strange
    torch.save(state, tmp_path / "f")
    with pytest.raises(
        UserError, match=r"trunk.norm.weight is a tensor that is not plain numbers .* save it dense"
    ):
        open_weights(tmp_path / "f")


def test_a_tensor_of_which_less_is_stored_is_named(tmp_path):
    state = nested(layout_files.released())
    key = "layers.0.blocks.0.attn.relative_position_bias_table"
    state["trunk"][key] = torch.zeros(1, 1).expand(10**15 + 1, 1)
    torch.save(state, tmp_path / "f")
    with pytest.raises(UserError, match="bias_table has shape .* but less is stored of it"):
        open_weights(tmp_path / "f")


def test_an_inflation_that_is_wrong_is_not_certified(tmp_path, monkeypatch):
    _, state = layout_files.files()["timm"]
    path = layout_files.save(tmp_path / "f", state)
    job = convert(path, tmp_path / "w.safetensors", Request(heads=["mine=image"], certify=True))
    found = job.card["certificate"]
    assert found["compared"] == "the result and the 2-D model of the file"
    assert found["inputs"]["static"]["logits"].keys() == {"mine"}
    right = bias_forms.resize_table
    monkeypatch.setattr(
        bias_forms, "resize_table", lambda *given: np.ascontiguousarray(right(*given)[::-1])
    )
    with pytest.raises(UserError, match=r"is not certified: failed \(.* of static"):
        convert(path, tmp_path / "v.safetensors", Request(heads=["mine=image"], certify=True))


def test_a_folder_is_not_written_over_the_file_in_it_that_it_is_made_from(tmp_path, source):
    write_hub_folder(source, tmp_path / "hub", PLAIN)
    with pytest.raises(UserError, match="is the source or holds it"):
        request = replace(PLAIN, heads=["rgbd"])
        write_hub_folder(tmp_path / "hub" / "weights.pt", tmp_path / "hub", request)


def test_a_file_for_pytorch_comes_back_with_its_card(tmp_path):
    config, heads = model_config("demo", window_index="geometric"), {"epic": 3}
    params = flatten(random_params(config, heads))
    held = {path: lazy(np.asarray(array)) for path, array in params.items()}
    specs = {"epic": Preprocessing(mean=(0.1, 0.2, 0.3))}
    card = make_card(
        config, heads, specs, classes={"epic": ["a", "b", "c"]}, origin=Origin(licence="mine")
    )
    write_safetensors(tmp_path / "w", held, card)
    write_released(tmp_path / "w", tmp_path / "f.torch", PLAIN)
    assert (
        "heads.epic.weight" in open_weights(tmp_path / "f.torch").names.values()
    )  # it has depth: not the EPIC model
    write_hub_folder(tmp_path / "w", tmp_path / "hub", PLAIN)
    for source in ("f.torch", "hub"):
        job = convert(tmp_path / source, tmp_path / "back.safetensors", PLAIN)
        assert job.config == config and job.json()["assumed"] == []
        for key in ("heads", "classes", "licence"):
            assert job.card[key] == card[key]
        assert job.card["preprocessing"]["epic"]["mean"] == (0.1, 0.2, 0.3)
        assert compare(tmp_path / "w", tmp_path / source)[1] == {}
    (
        tmp_path / "f.torch.json"
    ).unlink()  # without it, what the released models have is assumed, and said
    job = convert(tmp_path / "f.torch", tmp_path / "back.safetensors", PLAIN)
    assert (
        job.config.window_index == "released" and "assumed: the released window index" in job.text()
    )
    assert compare(tmp_path / "w", tmp_path / "back.safetensors")[1]["window_index"] == (
        "geometric",
        "released",
    )


def test_a_dict_that_holds_itself_and_keys_that_mean_the_same_are_refused(tmp_path):
    loop = {}
    loop["a"] = loop
    torch.save(loop, tmp_path / "f")
    with pytest.raises(UserError, match="dicts more than 16 deep"):
        open_weights(tmp_path / "f")
    torch.save({"a.b": torch.zeros(1), "a": {"b": torch.zeros(1)}}, tmp_path / "f")
    with pytest.raises(UserError, match="two tensors 'a.b'"):
        open_weights(tmp_path / "f")


def test_half_precisions_are_read_as_they_are(source):
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        tree = {
            part: {k: t.to(dtype) for k, t in held.items()}
            for part, held in nested(layout_files.released()).items()
        }
        torch.save(tree, source)
        array = open_weights(source).arrays["trunk.norm.scale"]
        assert array.dtype == str(dtype).removeprefix("torch.")
        np.testing.assert_array_equal(
            array.astype("float32").read(), tree["trunk"]["norm.weight"].float().numpy()
        )


@pytest.mark.parametrize(
    ("old", "new"), [((13, 13), (23, 23)), ((23, 23), (13, 13)), ((9, 5), (7, 11))]
)
def test_bicubic_is_that_of_pytorch(old, new):
    x = torch.randn(1, 2, *old, generator=torch.Generator().manual_seed(0))
    want = torch.nn.functional.interpolate(
        x, size=new, mode="bicubic", align_corners=False, antialias=False
    )
    found = resize_bicubic(x.permute(0, 2, 3, 1).numpy(), new)
    np.testing.assert_allclose(found, want.permute(0, 2, 3, 1), atol=3e-6)


def drawn(rng, name, shape):
    """Values of the sizes that a trained model has, so that norms, biases and tables count."""
    noise = rng.standard_normal(shape, np.float32)
    if name.endswith("weight") and len(shape) > 1:
        return noise / np.float32(np.sqrt(np.prod(shape[1:])))
    return noise / 2 if name.endswith("table") else np.float32(name.endswith("weight")) + noise / 10


MEASURED = """
import os, runpy, sys
from pathlib import Path
try:
    runpy.run_module("omnivore_jax.convert", run_name="__main__")
finally:
    lines = Path("/proc/self/status").read_text().splitlines()
    times = os.times()
    print(next(line for line in lines if "VmHWM" in line).split()[1], times.user + times.system)
"""


def measured(*arguments):
    """Runs the command; gives what it says, its core-seconds and the most bytes that it held."""
    command = [sys.executable, "-c", MEASURED, *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said, figures = done.stdout.splitlines()
    peak, seconds = figures.split()
    return json.loads(said), float(seconds), int(peak) * 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    (
        "variant",
        "parameters",
        "entries",
    ),  # FACTS 1.3, and the entries of a trunk's state dict without its buffers
    [("s", 50_603_649, 331), ("b", 90_114_643, 331), ("l", 198_526_839, 331)],
)
def test_big_models_convert_within_a_core_minute_and_two_and_a_half_files_of_memory(
    tmp_path, variant, parameters, entries
):
    config = model_config(
        f"omnivore_swin_{variant}", position_bias="joint", window_index="released"
    )
    shapes = flatten(abstract_model(config, {"image": 1000, "rgbd": 19, "video": 400})[1])
    zero = {path: np.broadcast_to(np.float32(0), leaf.shape) for path, leaf in shapes.items()}
    rng = np.random.default_rng(0)
    state = dict(to_torch(path, array) for path, array in zero.items())
    state = {name: drawn(rng, name, array.shape) for name, array in state.items()}
    torch.save(nested(state), tmp_path / "f")
    del state
    size = (tmp_path / "f").stat().st_size
    steps = [("from-torch", "f", "w.safetensors")]
    if variant == "l":
        steps += [("to-torch", "w.safetensors", "f.torch"), ("to-torch", "w.safetensors", "hub")]
    for command, src, dst in steps:
        said, seconds, peak = measured(command, tmp_path / src, tmp_path / dst)
        assert said["parameters"] == parameters and len(said["table"]) == entries + 6
        assert (
            said["card"]["variant"] == config.name
            and said["card"]["certificate"]["status"] == "passed"
        )
        assert seconds < 60
        if variant == "l":  # of smaller ones the interpreter and its libraries are the larger part
            assert peak < 2.5 * size, f"{command} held {peak / size:.2f} times the file"
    if variant == "l":
        assert summary(compare(tmp_path / "f", tmp_path / "f.torch")[0]) == f"{entries + 6} equal"


def test_a_conversion_is_certified_or_nothing_is_written(source, tmp_path, monkeypatch, capsys):
    target = tmp_path / "w.safetensors"
    convert_command.from_torch(convert_command.Options(certify=True, json=True), source, target)
    found = json.loads(capsys.readouterr().out)["card"]["certificate"]
    assert found["status"] == "passed" and set(found["logits"]) == {"image", "rgbd", "video"}
    assert json.loads(str(ov.load(target).card))["certificate"] == found
    before = target.read_bytes()
    monkeypatch.setattr(certificate, "LIMITS", dict.fromkeys(certificate.LIMITS, 0.0))
    with pytest.raises(
        UserError, match=r"is not certified: failed \(.*features of .*\); nothing was written"
    ):
        convert_command.from_torch(convert_command.Options(certify=True), source, target)
    assert target.read_bytes() == before and len(list(tmp_path.iterdir())) == 3
