from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.model import cost
from omnivore_jax.model.attention import chunked, table
from omnivore_jax.model.attention.base import Backend, Call, Device, platform, traced_device
from omnivore_jax.model.attention.chunked import CHUNKED, chunk_size
from omnivore_jax.model.attention.cpu import CPU
from omnivore_jax.model.attention.pallas_tpu import PALLAS_TPU
from omnivore_jax.model.attention.table import choose, explain, stage_calls, window_attention
from omnivore_jax.model.attention.xla import XLA
from omnivore_jax.model.variants import model_config
from omnivore_jax.model.window import FORBIDDEN, merge, partition, shift_masks, window_grid

HEADS, HEAD_DIM = 2, 4
GRID = window_grid((3, 5, 4), (2, 2, 3), shifted=True)  # nothing divides
rng = np.random.default_rng(0)


def brute_force(qkv_map, bias, size, window, shift):
    """Attention over a padded map from coordinates.

    A token sees those with which it shares a displaced window.
    """
    at = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1).reshape(-1, 3)
    cell = (at - shift) % size // window  # the window of the rolled map
    carried = at < shift  # those that the roll brought to the other border
    place = (at - shift) % size % window
    index = np.ravel_multi_index(place.T, window)
    q, k, v = qkv_map.reshape(len(at), 3, HEADS, HEAD_DIM).transpose(1, 2, 0, 3).astype(np.float64)
    together = (cell[:, None] == cell[None]).all(-1)
    logits = q @ k.swapaxes(1, 2) / np.sqrt(HEAD_DIM) + bias[:, index][:, :, index]
    logits += np.where((carried[:, None] == carried[None]).all(-1), 0, FORBIDDEN)
    logits = np.where(together, logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(at), -1)


@pytest.mark.parametrize("backend", ["cpu", "xla"])
def test_windows_attend_as_brute_force_from_coordinates_says(backend):
    size, n = GRID.padded, int(np.prod(GRID.window))
    x = rng.standard_normal((2, *size, 3 * HEADS * HEAD_DIM)).astype(np.float32)
    bias = rng.standard_normal((HEADS, n, n)).astype(np.float32)
    whole = window_grid(size, GRID.window, shifted=True)

    @jax.jit
    def attend(x, bias):
        masks = shift_masks(whole)
        return merge(window_attention(partition(x, whole), bias, masks, backend=backend), whole)

    out = np.asarray(attend(x, bias)).reshape(2, -1, HEADS * HEAD_DIM)
    for sample in range(2):
        want = brute_force(
            x[sample], bias, np.array(size), np.array(whole.window), np.array(whole.shift)
        )
        np.testing.assert_allclose(out[sample], want, atol=2e-6)


def arguments(masked=True, dropout=False) -> Any:
    grid = window_grid((2, 4, 4), (2, 2, 2), shifted=True)
    windows = 2 * 4
    qkv = jnp.asarray(rng.standard_normal((windows, 8, 3 * HEADS * HEAD_DIM)), jnp.float32)
    bias = jnp.asarray(rng.standard_normal((HEADS, 8, 8)), jnp.float32)
    masks = shift_masks(grid) if masked else None
    keep = (
        jnp.asarray(rng.integers(0, 2, (windows, HEADS, 8, 8)) * 2.0, jnp.float32)
        if dropout
        else None
    )
    return qkv, bias, masks, keep


