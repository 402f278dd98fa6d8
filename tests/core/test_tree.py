from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from omnivore_jax.core.tree import first_difference, flatten, refill, tree_bytes, unflatten

PARAMS = {
    "trunk": {"layers": {"0": {"kernel": 1, "bias": 2}, "10": {"kernel": 3}}},
    "heads": {"image": {"bias": 4}},
}


class Pair(NamedTuple):
    mu: object
    nu: object


def test_nested_dicts_flatten_and_unflatten_as_in_flax():
    flat = flatten(PARAMS)
    assert flat == flatten_dict(PARAMS, sep=".")
    assert unflatten(flat) == unflatten_dict(flat, sep=".") == PARAMS


def test_fields_and_indices_are_parts_of_a_path_and_the_tree_can_be_filled_again():
    tree = {"opt": (Pair({"a": 1}, {"a": 2}), None, [3])}
    assert flatten(tree) == {"opt.0.mu.a": 1, "opt.0.nu.a": 2, "opt.2.0": 3}
    assert refill(tree, {path: -leaf for path, leaf in flatten(tree).items()}) == {
        "opt": (Pair({"a": -1}, {"a": -2}), None, [-3])
    }


def test_paths_that_collide_are_refused():
    with pytest.raises(ValueError, match="two leaves have the path 'a.b'"):
        flatten({"a": {"b": 1}, "a.b": 2})
    for clash in ({"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}):
        with pytest.raises(ValueError, match="path 'a(.b)?' "):
            unflatten(clash)


def test_bytes_are_those_that_numpy_counts():
    arrays = {"a": np.zeros((3, 5), np.float32), "b": [jnp.zeros((4,), jnp.bfloat16), np.int8(1)]}
    assert (
        tree_bytes(arrays)
        == sum(np.asarray(x).nbytes for x in jax.tree.leaves(arrays))
        == 60 + 8 + 1
    )
    assert tree_bytes(jax.eval_shape(lambda: arrays)) == 69


def shape(*sizes, dtype=np.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"layers": {"2": shape(3), "10": shape(4)}}, None),
        (
            {"layers": {"2": shape(3, 1), "10": shape(5)}},
            ("layers.2", "float32[3]", "float32[3, 1]"),
        ),
        (
            {"layers": {"2": shape(3), "10": shape(4, dtype=jnp.bfloat16)}},
            ("layers.10", "float32[4]", "bfloat16[4]"),
        ),
        ({"layers": {"2": shape(3), "10": shape(4)}, "a": shape()}, ("a", "nothing", "float32[]")),
        ({"layers": {}}, ("layers.2", "float32[3]", "nothing")),
    ],
)
def test_the_first_difference_is_found_in_the_order_of_the_layers(other, difference):
    assert first_difference({"layers": {"2": shape(3), "10": shape(4)}}, other) == difference
