"""Window attention as a kernel for TPUs, in which no n x n array leaves the chip.

Compiled for v5e, v5p and v6e at the sizes of the paper's models, and computed on CPUs by Pallas's
interpreter; it has not run on a TPU.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from omnivore_jax.model.attention.base import Backend, Call, Masks
from omnivore_jax.model.attention.window_kernel import (
    VMEM,
    backward,
    forward,
    head_group,
    vmem_bytes,
)
from omnivore_jax.model.sharding import BATCH_AXES

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
    return _over_mesh(partial(forward, interpret=interpret), 1)(masks, bias, qkv)


def _save(qkv, bias, masks, interpret):
    return _attend(qkv, bias, masks, interpret), (qkv, bias, masks)


def _gradient(interpret, saved, dout):
    qkv, bias, masks = saved
    run = _over_mesh(partial(backward, interpret=interpret), 2)
    return *run(masks, bias, qkv, dout), None


_attend.defvjp(_save, _gradient)


def _over_mesh(function: Callable, outputs: int) -> Callable:
    """Runs (masks, bias, windows ...) on the windows that a device holds.

    XLA cannot divide a kernel. Outputs are windows, then the gradient of the bias, which is summed
    over the devices that divide the batch. Devices of other axes all do the same.
    """
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    free = {axis for axis, kind in kinds.items() if kind == AxisType.Auto}
    if not free:
        return function

    def divided(masks: Masks | None, bias: Array, *windows: Array) -> Any:
        axes = tuple(axis for axis in BATCH_AXES if axis in free)
        places = 1 if masks is None else len(masks[1])
        if windows[0].shape[0] % (places * prod(mesh.shape[axis] for axis in axes)):
            axes = ()  # samples do not divide: every device computes all of them

        def local(masks, bias, *windows):
            found = function(masks, bias, *windows)
            if outputs == 1:
                return found
            dqkv, dbias = found
            return dqkv, jax.lax.psum(dbias, axes) if axes else dbias

        batch = P(axes) if axes else P()
        return jax.shard_map(
            local,
            in_specs=(P(), P(), *(batch for _ in windows)),
            out_specs=batch if outputs == 1 else (batch, P()),
            axis_names=free,
            check_vma=False,
        )(masks, bias, *windows)

    return divided


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


PALLAS_TPU = Backend("pallas_tpu", attend, _supports)
