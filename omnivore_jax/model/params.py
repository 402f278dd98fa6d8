"""The model as pure functions over plain nested dicts.

What training states, checkpoints and shardings hold.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
from flax import nnx
from jaxtyping import PRNGKeyArray

from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.omnivore import Omnivore

Params = dict[str, Any]
"""Nested dicts with string keys down to arrays: {"trunk": {"layers": {"0": ...}}, "heads".

{"image": ...}}.
"""


def abstract_model(config: ModelConfig, heads: Mapping[str, int]) -> tuple[nnx.GraphDef, Params]:
    """Gives the structure of a model and the shapes of its parameters; touches no device."""
    graphdef, params = _abstract_model(config, tuple(heads.items()))
    return graphdef, jax.tree.map(
        lambda leaf: leaf, params
    )  # a copy, for the cached one must not be changed


@lru_cache(maxsize=32)
def _abstract_model(
    config: ModelConfig, heads: tuple[tuple[str, int], ...]
) -> tuple[nnx.GraphDef, Params]:
    structure = []

    def make():
        graphdef, state = nnx.split(Omnivore(config, dict(heads), key=jax.random.key(0)))
        structure.append(graphdef)
        return _string_keys(nnx.to_pure_dict(state))

    params = jax.eval_shape(make)
    return structure[0], params


def init_params(config: ModelConfig, heads: Mapping[str, int], key: PRNGKeyArray) -> Params:
    """Draws initial parameters.

    Can be jitted with `out_shardings`, so that no device holds more than its part.
    """
    return split(Omnivore(config, heads, key=key))[1]


def split(model: Omnivore) -> tuple[nnx.GraphDef, Params]:
    """Takes a model apart: undoes `merge`."""
    graphdef, state = nnx.split(model)
    return graphdef, _string_keys(nnx.to_pure_dict(state))


def merge(graphdef: nnx.GraphDef, params: Params) -> Omnivore:
    """Puts parameters into a model."""
    return nnx.merge(graphdef, _list_keys(params))


def _string_keys(tree: Any) -> Any:
    return {str(k): _string_keys(v) for k, v in tree.items()} if isinstance(tree, Mapping) else tree


def _list_keys(tree: Any) -> Any:
    """Numbers are positions in NNX's lists."""
    if not isinstance(tree, Mapping):
        return tree
    return {int(k) if k.isdigit() else k: _list_keys(v) for k, v in tree.items()}
