"""Folders for torch.hub: used in a process that has PyTorch and no JAX.

Written whole or not at all.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from omnivore_jax.core.errors import UserError  # noqa: E402
from omnivore_jax.core.tree import flatten, unflatten  # noqa: E402
from omnivore_jax.core.types import Batch  # noqa: E402
from omnivore_jax.data.demo import class_names, draw  # noqa: E402
from omnivore_jax.model.params import abstract_model, merge  # noqa: E402
from omnivore_jax.model.preprocess import Preprocessing, preprocess  # noqa: E402
from omnivore_jax.model.variants import model_config  # noqa: E402
from omnivore_jax.weights.card import make_card, read_card  # noqa: E402
from omnivore_jax.weights.lazy import lazy  # noqa: E402
from omnivore_jax.weights.opening import open_weights  # noqa: E402
from omnivore_jax.weights.request import Request  # noqa: E402
from omnivore_jax.weights.torch import file as torch_file  # noqa: E402  (needs torch)
from omnivore_jax.weights.torch.hub import FILES, WEIGHTS, new_hub, write_texts  # noqa: E402
from omnivore_jax.weights.torch.released import write_hub_folder  # noqa: E402
from omnivore_jax.weights.torch.state_dict import torch_state  # noqa: E402
from tests.params import random_params  # noqa: E402

HEADS = {"image": 10, "video": 30, "rgbd": 10}
DATASETS = {head: f"demo_{head}" for head in HEADS}
ROOT = Path(__file__).parents[3]
WITHOUT_JAX = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "flax", "omnivore_jax"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import json, torch
folder, name, inputs = sys.argv[1:]
model = torch.hub.load(folder, name, source="local")
print(json.dumps({
    head: model.predict(model.preprocess(given["rgb"], given.get("disparity"), head), head)
    for head, given in torch.load(inputs, weights_only=True).items()
}))
"""


def demo_inputs(count):
    """Real pictures, clips and reliefs of the demo that no model was trained on."""
    drawn = {head: draw(dataset, "test") for head, dataset in DATASETS.items()}
    depth = {
        head: None if p.disparity is None else p.disparity[:count] for head, p in drawn.items()
    }
    return {head: Batch(p.rgb[:count], depth[head], None, None) for head, p in drawn.items()}


def tensors(batch):
    return {
        key: torch.from_numpy(array) for key, array in batch._asdict().items() if array is not None
    }


def top5_without_jax(folder, name, inputs, tmp_path):
    """What a process says that has PyTorch alone and was started somewhere else."""
    torch.save({head: tensors(batch) for head, batch in inputs.items()}, tmp_path / "inputs.pt")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(Path(torch.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_JAX, str(folder), name, str(tmp_path / "inputs.pt")],
        cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_top5(found, params, card, inputs):
    config, heads, specs = read_card(card)
    graphdef = abstract_model(config, heads)[0]
    forward = jax.jit(lambda params, x, head: merge(graphdef, params)(x, head), static_argnums=2)
    for head, batch in inputs.items():
        scores = np.asarray(jax.nn.softmax(forward(params, preprocess(batch, specs[head]), head)))
        names = card["classes"].get(head) or [str(i) for i in range(heads[head])]
        order = np.argsort(-scores, axis=1)[:, :5]
        assert [[name for name, _ in row] for row in found[head]] == [
            [names[i] for i in row] for row in order
        ]
        np.testing.assert_allclose(
            [[p for _, p in row] for row in found[head]],
            np.take_along_axis(scores, order, 1),
            rtol=0,
            atol=1e-5,
        )


CONFIG = model_config("demo", position_bias="joint")


def write(folder, params, card):
    arrays = {path: lazy(np.asarray(leaf)) for path, leaf in flatten(params).items()}
    with new_hub(folder) as draft:
        torch_file.write_torch(draft / WEIGHTS, torch_state(arrays))
        write_texts(draft, folder.name, card)


@pytest.fixture(scope="module")
def params():
    return jax.device_put(random_params(CONFIG, HEADS))


@pytest.fixture(scope="module")
def card():
    specs = {
        "image": Preprocessing(mean=(0.35, 0.35, 0.35), std=(0.25, 0.25, 0.25)),
        "video": Preprocessing(),
        "rgbd": Preprocessing(disparity_max=1.5, disparity_mean=0.45, disparity_std=0.1),
    }
    return make_card(CONFIG, HEADS, specs, classes={"video": class_names("demo_video")})


def test_pictures_clips_and_reliefs_have_the_same_top_5_in_a_process_without_jax(
    params, card, tmp_path
):
    write(tmp_path / "hub", params, card)
    assert {path.name for path in (tmp_path / "hub").iterdir()} == set(FILES)
    inputs = demo_inputs(2)
    check_top5(top5_without_jax(tmp_path / "hub", "demo", inputs, tmp_path), params, card, inputs)


@pytest.mark.slow
def test_a_trained_demo_has_the_same_top_5_in_a_process_without_jax(tmp_path):
    small = [f"--config.data.{name}.batch_size=8" for name in DATASETS.values()]
    command = [
        sys.executable,
        "-m",
        "omnivore_jax.main",
        "--config=configs/demo.py",
        f"--workdir={tmp_path}/run",
    ]
    command += [
        *small,
        "--config.model.position_bias=factored",
        "--config.train.steps=60",
        "--config.eval.retrieval=0",
        "--config.log.tensorboard=False",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=900)
    source = open_weights(tmp_path / "run")
    params = unflatten({path: jnp.asarray(array.read()) for path, array in source.arrays.items()})
    job = write_hub_folder(tmp_path / "run", tmp_path / "hub", Request(certify=True))
    assert source.config.position_bias == "factored" and job.config.position_bias == "joint"
    assert json.loads(json.dumps(job.card)) == json.loads((tmp_path / "hub/card.json").read_text())
    assert job.card["certificate"]["status"] == "passed"
    inputs = demo_inputs(8)
    check_top5(
        top5_without_jax(tmp_path / "hub", "demo", inputs, tmp_path), params, source.card, inputs
    )


def test_the_code_of_the_folder_imports_torch_and_the_standard_library_alone():
    for file in (ROOT / "omnivore_jax/weights/torch/hub").glob("[!_]*.py"):
        tree = ast.parse(file.read_text())
        imported = {
            n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names
        }
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"torch"}


