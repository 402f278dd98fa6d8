"""Windows divided over the devices of a mesh by hand, where XLA cannot or would gather them."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from omnivore_jax.model.attention.base import Masks
from omnivore_jax.model.sharding import BATCH_AXES


def on_each_device(
    function: Callable,
    masks: Masks | None,
    bias: Float[Array, "k n n"],
    *windows: Float[Array, "g ..."],
    kernel: bool = False,
    sums: bool = False,
) -> Any:
    """Runs function(masks, bias, *windows) on the windows that each device holds.

    It gives windows; with `sums` also a sum over windows, which is added up over the devices. The
    batch axes of the mesh divide the windows, by sample. Other axes are left to XLA, but for a
    `kernel`, which it cannot divide: their devices all do the same.
    """
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    free = {axis for axis, kind in kinds.items() if kind == AxisType.Auto}
    axes = tuple(axis for axis in BATCH_AXES if axis in free)
    free = free if kernel else set(axes)
    if not free:
        return function(masks, bias, *windows)
    places = 1 if masks is None else len(masks[1])
    if windows[0].shape[0] % (places * prod(mesh.shape[axis] for axis in axes)):
        axes = ()  # samples do not divide: every device computes all of them

    def local(masks, bias, *windows):
        if not sums:
            return function(masks, bias, *windows)
        out, total = function(masks, bias, *windows)
        return out, jax.lax.psum(total, axes) if axes else total

    batch = P(axes) if axes else P()
    return jax.shard_map(
        local,
        in_specs=(P(), P(), *(batch for _ in windows)),
        out_specs=(batch, P()) if sums else batch,
        axis_names=free,
        check_vma=False,
    )(masks, bias, *windows)
