"""The step on a small model, on one device and on eight simulated ones."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from omnivore_jax.model.compute import Compute
from omnivore_jax.model.variants import model_config
from omnivore_jax.train.mesh import MeshConfig, make_mesh
from omnivore_jax.train.state import abstract_state, init_state
from omnivore_jax.train.step import make_train_step
from tests.train.miniature import MODEL, batch, norm, state_of, step_of, trainer

MESHES = {  # and the micro-batch of a device: half a pair, and a whole one
    "8x1x1": (MeshConfig(8, 1, 1), 1),
    "2x4x1": (MeshConfig(2, 4, 1), 1),
    "2x2x2": (MeshConfig(2, 2, 2), 2),
}
NAMES = ("reliefs", "pictures")


def run(mesh=None, microbatch=0):
    """Takes five steps that carry two datasets, so that one program serves them all.

    The 13 samples of a dataset are padded to 14 slots on one device, to 16 on more.
    """
    step, state, losses = step_of(mesh, microbatch), state_of(mesh), []
    for number in range(5):
        batches = {name: batch(name, mesh, number) for name in NAMES}
        if mesh is None:
            batches = jax.tree.map(lambda array: array[:14], batches)
        state, metrics = step(state, batches)
        losses.append(float(metrics["loss"]))
    return losses, state


@pytest.fixture(scope="module")
def one_device():
    return run()


@pytest.mark.parametrize(
    "mesh", [m if m == "2x2x2" else pytest.param(m, marks=pytest.mark.slow) for m in MESHES]
)
def test_a_mesh_with_micro_batches_and_padding_gives_the_losses_of_one_device(one_device, mesh):
    """The groups of six samples that share a lambda span devices."""
    losses, state = run(*MESHES[mesh])
    np.testing.assert_allclose(losses, one_device[0], rtol=1e-5)
    np.testing.assert_allclose(norm(state.ema) / norm(one_device[1].ema), 1, rtol=1e-4)


@pytest.mark.slow
def test_a_loop_over_blocks_is_divided_over_devices_as_blocks_written_out_are():
    deep = replace(MODEL, depths=(8, 1))

    def losses(mesh, microbatch, scan):
        compute = Compute(drop_path=0.1, scan=scan)
        ours = trainer(mesh, microbatch=microbatch)._replace(model=deep, compute=compute)
        state, found = init_state(deep, ours.heads, ours.seed, ours.mesh), []
        step = make_train_step(ours)
        for number in range(3):
            state, metrics = step(state, {"reliefs": batch("reliefs", mesh, number)})
            found.append(float(metrics["loss"]))
        return found

    np.testing.assert_allclose(
        losses(*MESHES["2x2x2"], scan=True), losses(None, 0, scan=False), rtol=1e-5
    )


@pytest.mark.parametrize("mesh", ["2x4x1", "2x2x2"])
def test_a_run_is_born_divided_over_the_devices(mesh):
    ours = trainer(MESHES[mesh][0])
    state = init_state(MODEL, ours.heads, ours.seed, ours.mesh)
    for part in (state.params, state.opt_state["trunk"].mu, state.opt_state["trunk"].nu, state.ema):
        kernel = part["trunk"]["layers"]["1"]["blocks"]["0"]["mlp"]["fc1"]["kernel"]
        assert {shard.data.nbytes for shard in kernel.addressable_shards} == {kernel.nbytes // 4}
    held = {device: 0 for device in jax.devices()}
    for shard in (shard for leaf in jax.tree.leaves(state) for shard in leaf.addressable_shards):
        held[shard.device] += shard.data.nbytes
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert (
        len(set(held.values())) == 1 and max(held.values()) < 0.45 * whole
    )  # so small a model keeps much whole


def test_a_device_holds_a_fourth_of_swin_t_where_four_share_it():
    heads = {"image": 1000, "video": 400, "rgbd": 19}
    state = abstract_state(model_config("omnivore_swin_t"), heads, make_mesh(MESHES["2x4x1"][0]))
    leaves = jax.tree.leaves(state)
    whole = sum(math.prod(leaf.shape) for leaf in leaves)
    assert whole == pytest.approx(
        4 * 28_620_603, rel=1e-5
    )  # parameters, two moments, average (FACTS 1.5)
    assert sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves) < 0.26 * whole


def primitives(jaxpr, inside=False):
    """Yields every operation of a program, and whether it lies in the loop over micro-batches."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        yield name, inside
        # the miniature's only scan is that over micro-batches
        for inner in jaxprs_in_params(equation.params):
            yield from primitives(inner, inside or name == "scan")


def test_how_groups_are_mixed_is_drawn_before_the_loop_over_micro_batches():
    mesh, microbatch = MESHES["2x2x2"]
    batches = {name: batch(name, mesh) for name in NAMES}
    program = step_of(mesh, microbatch).trace(state_of(mesh), batches)
    drawn = [inside for name, inside in primitives(program.jaxpr.jaxpr) if name == "random_gamma"]
    assert any(inside for _, inside in primitives(program.jaxpr.jaxpr))
    assert drawn and not any(drawn)
