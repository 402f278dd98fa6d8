import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import omnivore_jax as ov
from omnivore_jax import convert
from omnivore_jax.checkpoint.manager import CheckpointManager
from omnivore_jax.convert import Options
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.tree import flatten
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.model.variants import model_config
from omnivore_jax.weights.card import Origin, make_card
from omnivore_jax.weights.lazy import lazy
from omnivore_jax.weights.safetensors import write_safetensors
from omnivore_jax.weights.torch.names import to_torch
from tests.params import random_params

pytestmark = pytest.mark.xdist_group("convert")  # what they share is made once

CONFIG, HEADS = model_config("demo", window_index="geometric"), {"image": 10, "video": 6}
PLAIN = Options(certificate=False, json=True)


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG, HEADS)


@pytest.fixture
def ours(tmp_path, params):
    card = make_card(
        CONFIG, HEADS, {"image": Preprocessing(std=(0.5, 0.5, 0.5))}, origin=Origin(licence="mine")
    )
    write_safetensors(tmp_path / "ours", {p: lazy(x) for p, x in flatten(params).items()}, card)
    return tmp_path / "ours"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, params):
    """A run of one checkpoint whose EMA is half of its parameters, spread over eight devices."""
    folder = tmp_path_factory.mktemp("run")
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))

    def spread(x):
        spec = jax.sharding.PartitionSpec("fsdp" if x.ndim and x.shape[0] % 8 == 0 else None)
        return jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))

    state = {
        "params": jax.tree.map(spread, params),
        "ema": jax.tree.map(lambda x: spread(x / 2), params),
    }
    card = make_card(CONFIG, HEADS, {"image": Preprocessing()})
    with CheckpointManager(folder / "checkpoints") as manager:
        manager.save(3, state | {"step": np.int32(3)}, {"card": card})
    return folder


def answer(capsys):
    return json.loads(capsys.readouterr().out)


def as_pytorchs(path, params):
    """The same weights in the released layout."""
    save_file(dict(to_torch(p, x) for p, x in flatten(params).items()), path)
    return path


def test_a_file_comes_in_with_its_account(tmp_path, params, capsys):
    source = as_pytorchs(tmp_path / "source", params)
    assert convert.from_torch(PLAIN, source, tmp_path / "w.safetensors") == 0
    done = answer(capsys)
    assert done["layout"] == "released Omnivore" and done["parameters"] == sum(
        x.size for x in flatten(params).values()
    )
    assert {row["kind"] for row in done["table"]} == {"matched"} and len(done["table"]) == len(
        flatten(params)
    )
    assert done["card"] == json.loads((tmp_path / "w.json").read_text())
    assert convert.from_torch(Options(certificate=False), source, tmp_path / "w.safetensors") == 0
    assert "released Omnivore, demo" in capsys.readouterr().out


@pytest.mark.parametrize("raw", [False, True])
def test_a_run_comes_out_as_one_file_with_its_ema_or_its_parameters(
    run_folder, tmp_path, params, raw, capsys
):
    options = Options(certificate=False, json=True, raw=raw, heads=["image"])
    convert.from_torch(options, run_folder, tmp_path / "w.safetensors")
    assert (
        answer(capsys)["layout"] == f"run of omnivore_jax, {'params' if raw else 'ema'} of step 3"
    )
    held = load_file(tmp_path / "w.safetensors")
    want = {
        p: x if raw else x / 2
        for p, x in flatten(params).items()
        if not p.startswith("heads.video")
    }
    assert held.keys() == want.keys()
    assert all(np.array_equal(held[path], array) for path, array in want.items())


