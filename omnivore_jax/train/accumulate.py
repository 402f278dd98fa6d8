"""Sums over micro-batches and devices that meet once, at the end.

Left to XLA, every micro-batch ends in an all-reduce of all gradients, and where a parameter is
spread before it is used (position tables, the patch embedding of stills) of the spread form: 30 GB
a clip step of Swin-B on 64 devices whose parameters are 0.4 GB. So every device adds up its own
samples' gradients, whole, and parameters that fsdp divides are gathered once, before the first.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, PyTree

from omnivore_jax.train.mesh import BATCH, gathered


def accumulate(
    function: Callable[[PyTree, PyTree], PyTree],
    params: PyTree,
    inputs: Callable[[Int[Array, ""] | int], PyTree],
    count: int,
    mesh: Mesh,
) -> PyTree:
    """Sums `function(params, inputs(number))` over `count` micro-batches and the batch axes.

    Each part of the batch keeps sums of its own, of the samples that it holds; they are added up
    after the last micro-batch. `function` returns sums over samples, for example a gradient. Along
    tensor XLA divides the work inside, as the parameters lie.
    """
    params = jax.lax.with_sharding_constraint(params, gathered(params, mesh))
    local = jax.shard_map(
        lambda params, inputs: jax.tree.map(lambda leaf: leaf[None], function(params, inputs)),
        mesh=mesh,
        in_specs=(P(), BATCH),
        out_specs=BATCH,
        axis_names={"data", "fsdp"},
        check_vma=False,  # with it, the gradient of what all devices share is summed at once
    )

    def sums(number):
        return local(params, inputs(number))

    def add(total, number):
        return jax.tree.map(jnp.add, total, sums(number)), None

    if count == 1:
        total = sums(0)
    else:
        shapes = jax.eval_shape(sums, 0)
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total = jax.lax.scan(add, zero, jnp.arange(count))[0]
    return jax.tree.map(lambda leaf: leaf.sum(0), total)
