"""The layers of the trunk as parameter containers, and what they compute as pure functions.

Parameters are float32; a layer computes in the type of its input.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from omnivore_jax.model.platform import cpu_forms

LAYER_NORM_EPS = 1e-5


class Linear(nnx.Module):
    """Affine map of the last axis."""

    def __init__(self, features_in: int, features_out: int, *, std: float, bias: bool = True, key: PRNGKeyArray):
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
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + LAYER_NORM_EPS) * scale + bias).astype(x.dtype)


def gelu(x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
    """Exact GELU; written with erf, as jax.nn.gelu's erfc is slower on a CPU."""
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * 2**-0.5))).astype(x.dtype)


def dense(
    x: Float[Array, "*batch c"], kernel: Float[Array, "c out"], bias: Float[Array, "out"] | None
) -> Float[Array, "*batch out"]:
    """Computes x @ kernel + bias in the type of x."""
    y = _matmul(x, kernel) if cpu_forms() else x @ kernel.astype(x.dtype)
    return y if bias is None else y + bias.astype(x.dtype)


@jax.custom_vjp
def _matmul(x: Float[Array, "*batch c"], kernel: Float[Array, "c out"]) -> Float[Array, "*batch out"]:
    return x @ kernel.astype(x.dtype)


def _matmul_forward(x, kernel):
    return _matmul(x, kernel), (x, kernel)


def _matmul_backward(saved, dy):
    x, kernel = saved
    rows, columns = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    # x^T dy as it stands: automatic differentiation forms dy^T x and so transposes all that produces dy.
    dkernel = jax.lax.dot_general(rows, columns, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return dy @ kernel.astype(dy.dtype).T, dkernel


_matmul.defvjp(_matmul_forward, _matmul_backward)
