"""Window attention by cuDNN, through `jax.nn.dot_product_attention`.

It has not run on a GPU: what is checked is what it is lowered to, and all but cuDNN itself. So
`auto` passes it over.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from omnivore_jax.model.attention.base import Backend, Call, Masks

PADDED = -1e4
"""Bias of a key that only fills a window up: its weight is 0 in all types."""

MOST_CLASSES = 8
"""Of masks. Each is a call of its own: a mask a window would be an operand of g x k x n x n."""

AMPERE = 8.0

Implementation = Literal["cudnn", "xla"]


def attend(
    qkv: Float[Array, "g n c3"],
    bias: Float[Array, "k n n"],
    masks: Masks | None,
    keep: Float[Array, "g k n n"] | None,
    *,
    implementation: Implementation = "cudnn",
) -> Float[Array, "g n c"]:
    """Attends, with the gradients of cuDNN; `implementation` xla is for tests on any platform.

    Windows of an odd number of tokens get one more, as cuDNN has no gradient of the bias for them.

    Raises:
        ValueError: there are too many masks, or they are not of NumPy.

    """
    if masks is None:
        return _attend(qkv, bias, implementation)
    classes, ids = masks
    if not isinstance(ids, np.ndarray) or len(classes) > MOST_CLASSES:
        raise ValueError(f"cudnn takes at most {MOST_CLASSES} masks, and those of NumPy")
    order = np.argsort(ids, kind="stable")
    ends = np.cumsum(np.bincount(ids, minlength=len(classes)))[:-1]
    windows = _permute(qkv.reshape(-1, len(ids), *qkv.shape[1:]), order)
    outs = []
    for mask, part in zip(classes, jnp.split(windows, ends, axis=1), strict=True):
        out = _attend(part.reshape(-1, *qkv.shape[1:]), bias + mask, implementation)
        outs.append(out.reshape(*part.shape[:-1], -1))
    out = _permute(jnp.concatenate(outs, axis=1), np.argsort(order))
    return out.reshape(*qkv.shape[:2], -1)


def _permute(x: Float[Array, "b w n c"], order: np.ndarray) -> Float[Array, "b w n c"]:
    """Reorders windows; the gradient does so backwards, where XLA would scatter into zeros."""

    @jax.custom_vjp
    def permute(x):
        return x[:, order]

    permute.defvjp(lambda x: (x[:, order], None), lambda _, dy: (dy[:, np.argsort(order)],))
    return permute(x)


def _attend(
    qkv: Float[Array, "g n c3"],
    bias: Float[Array, "k n n"],
    implementation: Implementation,
) -> Float[Array, "g n c"]:
    windows, n, _ = qkv.shape
    odd = n % 2
    q, k, v = jnp.moveaxis(
        jnp.pad(qkv, [(0, 0), (0, odd), (0, 0)]).reshape(windows, n + odd, 3, bias.shape[0], -1),
        2,
        0,
    )
    bias = jnp.pad(bias, [(0, 0), (0, odd), (0, 0)])
    bias = jnp.pad(bias, [(0, 0), (0, 0), (0, odd)], constant_values=PADDED)
    out = jax.nn.dot_product_attention(q, k, v, bias[None], implementation=implementation)
    return out[:, :n].reshape(windows, n, -1)


def _supports(call: Call) -> str | None:
    if call.device.platform != "gpu":
        return f"it is for GPUs, not for a {call.device.platform}"
    if call.device.capability is not None and call.device.capability < AMPERE:
        return f"the GPU has compute capability {call.device.capability}, not {AMPERE} or more"
    if call.dtype not in ("bfloat16", "float16"):
        return f"it computes in bfloat16 or float16, not in {call.dtype}"
    if call.head_dim % 8 or call.head_dim > 128:
        return f"heads have {call.head_dim} channels, not a multiple of 8 up to 128"
    if call.dropout:
        return "its dropout draws numbers of its own"
    return None


def _passed_over(call: Call) -> str | None:
    return "it has not run on a GPU yet: attention.backend=cudnn takes it"


CUDNN = Backend("cudnn", attend, _supports, _passed_over, keeps_maps=False)
