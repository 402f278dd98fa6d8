import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.model.attention import BACKENDS, Backend, window_attention
from omnivore_jax.model.platform import use_forms
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


@pytest.mark.parametrize("forms", ["cpu", "plain"])
def test_windows_attend_as_brute_force_from_coordinates_says(forms):
    size, n = GRID.padded, int(np.prod(GRID.window))
    x = rng.standard_normal((2, *size, 3 * HEADS * HEAD_DIM)).astype(np.float32)
    bias = rng.standard_normal((HEADS, n, n)).astype(np.float32)
    whole = window_grid(size, GRID.window, shifted=True)
    with use_forms(forms):
        windows = window_attention(
            partition(jnp.asarray(x), whole), jnp.asarray(bias), *shift_masks(whole)
        )
    found = np.asarray(merge(windows, whole)).reshape(2, -1, HEADS * HEAD_DIM)
    for sample in range(2):
        want = brute_force(
            x[sample], bias, np.array(size), np.array(whole.window), np.array(whole.shift)
        )
        np.testing.assert_allclose(found[sample], want, atol=2e-6)


def arguments(masked=True, dropout=False):
    grid = window_grid((2, 4, 4), (2, 2, 2), shifted=True)
    windows = 2 * 4
    qkv = jnp.asarray(rng.standard_normal((windows, 8, 3 * HEADS * HEAD_DIM)), jnp.float32)
    bias = jnp.asarray(rng.standard_normal((HEADS, 8, 8)), jnp.float32)
    masks = shift_masks(grid) if masked else (None, None)
    keep = (
        jnp.asarray(rng.integers(0, 2, (windows, HEADS, 8, 8)) * 2.0, jnp.float32)
        if dropout
        else None
    )
    return qkv, bias, masks, keep


@pytest.mark.parametrize(("masked", "dropout"), [(True, False), (False, True)])
def test_the_gradient_by_hand_is_that_of_automatic_differentiation(masked, dropout):
    qkv, bias, masks, keep = arguments(masked, dropout)

    def gradients(forms):
        with use_forms(forms):
            return jax.grad(
                lambda q, b: jnp.square(window_attention(q, b, *masks, keep=keep)).sum(), (0, 1)
            )(qkv, bias)

    for by_hand, automatic in zip(gradients("cpu"), gradients("plain"), strict=True):
        np.testing.assert_allclose(
            by_hand, automatic, rtol=1e-5, atol=1e-5 * np.abs(automatic).max()
        )


@pytest.mark.parametrize("forms", ["cpu", "plain"])
def test_the_gradient_of_the_shared_bias_is_the_sum_over_windows(forms):
    qkv, bias, (masks, ids), _ = arguments()

    def gradient(bias, windows, ids):
        with use_forms(forms):
            return jax.grad(lambda b: jnp.square(window_attention(windows, b, masks, ids)).sum())(
                bias
            )

    whole = gradient(bias, qkv, ids)
    alone = sum(gradient(bias, qkv[i : i + 1], ids[i % len(ids)][None]) for i in range(len(qkv)))
    np.testing.assert_allclose(whole, alone, atol=1e-5 * float(jnp.abs(whole).max()))


def test_masks_are_held_once_a_class_and_never_once_a_sample():
    masks, ids = shift_masks(window_grid((8, 28, 28), (8, 7, 7), shifted=True))
    assert masks.shape == (4, 392, 392) and ids.shape == (16,)
    qkv, bias = jnp.ones((32, 392, 12)), jnp.ones((2, 392, 392))
    jaxpr = jax.make_jaxpr(lambda q, b: window_attention(q, b, masks, ids))(qkv, bias)
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


def test_a_backend_that_is_not_there_or_refuses_is_named(monkeypatch):
    qkv, bias, masks, _ = arguments()
    monkeypatch.setitem(
        BACKENDS,
        "even",
        Backend(BACKENDS["xla"].attend, lambda call: "a mask" if call.masked else None),
    )
    with pytest.raises(ValueError, match="'cudn' is not known; use auto or one of xla, even"):
        window_attention(qkv, bias, *masks, backend="cudn")
    with pytest.raises(ValueError, match="'even' does not take a mask; use auto"):
        window_attention(qkv, bias, *masks, backend="even")
    assert jnp.array_equal(
        window_attention(qkv, bias, backend="even"), window_attention(qkv, bias, backend="auto")
    )


def test_softmax_is_float32_where_the_rest_is_bfloat16():
    qkv, bias, masks, _ = arguments()
    out = window_attention(qkv.astype(jnp.bfloat16), bias, *masks)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        out.astype(jnp.float32), window_attention(qkv, bias, *masks), atol=0.02
    )
