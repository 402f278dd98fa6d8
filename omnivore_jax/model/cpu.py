"""The layers of the trunk for CPUs: the same mathematics with gradients written by hand.

XLA on a CPU is slow at some forms that are natural elsewhere (sums over a leading axis, the
transpose in a weight's gradient, loops over more axes than two). These differ from the plain forms
in `layers.py` by rounding alone.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omnivore_jax.model.attention.base import platform


def on_cpu() -> bool:
    """Says whether what is being traced now is for a CPU; `layers.py` asks nothing else."""
    return platform() == "cpu"


def layer_norm(
    x: Float[Array, "*batch c"], scale: Float[Array, "c"], bias: Float[Array, "c"], eps: float
) -> Float[Array, "*batch c"]:
    """Normalises over channels, with means and column sums as matrix products."""
    y: Any = _layer_norm(_rows(x), scale, bias, eps)
    return y.reshape(x.shape)


def gelu(x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
    """Exact GELU; its gradient computes the error function again instead of reading it."""
    return _gelu(_rows(x)).reshape(x.shape)


def dense(
    x: Float[Array, "*batch c"], kernel: Float[Array, "c out"], bias: Float[Array, "out"] | None
) -> Float[Array, "*batch out"]:
    """Computes x @ kernel + bias in the type of x; the kernel's gradient transposes no input."""
    y = _matmul(_rows(x), kernel)
    y = y if bias is None else _add(y, bias)
    return y.reshape(*x.shape[:-1], -1)


def _rows(x: Float[Array, "*batch c"]) -> Float[Array, "n c"]:
    """All tokens as the rows of a matrix."""
    return x.reshape(-1, x.shape[-1])


def _layer_norm_forward(x, scale, bias, eps):
    wide = x.astype(jnp.float32)
    centered = wide - wide.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + eps)
    normed = centered * inverse
    return (normed * scale + bias).astype(x.dtype), (normed, inverse, scale)


def _layer_norm_backward(_, saved, dy):
    normed, inverse, scale = saved
    wide = dy.astype(jnp.float32)
    dnormed = wide * scale
    dx = inverse * (dnormed - _row_means(dnormed) - normed * _row_means(dnormed * normed))
    return dx.astype(dy.dtype), _column_sums(wide * normed), _column_sums(wide)


def _row_means(x: Float[Array, "n c"]) -> Float[Array, "n 1"]:
    # Products with constants are faster than sums.
    return x @ jnp.full((x.shape[1], 1), 1 / x.shape[1])


def _column_sums(x: Float[Array, "n c"]) -> Float[Array, "c"]:
    return (jnp.ones((1, x.shape[0])) @ x)[0]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _layer_norm(x: Array, scale: Array, bias: Array, eps: float) -> Array:
    return _layer_norm_forward(x, scale, bias, eps)[0]


_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


@jax.custom_vjp
def _gelu(x: Array) -> Array:
    wide = x.astype(jnp.float32)
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _gelu_backward(x, dy):
    wide = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * jnp.square(wide)) * (2 * math.pi) ** -0.5
    return ((dy * (_normal_cdf(wide) + wide * density)).astype(dy.dtype),)


def _normal_cdf(x):
    return 0.5 * (1 + jax.lax.erf(x * 2**-0.5))


_gelu.defvjp(lambda x: (_gelu(x), x), _gelu_backward)


@jax.custom_vjp
def _matmul(x: Array, kernel: Array) -> Array:
    return x @ kernel.astype(x.dtype)


def _matmul_backward(saved, dy):
    x, kernel = saved
    # x^T dy as it stands, where automatic differentiation transposes all that produces dy; the
    # narrower side first.
    swap = x.shape[-1] > dy.shape[-1]
    sides = (dy, x) if swap else (x, dy)
    dkernel = jax.lax.dot_general(
        *sides, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32
    )
    if swap:
        # Or XLA folds the transposition back into the product.
        dkernel = jax.lax.optimization_barrier(dkernel).T
    return dy @ kernel.astype(dy.dtype).T, dkernel


_matmul.defvjp(lambda x, kernel: (_matmul(x, kernel), (x, kernel)), _matmul_backward)


@jax.custom_vjp
def _add(y, bias):
    return y + bias.astype(y.dtype)


_add.defvjp(lambda y, bias: (_add(y, bias), None), lambda _, dy: (dy, dy.sum(0, jnp.float32)))
