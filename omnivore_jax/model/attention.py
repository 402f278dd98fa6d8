"""Window attention as one pure function, whoever computes it.

A registry of backends that say what they support.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from omnivore_jax.model.platform import cpu_forms


class Call(NamedTuple):
    """What a backend is asked for, from shapes and types alone."""

    tokens: int
    """Of a window."""
    heads: int
    head_dim: int
    dtype: str
    masked: bool
    dropout: bool


class Backend(NamedTuple):
    """A way to compute window attention."""

    attend: Callable
    """Takes (qkv, bias, mask_classes, class_ids, keep) as `attend_xla` does."""
    refuses: Callable[[Call], str | None]
    """Says why it cannot take a call, None where it can."""


BACKENDS: dict[str, Backend] = {}
"""By name; `auto` takes the first that does not refuse."""


def window_attention(
    qkv: Float[Array, "g n c3"],
    bias: Float[Array, "k n n"],
    mask_classes: Float[np.ndarray, "m n n"] | None = None,
    class_ids: Int[np.ndarray, "windows"] | None = None,
    *,
    backend: str = "auto",
    keep: Float[Array, "g k n n"] | None = None,
) -> Float[Array, "g n c"]:
    """Attends within every window: softmax(q k^T / sqrt(d) + bias + mask) v.

    Windows are ordered by sample, then by place on the map. `qkv` holds all heads' queries, then
    keys, then values. `bias` is shared by all windows. Window i of a map adds mask
    `mask_classes[class_ids[i]]`: few masks, however many windows. `keep` multiplies the attention
    weights (dropout). Softmax and bias are float32.

    Raises:
        ValueError: the backend is not known or does not support the call.

    """
    n, heads, head_dim = qkv.shape[1], bias.shape[0], qkv.shape[2] // 3 // bias.shape[0]
    call = Call(n, heads, head_dim, str(qkv.dtype), mask_classes is not None, keep is not None)
    return BACKENDS[choose(backend, call)].attend(qkv, bias, mask_classes, class_ids, keep)


def choose(backend: str, call: Call) -> str:
    """Finds the backend that takes a call."""
    if backend == "auto":
        return next(name for name in BACKENDS if BACKENDS[name].refuses(call) is None)
    if backend not in BACKENDS:
        raise ValueError(
            f"attention.backend={backend!r} is not known; use auto or one of {', '.join(BACKENDS)}"
        )
    reason = BACKENDS[backend].refuses(call)
    if reason:
        raise ValueError(f"attention.backend={backend!r} does not take {reason}; use auto")
    return backend


def attend_xla(
    qkv: Float[Array, "g n c3"],
    bias: Float[Array, "k n n"],
    mask_classes: Float[np.ndarray, "m n n"] | None,
    class_ids: Int[np.ndarray, "windows"] | None,
    keep: Float[Array, "g k n n"] | None,
) -> Float[Array, "g n c"]:
    """Attends with matrix products and a softmax, which XLA fuses as it can."""
    attend = _attend_by_hand if cpu_forms() else _attend
    return attend(qkv, bias, mask_classes, class_ids, keep)


def _attend(qkv, bias, mask_classes, class_ids, keep):
    return _attend_forward(qkv, bias, mask_classes, class_ids, keep)[0]


def _attend_forward(qkv, bias, mask_classes, class_ids, keep):
    """Returns the output and what its gradient needs.

    The exponentials among that are not yet divided by their sum.
    """
    g, n, c3 = qkv.shape
    heads = bias.shape[0]
    q, k, v = qkv.reshape(g, n, 3, heads, c3 // 3 // heads).transpose(2, 0, 3, 1, 4)
    logits = jnp.matmul(q, _flip(k), preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    logits = _add_bias(logits, bias, mask_classes, class_ids)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    kept = weights if keep is None else weights * keep
    out = jnp.matmul(kept.astype(v.dtype), v, preferred_element_type=jnp.float32)
    out = (out / total).astype(v.dtype)  # divided last: n x d numbers instead of n x n
    return _join_heads(out), (q, k, v, keep, out, weights, total)


def _add_bias(logits, bias, mask_classes, class_ids):
    if mask_classes is None:
        return logits + bias
    by_class = bias + jnp.asarray(mask_classes)[:, None]
    by_window = by_class[
        class_ids
    ]  # looked up on the device: a constant would hold a mask a window
    split = logits.reshape(-1, *by_window.shape)
    return (split + by_window).reshape(logits.shape)


def _attend_backward(saved, dout):
    q, k, v, keep, out, weights, total = saved
    g, heads, n, d = q.shape
    dout = dout.reshape(g, n, heads, d).swapaxes(1, 2)
    divided = (
        dout.astype(jnp.float32) / total
    )  # what is divided here need not be divided where it is n x n
    narrow = divided.astype(v.dtype)
    kept = weights if keep is None else weights * keep
    dv = jnp.matmul(_flip(kept).astype(v.dtype), narrow)
    dweights = jnp.matmul(narrow, _flip(v), preferred_element_type=jnp.float32)
    dweights = dweights if keep is None else dweights * keep
    mean = (divided * out).sum(
        -1, keepdims=True
    )  # of dweights, weighted with the attention weights
    dlogits = weights * (dweights - mean)
    scaled = (dlogits * d**-0.5).astype(q.dtype)
    dq, dk = jnp.matmul(scaled, k), jnp.matmul(_flip(scaled), q)
    dqkv = jnp.concatenate([_join_heads(x) for x in (dq, dk, dv)], axis=-1)
    return dqkv, _sum_windows(dlogits), None, None, None


def _sum_windows(x: Float[Array, "g k n n"]) -> Float[Array, "k n n"]:
    """Sums over the leading axis as a product with ones.

    XLA on a CPU is tens of times faster at it than at the sum.
    """
    flat = x.reshape(x.shape[0], -1)
    return jnp.matmul(jnp.ones((1, x.shape[0]), x.dtype), flat).reshape(x.shape[1:])


def _flip(x: Float[Array, "g k n d"]) -> Float[Array, "g k d n"]:
    return jnp.swapaxes(x, -1, -2)


def _join_heads(x: Float[Array, "g k n d"]) -> Float[Array, "g n c"]:
    return jnp.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


_attend_by_hand = jax.custom_vjp(_attend)
_attend_by_hand.defvjp(_attend_forward, _attend_backward)
BACKENDS["xla"] = Backend(attend_xla, lambda call: None)
