"""Window attention as one pure function, whoever computes it: a registry of backends that say what they support."""

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
    platform: str


class Backend(NamedTuple):
    """A way to compute window attention."""

    attend: Callable
    """Takes (q, k, v, bias, mask_classes, class_ids, keep) as `attend_xla` does."""
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

    Windows are ordered by sample, then by place on the map. `qkv` holds all heads' queries, then keys, then values.
    `bias` is shared by all windows. Window i of a map adds mask `mask_classes[class_ids[i]]`: few masks, however many
    windows. `keep` multiplies the attention weights (dropout). Softmax and bias are float32.

    Raises:
        ValueError: the backend is not known or does not support the call.

    """
    g, n, c = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    heads = bias.shape[0]
    masked = mask_classes is not None
    call = Call(n, heads, c // heads, str(qkv.dtype), masked, keep is not None, "cpu" if cpu_forms() else "other")
    q, k, v = jnp.moveaxis(qkv.reshape(g, n, 3, heads, c // heads), (2, 3), (0, 2))
    out = BACKENDS[choose(backend, call)].attend(q, k, v, bias, mask_classes, class_ids, keep)
    return jnp.swapaxes(out, 1, 2).reshape(g, n, c)


def choose(backend: str, call: Call) -> str:
    """Finds the backend that takes a call."""
    if backend == "auto":
        return next(name for name in BACKENDS if BACKENDS[name].refuses(call) is None)
    if backend not in BACKENDS:
        raise ValueError(f"attention.backend={backend!r} is not known; use auto or one of {', '.join(BACKENDS)}")
    reason = BACKENDS[backend].refuses(call)
    if reason:
        raise ValueError(f"attention.backend={backend!r} does not take {reason}; use auto")
    return backend


def attend_xla(
    q: Float[Array, "g k n d"],
    k: Float[Array, "g k n d"],
    v: Float[Array, "g k n d"],
    bias: Float[Array, "k n n"],
    mask_classes: Float[np.ndarray, "m n n"] | None,
    class_ids: Int[np.ndarray, "windows"] | None,
    keep: Float[Array, "g k n n"] | None,
) -> Float[Array, "g k n d"]:
    """Attends with matrix products and a softmax, which XLA fuses as it can."""
    attend = _attend_cpu if cpu_forms() else _attend
    return attend(q, k, v, bias, mask_classes, class_ids, keep)[0]


def _attend(q, k, v, bias, mask_classes, class_ids, keep):
    """Returns the output and, for the gradient, the weights before dropout, not yet divided, and their sums."""
    logits = jnp.matmul(q, jnp.swapaxes(k, -1, -2), preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    logits = _add_bias(logits, bias, mask_classes, class_ids)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    kept = weights if keep is None else weights * keep
    out = jnp.matmul(kept.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return (out / total).astype(v.dtype), weights, total  # divided last: n x d numbers instead of n x n


def _add_bias(logits, bias, mask_classes, class_ids):
    if mask_classes is None:
        return logits + bias
    by_window = bias + mask_classes[class_ids][:, None]
    split = logits.reshape(-1, *by_window.shape)
    return (split + by_window).reshape(logits.shape)


_attend_cpu = jax.custom_vjp(_attend)


def _attend_forward(q, k, v, bias, mask_classes, class_ids, keep):
    out, weights, total = _attend(q, k, v, bias, mask_classes, class_ids, keep)
    return (out, weights, total), (q, k, v, keep, out, weights, total)


def _attend_backward(saved, cotangents):
    q, k, v, keep, out, weights, total = saved
    dout = cotangents[0]
    probabilities = weights / total
    kept = probabilities if keep is None else probabilities * keep
    dv = jnp.matmul(jnp.swapaxes(kept, -1, -2).astype(dout.dtype), dout)
    dkept = jnp.matmul(dout, jnp.swapaxes(v, -1, -2), preferred_element_type=jnp.float32)
    dprobabilities = dkept if keep is None else dkept * keep
    mean = (dout.astype(jnp.float32) * out).sum(-1, keepdims=True)  # sum of probabilities times their gradients
    dlogits = probabilities * (dprobabilities - mean)
    scaled = (dlogits * q.shape[-1] ** -0.5).astype(q.dtype)
    dq, dk = jnp.matmul(scaled, k), jnp.matmul(jnp.swapaxes(scaled, -1, -2), q)
    return dq, dk, dv, _sum_windows(dlogits), None, None, None


def _sum_windows(x: Float[Array, "g k n n"]) -> Float[Array, "k n n"]:
    """Sums over the leading axis as a product with ones: XLA on a CPU is tens of times faster at it than at the sum."""
    flat = x.reshape(x.shape[0], -1)
    return jnp.matmul(jnp.ones((1, x.shape[0]), x.dtype), flat).reshape(x.shape[1:])


_attend_cpu.defvjp(_attend_forward, _attend_backward)
BACKENDS["xla"] = Backend(attend_xla, lambda call: None)