def test_chunks_are_as_full_as_can_be_and_hold_no_more_than_fits_the_cache(monkeypatch):
    assert chunk_size(128, 3 * 392**2) == 2  # stage 1 of Swin-T, clips
    assert chunk_size(8, 24 * 392**2) == 1
    assert chunk_size(512, 3 * 49**2) == 128  # of 145 that fit: four chunks
    assert chunk_size(8, 24 * 49**2) == 8
    qkv, bias, masks, keep = arguments(dropout=True)
    monkeypatch.setattr(chunked, "CHUNK", 3 * bias.size)

    def gradients(backend, keep):
        def loss(qkv, bias):
            out = window_attention(qkv, bias, masks, keep=keep, backend=backend)
            return jnp.square(out).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))

    texts = [gradients(name, None).lower(qkv, bias).as_text() for name in ("xla", "chunked")]
    assert [f"tensor<{len(qkv)}x2x8x8xf32>" in text for text in texts] == [True, False]
    for ours, plain in zip(
        jax.tree.leaves(gradients("chunked", keep)(qkv, bias)),
        jax.tree.leaves(gradients("xla", keep)(qkv, bias)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize(("masked", "dropout"), [(True, False), (False, True)])
def test_the_gradient_by_hand_is_that_of_automatic_differentiation(masked, dropout):
    qkv, bias, masks, keep = arguments(masked, dropout)

    def gradients(backend):
        def loss(qkv, bias):
            out = window_attention(qkv, bias, masks, keep=keep, backend=backend)
            return jnp.square(out).sum()

        return jax.jit(jax.grad(loss, (0, 1)))(qkv, bias)

    for by_hand, automatic in zip(gradients("cpu"), gradients("xla"), strict=True):
        np.testing.assert_allclose(
            by_hand, automatic, rtol=1e-5, atol=1e-5 * np.abs(automatic).max()
        )


@pytest.mark.parametrize("backend", ["cpu", "xla"])
def test_the_gradient_of_the_shared_bias_is_the_sum_over_windows(backend):
    qkv, bias, (masks, ids), _ = arguments()

    @jax.jit
    def gradient(bias, windows, ids):
        def loss(bias):
            out = window_attention(windows, bias, (masks, ids), backend=backend)
            return jnp.square(out).sum()

        return jax.grad(loss)(bias)

    whole = gradient(bias, qkv, ids)
    alone = sum(gradient(bias, qkv[i : i + 1], ids[i % len(ids)][None]) for i in range(len(qkv)))
    np.testing.assert_allclose(whole, alone, atol=1e-5 * float(jnp.abs(whole).max()))


def test_masks_are_held_once_a_class_and_never_once_a_sample():
    both: Any = shift_masks(window_grid((8, 28, 28), (8, 7, 7), shifted=True))
    masks, ids = both
    assert masks.shape == (4, 392, 392) and ids.shape == (16,)
    qkv, bias = jnp.ones((32, 392, 12)), jnp.ones((2, 392, 392))
    jaxpr = jax.make_jaxpr(lambda q, b: window_attention(q, b, (masks, ids)))(qkv, bias)
    large = [constant for constant in _constants(jaxpr) if constant.size > 392**2]
    assert all(constant.shape == masks.shape for constant in large)
    assert "[32,392,392]" not in str(jaxpr) and "[32,1,392,392]" not in str(jaxpr)


def _constants(jaxpr):
    """Arrays that a program holds, those of the programs inside it too."""
    yield from (np.asarray(c) for c in jaxpr.consts)
    for equation in jaxpr.eqns:
        yield from (np.asarray(v.val) for v in equation.invars if hasattr(v, "val"))
        for value in equation.params.values():
            if hasattr(value, "consts"):
                yield from _constants(value)


EVEN = Backend("even", XLA.attend, lambda call: "a mask" if call.masked else None)


def test_a_backend_that_is_not_there_or_cannot_serve_is_named(monkeypatch):
    qkv, bias, masks, _ = arguments()
    monkeypatch.setitem(table.BACKENDS, "even", EVEN)
    with pytest.raises(ValueError, match="'cudn' is not known; use one of auto, chunked, cpu, "):
        window_attention(qkv, bias, masks, backend="cudn")
    with pytest.raises(ValueError, match="'even' cannot serve: a mask; use auto"):
        window_attention(qkv, bias, masks, backend="even")
    assert jnp.array_equal(
        window_attention(qkv, bias, backend="even"), window_attention(qkv, bias, backend="xla")
    )


def call(platform, **changes):
    plain = Call(
        device=Device(platform),
        dtype="float32",
        tokens=49,
        head_dim=32,
        heads=3,
        masked=False,
        training=True,
        dropout=False,
    )
    return plain._replace(**changes)


def test_auto_takes_the_first_of_the_platforms_table_that_serves(monkeypatch):
    few = "chunked passed over: all windows at once are as fast below 128 tokens a window"
    assert choose("auto", call("cpu")) == (CPU, few)
    assert choose("auto", call("cpu", tokens=392)) == (CHUNKED, "first in the table of cpu")
    assert choose("chunked", call("gpu")) == (CHUNKED, "attention.backend=chunked")
    assert choose("auto", call("tpu")) == (PALLAS_TPU, "first in the table of tpu")
    assert choose("auto", call("tpu", dropout=True)) == (
        XLA,
        "pallas_tpu passed over: it has no dropout of attention weights",
    )
    assert choose("auto", call("a platform of tomorrow")).backend is XLA
    monkeypatch.setitem(table.TABLES, "gpu", (EVEN, XLA))
    assert choose("auto", call("gpu")).backend is EVEN
    assert choose("auto", call("gpu", masked=True)) == (XLA, "even passed over: a mask")
    with pytest.raises(ValueError, match="'cpu' cannot serve: it is written for CPUs, not .* gpu"):
        choose("cpu", call("gpu"))


def test_the_choice_of_every_stage_is_told_with_its_reason(monkeypatch):
    monkeypatch.setitem(table.TABLES, "gpu", (EVEN, XLA))
    stages = cost.layout(model_config("omnivore_swin_t"), (1, 224, 224))
    assert explain("auto", stage_calls(stages, device=Device("gpu"))) == [
        "attention xla (even passed over: a mask): 49 tokens x 3 heads of 32, "
        "49 tokens x 6 heads of 32, 49 tokens x 12 heads of 32",
        "attention even (first in the table of gpu): 49 tokens x 24 heads of 32",
    ]
    assert [line[:38] for line in explain("xla", stage_calls(stages, device=Device("cpu")))] == [
        "attention xla (attention.backend=xla):"
    ]


def test_the_platform_is_that_of_the_mesh_that_is_traced_for():
    assert traced_device() == Device("cpu", "cpu")  # tests run on CPUs
    q, bias = arguments()[:2]
    device = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", None, "cuda")
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        assert platform() == "gpu"
        assert traced_device() == Device("gpu", "NVIDIA H100 80GB HBM3")
        jaxpr = jax.make_jaxpr(lambda q, b: window_attention(q, b))(q, bias)
    assert "custom_vjp" not in str(jaxpr)


@pytest.mark.parametrize("name", ["omnivore_swin_t", "omnivore_swin_b", "omnivore_swin_l"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_kernel_for_tpus_serves_all_windows_of_the_paper_and_refuses_larger_ones(name, dtype):
    for frames in (1, 16, 32):
        stages = cost.layout(model_config(name), (frames, 224, 224))
        calls = stage_calls(stages, device=Device("tpu"), dtype=dtype)
        assert {choose("auto", one).backend for one in calls} == {PALLAS_TPU}
    large = call("tpu", dtype=dtype, tokens=16 * 12 * 12)
    with pytest.raises(ValueError, match="2304 tokens x 3 heads take .* MiB of VMEM, of 56"):
        choose("pallas_tpu", large)
    assert choose("auto", large).backend is XLA
    v4 = large._replace(device=Device("tpu", "TPU v4"))
    assert choose("auto", v4._replace(tokens=392)).backend is PALLAS_TPU
    with pytest.raises(ValueError, match="784 tokens x 3 heads take .* MiB of VMEM, of 15"):
        choose("pallas_tpu", v4._replace(tokens=784))


@pytest.mark.parametrize("backend", ["cpu", "xla"])
def test_softmax_is_float32_where_the_rest_is_bfloat16(backend):
    qkv, bias, masks, _ = arguments()
    out = window_attention(qkv.astype(jnp.bfloat16), bias, masks, backend=backend)
    assert out.dtype == jnp.bfloat16
    want = window_attention(qkv, bias, masks)
    np.testing.assert_allclose(out.astype(jnp.float32), want, atol=0.02)
