"""Train states with what ours have.

Nested names, optax's tuples, scalars, bfloat16 beside float32.
"""

from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from omnivore_jax.core.tree import flatten


class State(NamedTuple):
    step: Any
    params: Any
    opt_state: Any
    ema: Any


def numpy_state(step: int, rows: int = 16) -> State:
    kernel = np.random.default_rng(step).standard_normal((rows, 8), np.float32)
    params = {
        "trunk": {"layers": {"0": {"kernel": kernel}}},
        "heads": {"image": {"bias": kernel[0]}},
    }
    moments = jax.tree.map(lambda x: x * 2, params), jax.tree.map(np.square, params)
    adam = optax.ScaleByAdamState(np.asarray(step, np.int32), *moments)
    ema = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params)
    return State(np.asarray(step, np.int32), params, (adam, optax.EmptyState()), ema)


def shardings(tree, devices: int):
    """Spreads leaves over devices along their first axis, where it is long enough."""
    mesh = jax.make_mesh(
        (devices,), ("fsdp",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    specs = (PartitionSpec("fsdp"), PartitionSpec())
    return jax.tree.map(
        lambda x: NamedSharding(mesh, specs[x.ndim == 0 or x.shape[0] % 8 != 0]), tree
    )


def placed(tree, devices: int = 8):
    def place(leaf, sharding):
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(place, tree, shardings(tree, devices))


def state(step: int, devices: int = 8) -> State:
    return placed(numpy_state(step), devices)


def abstract(devices: int = 8, rows: int = 16) -> State:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), numpy_state(0, rows))
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        shardings(shapes, devices),
    )


def assert_same_bits(arrays, expected):
    """Compares the shards of this process with arrays of numpy."""
    arrays, expected = flatten(arrays), flatten(expected)
    assert arrays.keys() == expected.keys()
    for path, array in arrays.items():
        assert array.dtype == expected[path].dtype
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(shard.data, expected[path][shard.index], err_msg=path)
