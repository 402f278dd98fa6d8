"""How devices are laid out and where each array lives.

Rules over paths and shapes, no annotations in the model.

Three axes: `data` and `fsdp` both divide the batch, `fsdp` also what lasts (parameters, moments,
EMA; a step gathers the parameters once), `tensor` columns and rows of layers. XLA inserts the
communication (GSPMD: what used to be called pjit is `jax.jit` with these shardings).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from omnivore_jax.model.params import tensor_axis

AXES = ("data", "fsdp", "tensor")
BATCH = P(("data", "fsdp"))
"""How the samples of a batch are divided."""

SMALLEST_SHARDED = 2**12
"""Elements below which a parameter stays whole: it is not worth the communication."""

Tree = Any


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis: the section `mesh`; -1 (one of them): all that the others leave."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self):
        sizes = [getattr(self, axis) for axis in AXES]
        for axis, size in zip(AXES, sizes, strict=True):
            if size == 0 or size < -1:
                raise ValueError(f"{axis}={size}; use 1 or more, or -1 for the rest of the devices")
        if sizes.count(-1) > 1:
            raise ValueError(
                f"data={self.data}, fsdp={self.fsdp}, tensor={self.tensor}: use -1 for one of them "
                "only"
            )


def mesh_shape(config: MeshConfig, devices: int) -> dict[str, int]:
    """Devices along each axis.

    Raises:
        ValueError: the devices cannot be laid out so.

    """
    shape = {axis: getattr(config, axis) for axis in AXES}
    given = prod(size for size in shape.values() if size > 0)
    wanted = " x ".join(f"mesh.{axis}={size}" for axis, size in shape.items())
    rest = [axis for axis, size in shape.items() if size == -1]
    if (devices % given if rest else devices != given) != 0:
        remedy = (
            f"a product that divides {devices}"
            if rest
            else f"a product of {devices} (mesh.data=-1: the rest)"
        )
        raise ValueError(f"{wanted} does not fit the {devices} devices; use {remedy}")
    return shape | {axis: devices // given for axis in rest}


def describe(config: MeshConfig, devices: int) -> str:
    """One line that says how the devices are used and by which rule."""
    shape = mesh_shape(config, devices)
    sizes = " x ".join(f"{axis} {size}" for axis, size in shape.items())
    return (
        f"{sizes}: the batch is divided by {batch_shards(shape)} (data x fsdp), parameters, "
        "moments and EMA by fsdp "
        "(largest axis that divides) and by tensor (columns of qkv and fc1, rows of proj and fc2, "
        "classes)"
    )


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Lays out the devices (all of them, or those given)."""
    devices = jax.devices() if devices is None else devices
    sizes, types = tuple(mesh_shape(config, len(devices)).values()), (AxisType.Auto,) * 3
    try:
        return jax.make_mesh(sizes, AXES, axis_types=types, devices=devices)
    except NotImplementedError:
        # No product of the sides of a TPU slice is such a size: an axis takes part of a side.
        placed = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
        return Mesh(placed, AXES, axis_types=types)


def batch_shards(shape: Mapping[str, int]) -> int:
    """By how much the batch is divided."""
    return shape["data"] * shape["fsdp"]


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, BATCH)


def partition_spec(path: tuple[str, ...], shape: tuple[int, ...], mesh: Mapping[str, int]) -> P:
    """Where an array lives, from the end of its path and its shape.

    Moments and averages follow their parameter.
    """
    axes: list[str | None] = [None] * len(shape)
    column = tensor_axis(".".join(path), len(shape))
    if column is not None and mesh["tensor"] > 1 and shape[column] % mesh["tensor"] == 0:
        axes[column] = "tensor"
    free = [i for i, size in enumerate(shape) if axes[i] is None and size % mesh["fsdp"] == 0]
    if mesh["fsdp"] > 1 and free and prod(shape) >= SMALLEST_SHARDED:
        axes[max(free, key=lambda i: shape[i])] = "fsdp"
    return P(*axes)


def shardings(tree: Tree, mesh: Mesh) -> Tree:
    """Sharding of every array of a tree of arrays or shapes."""
    return _shardings(tree, mesh, mesh.shape)


def gathered(tree: Tree, mesh: Mesh) -> Tree:
    """Sharding of every parameter while a step uses it: whole along fsdp."""
    return _shardings(tree, mesh, dict(mesh.shape) | {"fsdp": 1})


def _shardings(tree: Tree, mesh: Mesh, sizes: Mapping[str, int]) -> Tree:
    def place(path, leaf):
        keys = tuple(str(getattr(entry, "key", getattr(entry, "name", entry))) for entry in path)
        return NamedSharding(mesh, partition_spec(keys, leaf.shape, sizes))

    return jax.tree_util.tree_map_with_path(place, tree)
