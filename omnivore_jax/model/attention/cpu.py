"""Window attention for CPUs: the plain forward pass, with a gradient written by hand.

XLA on a CPU is slow at some forms that automatic differentiation makes (a sum over windows, the
division of n x n weights). It differs from the plain gradient by rounding alone.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omnivore_jax.model.attention import xla
from omnivore_jax.model.attention.base import Backend, Call


def _backward(saved: xla.Saved, dout: Float[Array, "g n c"]):
    q, k, v, keep, out, weights, total = saved
    g, heads, n, d = q.shape
    dout = dout.reshape(g, n, heads, d).swapaxes(1, 2)
    # What is divided here need not be divided where it is n x n.
    divided = dout.astype(jnp.float32) / total
    narrow = divided.astype(v.dtype)
    kept = weights if keep is None else weights * keep
    dv = jnp.matmul(xla.flip(kept).astype(v.dtype), narrow)
    dweights = jnp.matmul(narrow, xla.flip(v), preferred_element_type=jnp.float32)
    dweights = dweights if keep is None else dweights * keep
    # The mean of dweights, weighted with the attention weights.
    mean = (divided * out).sum(-1, keepdims=True)
    dlogits = weights * (dweights - mean)
    scaled = (dlogits * d**-0.5).astype(q.dtype)
    dq, dk = jnp.matmul(scaled, k), jnp.matmul(xla.flip(scaled), q)
    dqkv = jnp.concatenate([xla.join_heads(x) for x in (dq, dk, dv)], axis=-1)
    return dqkv, _sum_windows(dlogits), None, None


def _sum_windows(x: Float[Array, "g k n n"]) -> Float[Array, "k n n"]:
    """Sums over the leading axis as a product with ones, tens of times faster on a CPU."""
    flat = x.reshape(x.shape[0], -1)
    return jnp.matmul(jnp.ones((1, x.shape[0]), x.dtype), flat).reshape(x.shape[1:])


attend = jax.custom_vjp(xla.attend)
attend.defvjp(xla.forward, _backward)


def _supports(call: Call) -> str | None:
    platform = call.device.platform
    return None if platform == "cpu" else f"it is written for CPUs, not for a {platform}"


CPU = Backend("cpu", attend, _supports)
