"""Trees of arrays as tables of dotted paths.

What checkpoints, weight files and comparisons speak.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from jaxtyping import PyTree


def flatten(tree: PyTree) -> dict[str, Any]:
    """Lists the leaves by path, {"trunk.layers.0.kernel": leaf}.

    Fields, keys and indices are all parts of a path.

    Raises ValueError where two leaves have the same path: a key that holds a dot can do that.
    """
    flat: dict[str, Any] = {}
    for keys, leaf in jax.tree.leaves_with_path(tree):
        path = jax.tree_util.keystr(keys, simple=True, separator=".")
        if path in flat:
            raise ValueError(f"two leaves have the path {path!r}; rename the key that holds a dot")
        flat[path] = leaf
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Puts leaves back into nested dicts with string keys: undoes `flatten` for such trees.

    Raises ValueError where a path goes on below a leaf.
    """
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(
                    f"path {path!r} goes on below the leaf {parent!r}; rename one of the two"
                )
        if name in node:
            raise ValueError(f"path {path!r} names a leaf and a branch; rename one of the two")
        node[name] = leaf
    return tree


def refill(tree: PyTree, flat: Mapping[str, Any]) -> PyTree:
    """Builds a tree with the structure of `tree` from the leaves of `flat` at the same paths."""
    return jax.tree.unflatten(jax.tree.structure(tree), [flat[path] for path in flatten(tree)])


def tree_bytes(tree: PyTree) -> int:
    """Counts the bytes of all leaves, every element once however it is sharded."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def first_difference(one: PyTree, other: PyTree) -> tuple[str, str, str] | None:
    """Finds the first path whose shape or dtype differs, or that one tree lacks.

    Returns the path and what each tree has there, as text ("float32[3, 4]" or "nothing"); None
    where the trees agree.
    """
    left, right = flatten(one), flatten(other)
    for path in _in_order(left.keys() | right.keys()):
        one_has, other_has = _describe(left, path), _describe(right, path)
        if one_has != other_has:
            return path, one_has, other_has
    return None


def _describe(flat: Mapping[str, Any], path: str) -> str:
    return f"{flat[path].dtype}{list(flat[path].shape)}" if path in flat else "nothing"


def _in_order(paths: Iterable[str]) -> list[str]:
    """Sorts paths so that layers.2 comes before layers.10."""
    return sorted(
        paths,
        key=lambda path: [
            (part.isdigit(), int(part) if part.isdigit() else part) for part in path.split(".")
        ],
    )
