"""Backends that divide windows over devices by hand, as XLA cannot or would gather them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from omnivore_jax.model.attention import chunked, pallas_tpu, table
from omnivore_jax.model.attention.base import Backend
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.sharding import BATCH_AXES
from omnivore_jax.train.collectives import collectives
from omnivore_jax.train.mesh import AXES, MeshConfig
from omnivore_jax.train.step import make_train_step
from tests.model.attention_oracle import answer, error, make_case
from tests.train.miniature import batch, norm, state_of, trainer

kernel = partial(pallas_tpu.attend, interpret=True)


def lowered(attend, case, mesh, divided=True):
    """Output and gradients of a case, on a mesh, with arguments as the model gives them."""
    place = NamedSharding(mesh, P(BATCH_AXES if divided else None))
    qkv, dout = (jax.device_put(x, place) for x in (case.qkv, case.dout))
    bias = jax.device_put(case.bias, NamedSharding(mesh, P()))

    @jax.jit
    def run(qkv, bias, dout):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            out, back = jax.vjp(lambda q, b: attend(q, b, case.masks, None), qkv, bias)
            return out, *back(dout)

    return run.lower(qkv, bias, dout), (qkv, bias, dout)


def check(case, found):
    out, dqkv, dbias = found
    want = answer(case)
    for x, y in zip((out, *jnp.split(dqkv, 3, -1), dbias), want, strict=True):
        assert error(x, y) < 2e-6


@pytest.mark.parametrize("shape", [(4, 2, 1), (2, 2, 2)], ids=str)
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("attend", [kernel, chunked.attend], ids=["pallas_tpu", "chunked"])
def test_windows_stay_on_their_device_and_gradients_of_the_bias_meet_once(
    shape, classes, attend, monkeypatch
):
    mesh = jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3)
    case = make_case(8, 3, classes, samples=8)
    monkeypatch.setattr(chunked, "CHUNK", case.bias.size)
    program, arguments = lowered(attend, case, mesh)
    compiled = program.compile()
    (every,) = collectives(compiled.as_text())
    assert every.kind == "all-reduce" and every.elements == case.bias.size
    found = compiled(*arguments)
    check(case, found)
    assert found[0].sharding.spec[0] == BATCH_AXES


def test_where_samples_do_not_divide_every_device_computes_all():
    mesh = jax.make_mesh((8, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3)
    case = make_case(8, 3, 3, samples=3)
    program, arguments = lowered(kernel, case, mesh, divided=False)
    check(case, program.compile()(*arguments))


@pytest.mark.slow
def test_a_training_step_learns_the_same_with_the_kernel_on_a_mesh(monkeypatch):
    monkeypatch.setitem(
        table.BACKENDS, "pallas_tpu", Backend("pallas_tpu", kernel, lambda call: None)
    )
    figures, moments = {}, {}
    for backend, mesh in (("xla", None), ("pallas_tpu", MeshConfig(2, 2, 2))):
        ours = trainer(mesh, microbatch=1)
        ours = ours._replace(compute=Compute(drop_path=0.1, attention=backend))
        step = make_train_step(ours)
        state, figures[backend] = step(state_of(mesh), {"clips": batch("clips", mesh)})
        moments[backend] = jax.device_get(state.opt_state)
    for key in ("loss", "grad_norm"):
        np.testing.assert_allclose(figures["pallas_tpu"][key], figures["xla"][key], rtol=1e-5)
    difference = jax.tree.map(lambda x, y: x - y, *moments.values())
    assert 0 < norm(moments["xla"]) and norm(difference) < 1e-5 * norm(moments["xla"])
