"""Groups of parameters that a step trains or leaves alone together (`model.params.group_of`)."""

from collections.abc import Iterable
from typing import Any

from omnivore_jax.core.tree import flatten, unflatten
from omnivore_jax.model.config import DepthEmbed
from omnivore_jax.model.params import DEPTH_EMBED, RGB_EMBED, TRUNK, group_of

Tree = Any
"""Nested dicts of arrays."""
HEADS = "heads."
"""How the names of the groups of heads begin."""


def split_groups(params: Tree) -> dict[str, Tree]:
    """Cuts a tree into one tree a group; each keeps the full paths."""
    flat: dict[str, dict[str, Any]] = {}
    for path, leaf in flatten(params).items():
        flat.setdefault(group_of(path), {})[path] = leaf
    return {name: unflatten(leaves) for name, leaves in flat.items()}


def join_groups(groups: Iterable[Tree]) -> Tree:
    """Puts the trees that `split_groups` made back into one."""
    return unflatten({path: leaf for tree in groups for path, leaf in flatten(tree).items()})


def active_groups(
    depth_embed: DepthEmbed, heads: Iterable[str], depths: Iterable[bool]
) -> frozenset[str]:
    """Lists the groups that a step trains, from the head and the depth of each of its datasets."""
    depths = list(depths)
    active = {TRUNK, *(f"{HEADS}{head}" for head in heads)}
    if any(depths) and depth_embed != "none":
        active.add(DEPTH_EMBED)
    # "separate" embeds all four channels by themselves.
    if depth_embed != "separate" or not all(depths):
        active.add(RGB_EMBED)
    return frozenset(active)