def test_a_damaged_best_checkpoint_gives_way_to_the_newest_good_one(tmp_path, params, capsys):
    state = {"params": params, "ema": params}
    card = make_card(CONFIG, HEADS, {"image": Preprocessing()})
    with CheckpointManager(tmp_path / "run/checkpoints") as manager:
        for step in (3, 6):
            manager.save(step, state | {"step": np.int32(step)}, {"card": card})
            manager.record_best(step, 1 / step)
    damaged = next((tmp_path / "run/checkpoints/3").rglob("_METADATA"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert convert.inspect(PLAIN, tmp_path / "run") == 0
    assert answer(capsys)["layout"] == "run of omnivore_jax, ema of step 6"


def test_a_run_is_loaded_with_its_ema_and_its_card(run_folder, params):
    model = ov.load(run_folder)
    np.testing.assert_array_equal(
        model.params["heads"]["image"]["kernel"], params["heads"]["image"]["kernel"] / 2
    )
    assert model.card["heads"] == HEADS and model.config == CONFIG


def test_inspect_tells_the_same_values_whatever_the_layout(tmp_path, ours, params, capsys):
    source = as_pytorchs(tmp_path / "source", params)
    found = []
    for file in (ours, source):
        convert.inspect(PLAIN, file)
        found.append(answer(capsys))
    assert (
        found[0]["weights_sha256"] == found[1]["weights_sha256"]
        and found[0]["sha256"] != found[1]["sha256"]
    )
    assert [f["layout"] for f in found] == ["omnivore_jax", "released Omnivore"]
    assert found[0]["heads"] == HEADS and found[0]["preprocessing"]["image"]["std"] == [0.5] * 3
    assert found[0]["not_finite"] == {} and found[0]["card"]["licence"] == "mine"
    state = load_file(source)
    state["trunk.norm.weight"][:2] = np.nan
    save_file(state, source)
    convert.inspect(PLAIN, source)
    assert answer(capsys)["not_finite"] == {"trunk.norm.scale": 2}
    convert.inspect(Options(), ours)
    assert (
        "demo, window (4, 4, 4), joint position bias, geometric window index"
        in capsys.readouterr().out
    )


def test_diff_tells_equal_from_different_and_from_missing(tmp_path, ours, params, capsys):
    source = as_pytorchs(tmp_path / "source", params)
    assert convert.diff(PLAIN, ours, source) == 0
    assert answer(capsys)["summary"] == f"{len(flatten(params))} equal"
    state = load_file(source)
    state["trunk.norm.bias"][5] += 0.25
    del state["heads.video.1.bias"]
    state["heads.image.bias"] = np.append(state["heads.image.bias"], np.float32(0))
    save_file(state, source)
    assert convert.diff(PLAIN, ours, source) == 1
    rows = {row["path"]: row for row in answer(capsys)["tensors"] if row["verdict"] != "equal"}
    assert (
        rows["trunk.norm.bias"]["verdict"] == "differs"
        and rows["trunk.norm.bias"]["max_abs"] == 0.25
    )
    assert (
        rows["heads.video.bias"]["verdict"] == "only in A"
        and rows["heads.image.bias"]["verdict"] == "shape"
    )
    assert len(rows) == 3
    assert convert.diff(Options(), ours, source) == 1
    assert "largest difference 0.25 at trunk.norm.bias" in capsys.readouterr().out


def test_diff_of_what_is_not_finite_is_json(ours, tmp_path, params, capsys):
    broken = {path: x.copy() for path, x in flatten(params).items()}
    broken["trunk.norm.bias"][0] = np.nan
    write_safetensors(
        tmp_path / "b", {p: lazy(x) for p, x in broken.items()}, make_card(CONFIG, HEADS, {})
    )
    assert convert.diff(PLAIN, ours, tmp_path / "b") == 1
    rows = [row for row in answer(capsys)["tensors"] if row["verdict"] != "equal"]
    assert [(row["path"], row["max_abs"], row["cosine"]) for row in rows] == [
        ("trunk.norm.bias", None, None)
    ]
    assert convert.diff(Options(), ours, tmp_path / "b") == 1
    assert "largest difference not finite at trunk.norm.bias" in capsys.readouterr().out


def test_equal_weights_that_are_used_otherwise_differ(ours, tmp_path, params, capsys):
    held = {p: lazy(x) for p, x in flatten(params).items()}
    card = make_card(
        model_config("demo", window_index="released"),
        HEADS,
        {"image": Preprocessing(std=(0.2, 0.5, 0.5))},
    )
    write_safetensors(tmp_path / "b", held, card)
    assert convert.diff(Options(), ours, tmp_path / "b") == 1
    said = capsys.readouterr().out
    assert (
        "window_index 'geometric' and 'released'" in said
        and "std of image" in said
        and "69 equal" in said
    )


def test_diff_of_two_runs_compares_all_that_was_saved(run_folder, tmp_path, ours, params, capsys):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    assert convert.diff(PLAIN, run_folder, copy) == 0
    assert answer(capsys)["summary"] == f"{2 * len(flatten(params)) + 1} equal"
    assert convert.diff(PLAIN, run_folder, ours) == 1  # the EMA is half of the file's weights
    rows = answer(capsys)["tensors"]
    assert all(row["verdict"] in ("equal", "differs") for row in rows) and len(rows) == len(
        flatten(params)
    )
    cosines = [row["cosine"] for row in rows if row["verdict"] == "differs" and row["max_abs"]]
    assert cosines == pytest.approx([1.0] * len(cosines), abs=1e-6)


def test_a_destination_that_is_not_one_is_refused(ours, tmp_path):
    for values, target, says in (
        ({}, "w.bin", "should end in .safetensors"),
        ({"window": ["8", "x"]}, "w.safetensors", "--window=8,x; write three numbers"),
        ({"window": ["99999999", "7", "7"]}, "w.safetensors", "has more than 16,384 tokens"),
        ({"raw": True}, "w.safetensors", "--raw, but .* holds one set of weights"),
        ({"variant": "tiny"}, "w.safetensors", "--variant=tiny has embed_dim=24, but"),
        ({"classes": ["image"]}, "w.safetensors", "--classes=image; write HEAD=FILE"),
    ):
        with pytest.raises(UserError, match=says):
            options = convert.read_options({"certificate": False, **values})
            convert.from_torch(options, ours, tmp_path / target)
    with pytest.raises(UserError, match="should end in .torch or .pth or .pt, or in nothing"):
        convert.to_torch(PLAIN, ours, tmp_path / "w.onnx")


def test_what_flags_say_becomes_a_request():
    values = {
        "window": ["8", "12", "12"],
        "classes": ["image=timm", "video=names.txt"],
        "heads": ["image", "mine:3"],
        "allow_missing": ["x.*", "y"],
        "depth_embed": "summed",
        "prefix": None,
        "seed": 3,
        "raw": True,
    }
    assert convert.read_options(values) == Options(
        window=(8, 12, 12),
        classes={"image": "timm", "video": "names.txt"},
        heads=("image", "mine:3"),
        allow_missing=("x.*", "y"),
        depth_embed="summed",
        seed=3,
        raw=True,
    )


def test_the_command_takes_flags_with_dashes_and_fails_in_one_line(ours, tmp_path):
    def call(*arguments):
        command = [sys.executable, "-m", "omnivore_jax.convert", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    done = call(
        "adapt",
        ours,
        tmp_path / "w.safetensors",
        "--nocertificate",
        "--heads=image",
        "--allow-missing=x,y",
    )
    assert done.returncode == 0 and "heads {'image': 10}" in done.stdout
    done = call(
        "from-torch", ours, tmp_path / ".." / tmp_path.name / "w.safetensors", "--nocertificate"
    )
    assert (
        done.returncode == 2 and "goes up a folder" in done.stderr and done.stderr.count("\n") == 1
    )
    done = call("inspect", ours, "--heads=q")
    assert (
        done.returncode == 2 and "--heads is not for inspect, which takes --variant" in done.stderr
    )
    done = call("from-torch", ours)
    assert (
        done.returncode == 2
        and "use from-torch SRC DST" in done.stderr
        and done.stderr.count("\n") == 1
    )
