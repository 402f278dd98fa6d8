"""Every backend of window attention against float64: outputs and all gradients."""

from functools import partial
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from omnivore_jax.core.tree import flatten
from omnivore_jax.model.attention import chunked, cpu, cudnn, pallas_tpu, table, xla
from omnivore_jax.model.attention.base import Backend
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.params import abstract_model, merge
from omnivore_jax.model.position_bias import FactoredBias, JointBias, offset_rows
from omnivore_jax.model.variants import model_config
from tests.model.attention_oracle import Case, answer, error, make_case
from tests.params import random_params


def in_chunks(qkv, bias, masks, keep):
    """Three windows at a time, so that the last chunk is seldom full."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, "CHUNK", 3 * bias.size)
        return chunked.attend(qkv, bias, masks, keep)


ATTEND = {
    "xla": xla.attend,
    "cpu": cpu.attend,
    "chunked": in_chunks,
    "cudnn": partial(cudnn.attend, implementation="xla"),  # all but cuDNN itself
    "pallas_tpu": partial(pallas_tpu.attend, interpret=True),
}
"""How each backend is computed on a CPU."""

TOLERANCE = {"float32": 2e-6, "bfloat16": 8e-3}
"""Relative error in the Euclidean norm, of the output and of each gradient.

A number of bfloat16 is off by 2e-3 on average, and gradients go through three of them.
"""

WINDOWS = {8: (2, 2, 2), 49: (1, 7, 7), 98: (2, 7, 7), 392: (8, 7, 7), 784: (16, 7, 7)}
"""Windows by their number of tokens."""


def gradients(attend, qkv, bias, masks, dout):
    """Output of a backend, and gradients by q, k, v (packed) and by the bias."""

    @jax.jit
    def both(qkv, bias, dout):
        out, back = jax.vjp(lambda qkv, bias: attend(qkv, bias, masks, None), qkv, bias)
        return out, *back(dout)

    return both(qkv, bias, dout)


def check(name: str, case: Case, dtype: str):
    """Holds a backend against the oracle, which sees the inputs as rounded to the dtype."""
    qkv, dout = (jnp.asarray(x, dtype) for x in (case.qkv, case.dout))
    out, dqkv, dbias = gradients(ATTEND[name], qkv, case.bias, case.masks, dout)
    assert out.dtype == dqkv.dtype == qkv.dtype and dbias.dtype == jnp.float32
    want = answer(case._replace(qkv=np.asarray(qkv), dout=np.asarray(dout)))
    found = (out, *jnp.split(dqkv, 3, axis=-1), dbias)
    errors = {key: error(x, y) for key, x, y in zip(want._fields, found, want, strict=True)}
    assert max(errors.values()) < TOLERANCE[dtype], errors


@pytest.mark.parametrize(
    ("n", "heads", "classes", "dtype"),
    [
        (8, 1, 0, "float32"),
        (8, 3, 3, "float32"),
        (8, 3, 8, "bfloat16"),
        (49, 3, 0, "bfloat16"),
        (49, 1, 4, "float32"),
        (98, 3, 1, "float32"),
    ],
)
@pytest.mark.parametrize("name", ATTEND)
def test_a_backend_is_as_near_float64_as_its_dtype_allows(name, n, heads, classes, dtype):
    check(name, make_case(n, heads, classes), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("classes", range(9))
@pytest.mark.parametrize("name", ATTEND)
def test_any_number_of_masks_is_as_near(name, classes, dtype):
    for n, heads in product([8, 49], [1, 3]):
        check(name, make_case(n, heads, classes), dtype)


@pytest.mark.parametrize("name", ATTEND)
def test_many_heads_are_as_near(name):
    """Eight of 32 channels: the kernel for TPUs takes them four at a time."""
    check(name, make_case(8, 8, 3, head_dim=32, windows=6, samples=3), "float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("n", "heads"), list(product([98, 392, 784], [1, 3])))
@pytest.mark.parametrize("name", ATTEND)
def test_windows_of_clips_are_as_near(name, n, heads, dtype):
    for classes in (0, 8) if n < 784 else (0, 2):
        case = make_case(n, heads, classes, head_dim=32, windows=2, samples=1)
        check(name, case, dtype)


def table_gradient(module, window, dbias):
    """Gradients of the tables of a position bias, added up in float64 pair by pair."""
    rows = offset_rows(module.window, window)
    joint = np.zeros((prod(2 * s - 1 for s in module.window), len(dbias)))
    np.add.at(joint, rows, np.moveaxis(dbias, 0, -1))
    if isinstance(module, JointBias):
        return {"joint": joint}
    by_time = joint.reshape(2 * module.window[0] - 1, -1, len(dbias))
    return {"temporal": by_time.sum(1), "spatial": by_time.sum(0)}


def check_tables(name: str, n: int, kind):
    case, window = make_case(n, 3, 2), WINDOWS[n]
    module = kind(window, 3, std=1.0, key=jax.random.key(0))
    graphdef, tables = nnx.split(module)
    qkv = jnp.asarray(case.qkv)

    @jax.jit
    def run(tables):
        def out(tables):
            bias = nnx.merge(graphdef, tables)(window)
            return ATTEND[name](qkv, bias, case.masks, None), bias

        _, back, bias = jax.vjp(out, tables, has_aux=True)
        return bias, back(jnp.asarray(case.dout))[0]

    bias, found = run(tables)
    dbias = answer(case._replace(bias=np.asarray(bias))).dbias
    for key, want in table_gradient(module, window, dbias).items():
        # Of a still, whose window has one offset in time, the true gradient is 0.
        assert np.linalg.norm(found[key][...] - want) < 5e-6 * np.linalg.norm(dbias), key


@pytest.mark.parametrize("kind", [FactoredBias, JointBias])
@pytest.mark.parametrize("name", ATTEND)
def test_gradients_reach_the_tables_of_the_position_bias(name, kind):
    check_tables(name, 8, kind)


@pytest.mark.slow
@pytest.mark.parametrize("n", [49, 98, 392])
@pytest.mark.parametrize("name", ATTEND)
def test_gradients_reach_the_tables_of_larger_windows(name, n):
    for kind in (FactoredBias, JointBias):
        check_tables(name, n, kind)


MODEL = model_config("tiny", depth_embed="none")
HEADS = {"video": 5}


def scores_and_gradients(name, params, x, monkeypatch):
    monkeypatch.setitem(table.BACKENDS, name, Backend(name, ATTEND[name], lambda call: None))
    graphdef = abstract_model(MODEL, HEADS)[0]

    def loss(params):
        out = merge(graphdef, params)(x, "video", compute=Compute(attention=name))
        return jnp.square(out).sum(), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return out, flatten(grads)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ATTEND if name != "xla"])
def test_the_tiny_model_says_and_learns_the_same_with_every_backend(name, monkeypatch):
    """Windows that are shifted, clamped and padded, in all four stages."""
    params = jax.device_put(random_params(MODEL, HEADS))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 10, 60, 68, 3)), jnp.float32)
    want, wanted = scores_and_gradients("xla", params, x, monkeypatch)
    out, grads = scores_and_gradients(name, params, x, monkeypatch)
    np.testing.assert_allclose(out, want, atol=2e-5 * float(jnp.abs(want).max()))
    assert grads.keys() == wanted.keys()
    for path, leaf in wanted.items():
        scale = float(jnp.abs(leaf).max()) + 1e-3
        np.testing.assert_allclose(grads[path], leaf, atol=1e-4 * scale, err_msg=path)
