"""The layers of the trunk as parameter containers, and what they compute as pure functions.

Parameters are float32; a layer computes in the type of its input.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from omnivore_jax.model.platform import cpu_forms

LAYER_NORM_EPS = 1e-5


class Linear(nnx.Module):
    """Affine map of the last axis."""

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        std: float,
        bias: bool = True,
        key: PRNGKeyArray,
    ):
        self.kernel = nnx.Param(std * jax.random.normal(key, (features_in, features_out)))
        self.bias = nnx.Param(jnp.zeros(features_out)) if bias else None

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch out"]:
        return dense(x, self.kernel[...], None if self.bias is None else self.bias[...])


class LayerNorm(nnx.Module):
    """Normalisation over channels with statistics in float32."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        return layer_norm(x, self.scale[...], self.bias[...])


def layer_norm(
    x: Float[Array, "*batch c"], scale: Float[Array, "c"], bias: Float[Array, "c"]
) -> Float[Array, "*batch c"]:
    """Normalises over channels."""
    if not cpu_forms():
        return _layer_norm(x, scale, bias)
    return _layer_norm_by_hand(_rows(x), scale, bias).reshape(x.shape)


def gelu(x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
    """Exact GELU; written with erf, as jax.nn.gelu's erfc is slower on a CPU."""
    return _gelu_by_hand(_rows(x)).reshape(x.shape) if cpu_forms() else _gelu(x)


def dense(
    x: Float[Array, "*batch c"], kernel: Float[Array, "c out"], bias: Float[Array, "out"] | None
) -> Float[Array, "*batch out"]:
    """Computes x @ kernel + bias in the type of x."""
    if cpu_forms():
        y = _matmul_by_hand(_rows(x), kernel)
        y = y if bias is None else y + bias.astype(x.dtype)
        return y.reshape(*x.shape[:-1], -1)
    y = _matmul(x, kernel)
    return y if bias is None else y + bias.astype(x.dtype)


def _rows(x: Float[Array, "*batch c"]) -> Float[Array, "n c"]:
    """All tokens as the rows of a matrix: XLA's loops on a CPU are slower over more axes."""
    return x.reshape(-1, x.shape[-1])


def _layer_norm(x, scale, bias):
    return _layer_norm_forward(x, scale, bias)[0]


def _layer_norm_forward(x, scale, bias):
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + LAYER_NORM_EPS)
    normed = centred * inverse
    return (normed * scale + bias).astype(x.dtype), (normed, inverse, scale)


def _layer_norm_backward(saved, dy):
    normed, inverse, scale = saved
    wide = dy.astype(jnp.float32)
    dnormed = wide * scale
    dx = inverse * (dnormed - _row_means(dnormed) - normed * _row_means(dnormed * normed))
    return dx.astype(dy.dtype), _column_sums(wide * normed), _column_sums(wide)


def _row_means(x: Float[Array, "n c"]) -> Float[Array, "n 1"]:
    return x @ jnp.full(
        (x.shape[1], 1), 1 / x.shape[1]
    )  # products with constants are faster than sums on a CPU


def _column_sums(x: Float[Array, "n c"]) -> Float[Array, "c"]:
    return (jnp.ones((1, x.shape[0])) @ x)[0]


_layer_norm_by_hand = jax.custom_vjp(_layer_norm)
_layer_norm_by_hand.defvjp(_layer_norm_forward, _layer_norm_backward)


def _gelu(x):
    wide = x.astype(jnp.float32)
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _gelu_backward(x, dy):
    # Computed again from x: kept, the error function costs as much to read as to compute.
    wide = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * jnp.square(wide)) * (2 * math.pi) ** -0.5
    return ((dy * (_normal_cdf(wide) + wide * density)).astype(dy.dtype),)


def _normal_cdf(x):
    return 0.5 * (1 + jax.lax.erf(x * 2**-0.5))


_gelu_by_hand = jax.custom_vjp(_gelu)
_gelu_by_hand.defvjp(lambda x: (_gelu(x), x), _gelu_backward)


def _matmul(x, kernel):
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
        dkernel = jax.lax.optimization_barrier(
            dkernel
        ).T  # or XLA folds the transposition back into the product
    return dy @ kernel.astype(dy.dtype).T, dkernel


_matmul_by_hand = jax.custom_vjp(_matmul)
_matmul_by_hand.defvjp(lambda x, kernel: (_matmul(x, kernel), (x, kernel)), _matmul_backward)
