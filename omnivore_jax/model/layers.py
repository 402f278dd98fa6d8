"""The layers of the trunk as parameter containers, and what they compute as pure functions.

Parameters and their gradients are float32; a layer computes in the type of its input. `cpu.py`
holds the same functions for CPUs.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from omnivore_jax.model import cpu

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
        with jax.named_scope("linear"):
            return dense(x, self.kernel[...], None if self.bias is None else self.bias[...])


class LayerNorm(nnx.Module):
    """Normalisation over channels with statistics in float32."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        with jax.named_scope("norm"):
            return layer_norm(x, self.scale[...], self.bias[...])


def layer_norm(
    x: Float[Array, "*batch c"], scale: Float[Array, "c"], bias: Float[Array, "c"]
) -> Float[Array, "*batch c"]:
    """Normalises over channels."""
    if cpu.on_cpu():
        return cpu.layer_norm(x, scale, bias, LAYER_NORM_EPS)
    return _layer_norm(x, scale, bias)


# The backward passes of the two below compute their float32 numbers again. Kept, as a loop over
# blocks would do, they are several times what the products of a block leave.


@partial(jax.checkpoint, prevent_cse=False)
def _layer_norm(x, scale, bias):
    wide = x.astype(jnp.float32)
    centered = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centered).mean(-1, keepdims=True)
    normed = centered * jax.lax.rsqrt(variance + LAYER_NORM_EPS)
    return (normed * scale + bias).astype(x.dtype)


def gelu(x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
    """Exact GELU."""
    with jax.named_scope("gelu"):
        return cpu.gelu(x) if cpu.on_cpu() else _gelu(x)


@partial(jax.checkpoint, prevent_cse=False)
def _gelu(x):
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * 2**-0.5))).astype(x.dtype)


def dense(
    x: Float[Array, "*batch c"], kernel: Float[Array, "c out"], bias: Float[Array, "out"] | None
) -> Float[Array, "*batch out"]:
    """Computes x @ kernel + bias in the type of x."""
    return cpu.dense(x, kernel, bias) if cpu.on_cpu() else _dense(x, kernel, bias)


@jax.custom_vjp
def _dense(x, kernel, bias):
    y = x @ kernel.astype(x.dtype)
    return y if bias is None else y + bias.astype(x.dtype)


def _dense_backward(saved, dy):
    # By hand for one reason: automatic differentiation would round the gradients of the parameters
    # to the type of x before they are added up over devices and micro-batches.
    x, kernel, bias = saved
    batch = tuple(range(x.ndim - 1))
    dkernel = jax.lax.dot_general(
        x, dy, ((batch, batch), ((), ())), preferred_element_type=jnp.float32
    )
    dbias = None if bias is None else dy.sum(batch, jnp.float32)
    return dy @ kernel.astype(dy.dtype).T, dkernel, dbias


_dense.defvjp(lambda x, kernel, bias: (_dense(x, kernel, bias), (x, kernel, bias)), _dense_backward)
