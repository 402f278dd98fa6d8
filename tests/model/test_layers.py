import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.model.layers import dense, gelu, layer_norm
from omnivore_jax.model.platform import cpu_forms, use_forms

rng = np.random.default_rng(0)
X = rng.standard_normal((2, 3, 6)).astype(np.float32)
SCALE, BIAS = rng.standard_normal((2, 6)).astype(np.float32)
BOTH = pytest.mark.parametrize("forms", ["cpu", "plain"])


@BOTH
def test_gelu_is_the_exact_one(forms):
    want = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in X.ravel().astype(float)]
    with use_forms(forms):
        found = gelu(jnp.asarray(X)).ravel()
    np.testing.assert_allclose(found, want, atol=3e-7)
    assert (
        np.abs(np.asarray(jax.nn.gelu(jnp.asarray(X), approximate=True)).ravel() - want).max()
        > 1e-5
    )


@BOTH
def test_layer_norm_has_epsilon_1e_5(forms):
    small = 1e-3 * X.astype(np.float64)  # so small that the epsilon shows
    want = (small - small.mean(-1, keepdims=True)) / np.sqrt(
        small.var(-1, keepdims=True) + 1e-5
    ) * SCALE + BIAS
    with use_forms(forms):
        found = layer_norm(jnp.asarray(small, jnp.float32), jnp.asarray(SCALE), jnp.asarray(BIAS))
    np.testing.assert_allclose(found, want, atol=1e-6)


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
    function, dtype, tolerance
):
    params = {
        "scale": SCALE,
        "bias": BIAS,
        "wide": rng.standard_normal((6, 9)),
        "narrow": rng.standard_normal((6, 2)),
    }
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
    x = jnp.asarray(X, dtype)

    def both(forms):
        with use_forms(forms):
            return jax.value_and_grad(
                lambda x, p: jnp.sin(function(x, p).astype(jnp.float32)).sum(), (0, 1)
            )(x, params)

    for by_hand, automatic in zip(
        jax.tree.leaves(both("cpu")), jax.tree.leaves(both("plain")), strict=True
    ):
        assert by_hand.dtype == automatic.dtype
        by_hand, automatic = np.asarray(by_hand, np.float32), np.asarray(automatic, np.float32)
        np.testing.assert_allclose(
            by_hand, automatic, atol=tolerance * max(1, np.abs(automatic).max())
        )


def test_the_switch_follows_the_platform_of_the_mesh_and_can_be_set():
    assert cpu_forms()  # tests run on CPUs
    with use_forms("plain"):
        assert not cpu_forms()
        with use_forms("cpu"):
            assert cpu_forms()
    mesh = jax.sharding.AbstractMesh(
        (1,), ("data",), abstract_device=jax.sharding.AbstractDevice("TPU v5 lite", None, "tpu")
    )
    with jax.sharding.use_abstract_mesh(mesh):
        assert not cpu_forms()
