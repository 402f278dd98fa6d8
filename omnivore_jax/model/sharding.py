"""How activations are divided over devices: by sample, whatever the parameters do."""

import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Shaped

BATCH_AXES = ("data", "fsdp")


def divide_batch(x: Shaped[Array, "b ..."]) -> Shaped[Array, "b ..."]:
    """Divides the leading axis over the batch axes of the mesh that `jax.set_mesh` set.

    Does nothing without one.

    Without the constraint XLA gathers activations to match sharded weights instead of gathering the
    weights.
    """
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    axes = tuple(axis for axis in BATCH_AXES if kinds.get(axis) == AxisType.Auto)
    if not axes:
        return x
    free = (P.UNCONSTRAINED,) * (x.ndim - 1)
    return jax.lax.with_sharding_constraint(x, P(axes, *free))
