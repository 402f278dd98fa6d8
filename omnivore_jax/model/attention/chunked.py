"""Window attention a few windows at a time: n x n arrays of a chunk exist, never those of a map.

The backward pass computes the weights of a chunk again.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from omnivore_jax.model.attention import cpu, xla
from omnivore_jax.model.attention.base import Backend, Call, Masks, platform
from omnivore_jax.model.attention.division import on_each_device

CHUNK = 2**20
"""Attention weights of a chunk, at most, where one window has fewer.

In float32 they stay in a CPU's cache: the fastest of the powers of 2 from 2**17 to 2**23 for the
first stages of Swin-T on clips.
"""

LARGE = 128
"""Tokens of a window from which a CPU gains by it; below, all windows at once are as fast."""


def attend(
    qkv: Float[Array, "g n c3"],
    bias: Float[Array, "k n n"],
    masks: Masks | None,
    keep: Float[Array, "g k n n"] | None,
) -> Float[Array, "g n c"]:
    """Attends, with gradients by automatic differentiation of a chunk."""
    windows = (qkv,) if keep is None else (qkv, keep)
    return on_each_device(_attend, masks, bias, *windows)


def _attend(
    masks: Masks | None,
    bias: Float[Array, "k n n"],
    qkv: Float[Array, "g n c3"],
    keep: Float[Array, "g k n n"] | None = None,
) -> Float[Array, "g n c"]:
    """Attends on one device; where the last chunk is not full, zeros fill it up."""
    one = cpu.attend if platform() == "cpu" else xla.attend
    windows, chunk = qkv.shape[0], chunk_size(qkv.shape[0], bias.size)
    if chunk == windows:
        return one(qkv, bias, masks, keep)
    count = -(-windows // chunk)

    def split(x: Array) -> Array:
        padded = jnp.pad(x, [(0, count * chunk - windows), *[(0, 0)] * (x.ndim - 1)])
        return padded.reshape(count, chunk, *x.shape[1:])

    ids = None if masks is None else split(jnp.tile(masks[1], windows // len(masks[1])))

    @jax.checkpoint
    def attend_chunk(part):
        qkv, ids, keep = part
        return one(qkv, bias, None if masks is None else (masks[0], ids), keep)

    parts = (split(qkv), ids, None if keep is None else split(keep))
    out = jax.lax.map(attend_chunk, parts)
    return out.reshape(count * chunk, *out.shape[2:])[:windows]


def chunk_size(windows: int, weights: int) -> int:
    """Windows of a chunk; all chunks are as full as can be. `weights` are those of a window."""
    most = max(min(windows, CHUNK // weights), 1)
    count = -(-windows // most)
    return -(-windows // count)


def _passed_over(call: Call) -> str | None:
    if call.tokens >= LARGE:
        return None
    return f"all windows at once are as fast below {LARGE} tokens a window"


CHUNKED = Backend("chunked", attend, lambda call: None, _passed_over, keeps_maps=False)
