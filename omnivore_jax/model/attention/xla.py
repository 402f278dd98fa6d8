"""Window attention as plain mathematics: the reference that the other backends are held against.

Matrix products and a softmax, which XLA fuses as it can, on every platform.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omnivore_jax.model.attention.base import Backend, Masks


class Saved(NamedTuple):
    """What the gradient needs of the forward pass."""

    q: Float[Array, "g k n d"]
    k: Float[Array, "g k n d"]
    v: Float[Array, "g k n d"]
    keep: Float[Array, "g k n n"] | None
    out: Float[Array, "g k n d"]
    weights: Float[Array, "g k n n"]
    """Exponentials, not yet divided by their sum."""
    total: Float[Array, "g k n 1"]
    """That sum."""


def attend(
    qkv: Float[Array, "g n c3"],
    bias: Float[Array, "k n n"],
    masks: Masks | None,
    keep: Float[Array, "g k n n"] | None,
) -> Float[Array, "g n c"]:
    """Attends, with gradients by automatic differentiation."""
    return forward(qkv, bias, masks, keep)[0]


def forward(
    qkv: Float[Array, "g n c3"],
    bias: Float[Array, "k n n"],
    masks: Masks | None,
    keep: Float[Array, "g k n n"] | None,
) -> tuple[Float[Array, "g n c"], Saved]:
    """Attends, and returns what a gradient by hand needs too."""
    g, n, c3 = qkv.shape
    heads = bias.shape[0]
    q, k, v = qkv.reshape(g, n, 3, heads, c3 // 3 // heads).transpose(2, 0, 3, 1, 4)
    logits = jnp.matmul(q, flip(k), preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    logits = _add_bias(logits, bias, masks)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    kept = weights if keep is None else weights * keep
    out = jnp.matmul(kept.astype(v.dtype), v, preferred_element_type=jnp.float32)
    out = (out / total).astype(v.dtype)  # divided last: n x d numbers instead of n x n
    return join_heads(out), Saved(q, k, v, keep, out, weights, total)


def _add_bias(
    logits: Float[Array, "g k n n"], bias: Float[Array, "k n n"], masks: Masks | None
) -> Float[Array, "g k n n"]:
    if masks is None:
        return logits + bias
    classes, ids = masks
    by_class = bias + jnp.asarray(classes)[:, None]
    # Looked up on the device: a constant would hold a mask a window.
    by_window = by_class[ids]
    split = logits.reshape(-1, *by_window.shape)
    return (split + by_window).reshape(logits.shape)


def flip(x: Float[Array, "g k n d"]) -> Float[Array, "g k d n"]:
    return jnp.swapaxes(x, -1, -2)


def join_heads(x: Float[Array, "g k n d"]) -> Float[Array, "g n c"]:
    return jnp.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


XLA = Backend("xla", attend, lambda call: None)
