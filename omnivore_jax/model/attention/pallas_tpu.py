"""Window attention as a kernel for TPUs, in which no n x n array leaves the chip.

Compiled for v5e, v5p and v6e at the sizes of the paper's models, and computed on CPUs by Pallas's
interpreter; it has not run on a TPU.
"""

from functools import partial

import jax
from jaxtyping import Array, Float

from omnivore_jax.model.attention.base import Backend, Call, Masks
from omnivore_jax.model.attention.division import on_each_device
from omnivore_jax.model.attention.window_kernel import (
    VMEM,
    backward,
    forward,
    head_group,
    vmem_bytes,
)

SMALL_VMEM = {"TPU v2": 15 * 2**20, "TPU v3": 15 * 2**20, "TPU v4": 15 * 2**20}
"""What takes the place of `VMEM` on kinds of which a core has 16 MiB."""


def attend(
    qkv: Float[Array, "g n c3"],
    bias: Float[Array, "k n n"],
    masks: Masks | None,
    keep: Float[Array, "g k n n"] | None = None,
    *,
    interpret: bool = False,
) -> Float[Array, "g n c"]:
    """Attends; `interpret` runs the kernel on any platform, for tests."""
    return _attend(qkv, bias, masks, interpret)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attend(qkv: Array, bias: Array, masks: Masks | None, interpret: bool) -> Array:
    run = partial(forward, interpret=interpret)
    return on_each_device(run, masks, bias, qkv, kernel=True)


def _save(qkv, bias, masks, interpret):
    return _attend(qkv, bias, masks, interpret), (qkv, bias, masks)


def _gradient(interpret, saved, dout):
    qkv, bias, masks = saved
    run = partial(backward, interpret=interpret)
    return *on_each_device(run, masks, bias, qkv, dout, kernel=True, sums=True), None


_attend.defvjp(_save, _gradient)


def _supports(call: Call) -> str | None:
    if call.device.platform != "tpu":
        return f"it is written for TPUs, not for a {call.device.platform}"
    if call.dropout:
        return "it has no dropout of attention weights"
    vmem = SMALL_VMEM.get(call.device.kind, VMEM)
    if vmem_bytes(call) > vmem:
        return (
            f"{call.tokens} tokens x {head_group(call.heads, call.head_dim)} heads take "
            f"{vmem_bytes(call) / 2**20:.0f} MiB of VMEM, of {vmem // 2**20}"
        )
    return None


PALLAS_TPU = Backend("pallas_tpu", attend, _supports, keeps_maps=False)
