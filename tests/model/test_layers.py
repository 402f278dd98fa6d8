import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.model import cpu
from omnivore_jax.model.layers import dense, gelu, layer_norm

rng = np.random.default_rng(0)
X = rng.standard_normal((2, 3, 6)).astype(np.float32)
SCALE, BIAS = rng.standard_normal((2, 6)).astype(np.float32)
BOTH = pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "plain"])


@pytest.fixture
def form(monkeypatch):
    """Chooses the plain functions or those for CPUs."""
    return lambda by_hand: monkeypatch.setattr(cpu, "on_cpu", lambda: by_hand)


@BOTH
def test_gelu_is_the_exact_one(form, by_hand):
    want = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in X.ravel().astype(float)]
    form(by_hand)
    np.testing.assert_allclose(gelu(jnp.asarray(X)).ravel(), want, atol=3e-7)
    assert (
        np.abs(np.asarray(jax.nn.gelu(jnp.asarray(X), approximate=True)).ravel() - want).max()
        > 1e-5
    )


@BOTH
def test_layer_norm_has_epsilon_1e_5(form, by_hand):
    small = 1e-3 * X.astype(np.float64)  # so small that the epsilon shows
    want = (small - small.mean(-1, keepdims=True)) / np.sqrt(
        small.var(-1, keepdims=True) + 1e-5
    ) * SCALE + BIAS
    form(by_hand)
    y = layer_norm(jnp.asarray(small, jnp.float32), jnp.asarray(SCALE), jnp.asarray(BIAS))
    np.testing.assert_allclose(y, want, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, p: gelu(x + p["bias"]),
        lambda x, p: layer_norm(x, p["scale"], p["bias"]),
        lambda x, p: dense(x, p["wide"], None),
        lambda x, p: dense(x, p["narrow"], p["bias"][:2]),
    ],
    ids=["gelu", "layer norm", "widening", "narrowing"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 3e-2)])
def test_values_and_gradients_by_hand_are_those_of_automatic_differentiation(
    function, dtype, tolerance, form
):
    params = {
        "scale": SCALE,
        "bias": BIAS,
        "wide": rng.standard_normal((6, 9)),
        "narrow": rng.standard_normal((6, 2)),
    }
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
    x = jnp.asarray(X, dtype)

    def both(by_hand):
        form(by_hand)

        def loss(x, p):
            return jnp.sin(function(x, p).astype(jnp.float32)).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(x, params)

    pairs = zip(jax.tree.leaves(both(True)), jax.tree.leaves(both(False)), strict=True)
    for by_hand, plain in pairs:
        assert by_hand.dtype == plain.dtype
        by_hand, plain = np.asarray(by_hand, np.float32), np.asarray(plain, np.float32)
        np.testing.assert_allclose(by_hand, plain, atol=tolerance * max(1, np.abs(plain).max()))


def test_functions_are_written_by_hand_for_cpus_alone():
    assert "custom_vjp" in str(jax.make_jaxpr(gelu)(X))  # tests run on CPUs
    device = jax.sharding.AbstractDevice("TPU v5 lite", None, "tpu")
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        assert "custom_vjp" not in str(jax.make_jaxpr(gelu)(X))