def test_bytes_become_what_our_preprocessing_makes_of_them(params, card, tmp_path):
    write(tmp_path / "hub", params, card)
    model = torch.hub.load(str(tmp_path / "hub"), "demo", source="local")
    specs = read_card(card)[2]
    for head, batch in demo_inputs(2).items():
        found = model.preprocess(**tensors(batch), head=head)
        np.testing.assert_allclose(
            found.movedim(1, -1), preprocess(batch, specs[head]), rtol=0, atol=2e-6
        )
    picture = torch.from_numpy(batch.rgb[0, 0])
    assert torch.equal(model.preprocess(picture), model.preprocess(picture[None, None]))
    assert torch.equal(model.preprocess(picture), model.preprocess(picture.numpy()))
    with pytest.raises(ValueError, match=r"disparity is \[32, 32\]; give \[32, 32, 1\]"):
        model.preprocess(picture, torch.zeros(32, 32))


def test_the_lines_of_the_readme_run(params, card, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = torch.from_numpy(draw("demo_image", "test").rgb[0, 0])
    for heads in ({"image": 10}, {}):
        held = {"trunk": params["trunk"], "heads": {head: params["heads"][head] for head in heads}}
        write(Path("hub"), held, card | {"heads": heads})
        code = (tmp_path / "hub/README.md").read_text().split("```")[1].removeprefix("python\n")
        exec(code, {"torch": torch, "picture": picture, "x": torch.zeros(1, 4, 1, 32, 32)})
    model = torch.hub.load("hub", "demo", source="local")
    with pytest.raises(ValueError, match="head='image' is not in this model; it has none"):
        model.preprocess(picture)


def test_an_older_folder_of_ours_is_replaced_and_others_are_refused(params, card, tmp_path):
    hub = tmp_path / "hub"
    hub.mkdir()
    write(hub, params, card)
    (hub / "weights.pt").write_bytes(b"old")
    write(hub, params, card)
    assert (hub / "weights.pt").stat().st_size > 500_000
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "README.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(hub)
    refused = {
        theirs: "is no torch.hub folder of ours (it holds README.md); choose another",
        tmp_path / "file": "is a file; name a folder",
        tmp_path / "link": "is a symbolic link",
        tmp_path / "nowhere" / "hub": "is not a folder; make it first",
        tmp_path / "theirs" / ".." / "new": "goes up a folder",
    }
    for folder, says in refused.items():
        with pytest.raises(UserError) as raised:
            write(folder, params, card)
        assert says in str(raised.value)
    (hub / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="it holds notes.txt"):
        write(hub, params, card)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "hub", "link", "theirs"]
    assert [path.name for path in theirs.iterdir()] == ["README.md"]


def test_a_failure_on_the_way_leaves_the_older_folder_and_no_draft(
    params, card, tmp_path, monkeypatch
):
    write(tmp_path / "hub", params, card)
    before = (tmp_path / "hub" / "weights.pt").read_bytes()

    def full(path, tree):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch_file, "write_torch", full)
    with pytest.raises(
        UserError, match=r"hub cannot be written: No space left on device; make room"
    ):
        write(tmp_path / "hub", params, card)
    assert (tmp_path / "hub" / "weights.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_heads_may_be_called_what_methods_are_called_and_folders_loaded_together(
    params, card, tmp_path
):
    names = {"keys": "image", "forward": "video", "my-head": "rgbd"}
    held = {
        "trunk": params["trunk"],
        "heads": {new: params["heads"][old] for new, old in names.items()},
    }
    heads = {new: HEADS[old] for new, old in names.items()}
    write(tmp_path / "one", held, card | {"heads": heads, "preprocessing": {}, "classes": {}})
    write(tmp_path / "two", params, card)
    one, two, again = (
        torch.hub.load(str(tmp_path / f), "demo", source="local") for f in ("one", "two", "one")
    )
    x = torch.zeros(1, 3, 1, 32, 32)
    for new, old in names.items():
        assert torch.equal(one(x, new), two(x, old))
    torch.save(one, tmp_path / "whole.pt")  # which pickles its class by name
    torch.save(again, tmp_path / "whole.pt")
