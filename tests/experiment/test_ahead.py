"""The compiler of TPUs, without a TPU: what devices tell each other, and what does not fit."""

import json
import math
import subprocess
import sys
from importlib.util import find_spec

import jax
import pytest

from omnivore_jax.experiment.topology import open_machine
from omnivore_jax.train.collectives import collectives
from omnivore_jax.train.mesh import MeshConfig, batch_sharding, make_mesh
from omnivore_jax.train.state import abstract_state
from omnivore_jax.train.step import make_train_step
from tests.train.miniature import MODEL, batch, trainer

pytestmark = pytest.mark.slow
needs_libtpu = pytest.mark.skipif(
    find_spec("libtpu") is None, reason="the compiler for TPUs is not installed: pip install libtpu"
)
needs_cuda = pytest.mark.skipif(
    find_spec("jax_cuda13_plugin") is None,
    reason="the compiler for GPUs is not installed: pip install -r requirements-gpu.txt",
)


@needs_libtpu
@pytest.mark.parametrize("mesh", [MeshConfig(4, 1, 1), MeshConfig(1, 4, 1)], ids=str)
def test_on_a_tpu_gradients_meet_once_and_activations_stay_where_they_are(mesh):
    """Windows attend to themselves: nothing of a sample leaves its device, in no round."""
    placed = make_mesh(mesh, open_machine("v5e:2x2").devices)
    ours = trainer(microbatch=2)._replace(mesh=placed)
    state = abstract_state(MODEL, ours.heads, placed)
    clips = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(placed)),
        batch("clips"),
    )
    compiled = make_train_step(ours).lower(state, {"clips": clips}).compile()
    every = collectives(compiled.as_text() or "")
    assert " while(" in (compiled.as_text() or "") and every
    assert [c for c in every if c.in_loop] == []
    assert {c.kind for c in every} <= {"all-reduce", "all-gather", "reduce-scatter"}
    parameters = [math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params)]
    floats = [c for c in every if "f32" in c.types]
    assert max(c.largest for c in floats) <= max(parameters)
    reduced = sum(c.elements for c in floats if c.kind == "all-reduce")
    assert reduced <= sum(parameters) + 20  # and a few figures
    gathered = sum(c.elements for c in floats if c.kind == "all-gather")
    assert gathered <= (sum(parameters) if mesh.fsdp > 1 else 0)


def compile_demo(*flags, topology="v5e:2x2"):
    command = [
        *(sys.executable, "-m", "omnivore_jax.main", "--config=configs/demo.py:image"),
        *("--mode=compile", f"--topology={topology}", "--json", *flags),
    ]
    return subprocess.run(command, capture_output=True, text=True)


@needs_cuda
def test_it_compiles_for_gpus():
    done = compile_demo("--only=train", topology="h100:2x8")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["devices"] == 16 and "jax-cuda13-plugin" in report["versions"]
    (step,) = report["programs"]
    assert 0 < step["memory_gib"]["temporaries"] < 1
    assert {one["kind"] for one in step["collectives"]} == {"all-reduce"}
    assert not any(one["in_loop"] for one in step["collectives"])


@needs_libtpu
@pytest.mark.parametrize(
    ("shape", "fsdp"), [("v5p:4x4x4", 4), ("v5p:4x4x4", 2), ("v5p:2x2x4", 8), ("v6e:16x16", 8)]
)
def test_a_mesh_may_divide_a_side_of_a_slice(shape, fsdp):
    devices = open_machine(shape).devices
    mesh = make_mesh(MeshConfig(-1, fsdp, 1), devices)
    assert mesh.shape["fsdp"] == fsdp and set(mesh.devices.flat) == set(devices)
    assert mesh.axis_types == make_mesh(MeshConfig(), jax.devices()).axis_types


@needs_libtpu
def test_the_command_compiles_a_run_and_catches_one_that_does_not_fit():
    done = compile_demo()
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert [row["name"] for row in report["programs"]] == [
        *("init 1", "init 2", "init 3", "init state"),
        "train demo_image",
        "eval demo_image",
    ]
    assert all(row["fits"] and row["gflops"] > 0 for row in report["programs"])
    said = [line.split(" ", 1)[1] for line in done.stderr.splitlines()]
    assert [line.split(":")[0] for line in said] == [row["name"] for row in report["programs"]]
    large = [f"--config.data.demo_image.{key}=1000000" for key in ("batch_size", "num_train")]
    done = compile_demo(*large)
    assert done.returncode == 2
    report = json.loads(done.stdout)
    assert not report["programs"][1]["fits"]
    assert report["programs"][1]["memory_gib"]["total"] > 15.75
    last = done.stderr.splitlines()[-1]
    assert "train demo_image takes" in last and "data.demo_image.microbatch=" in last
