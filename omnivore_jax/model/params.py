"""The model as pure functions over nested dicts, and what every parameter is by its path.

The dicts are what training states, checkpoints and shardings hold.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
from flax import nnx
from jaxtyping import PRNGKeyArray

from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads
from omnivore_jax.model.omnivore import Omnivore

Params = dict[str, Any]
"""Nested dicts with string keys down to arrays, {"trunk": {"layers": {"0": ...}}, "heads": ...}."""


def abstract_model(config: ModelConfig, heads: Heads) -> tuple[nnx.GraphDef, Params]:
    """Gives the structure of a model and the shapes of its parameters; touches no device."""
    graphdef, params = _abstract_model(config, tuple(heads.items()))
    # A copy, for the cached one must not be changed.
    return graphdef, jax.tree.map(lambda leaf: leaf, params)


@lru_cache(maxsize=32)
def _abstract_model(
    config: ModelConfig, heads: tuple[tuple[str, Any], ...]
) -> tuple[nnx.GraphDef, Params]:
    structure = []

    def make():
        graphdef, state = nnx.split(Omnivore(config, dict(heads), key=jax.random.key(0)))
        structure.append(graphdef)
        return _string_keys(nnx.to_pure_dict(state))

    params = jax.eval_shape(make)
    return structure[0], params


def init_params(config: ModelConfig, heads: Heads, key: PRNGKeyArray) -> Params:
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


# The roles of a parameter, each told from its dotted path; moments and averages, whose paths end
# alike, have those of their parameter.

TRUNK, RGB_EMBED, DEPTH_EMBED = "trunk", "patch_embed", "depth_patch_embed"
"""Groups of parameters; a head is one more, `heads.NAME`."""


def group_of(path: str) -> str:
    """Tells what is trained or left alone together: a head, a patch embedding, the trunk's rest."""
    keys = path.split(".")
    if keys[0] == "heads":
        return f"heads.{keys[1]}"
    if keys[1] == DEPTH_EMBED or keys[1:3] == [RGB_EMBED, "var_proj"]:
        return DEPTH_EMBED
    return RGB_EMBED if keys[1] == RGB_EMBED else TRUNK


def decays(path: str) -> bool:
    """Tells whether weight decay acts: on kernels, not on biases, norms and tables (App. A)."""
    return path.endswith(".kernel")


def tensor_axis(path: str, ndim: int) -> int | None:
    """Tells what the mesh axis `tensor` divides: columns of one layer, rows of the next."""
    *_, owner, layer, leaf = ("", "", "", *path.split("."))
    columns = layer in ("qkv", "fc1") or owner == "heads"
    rows = layer == "fc2" or (owner, layer) == ("attn", "proj")
    if leaf == "kernel" and ndim == 2 and (columns or rows):
        return 1 if columns else 0
    return 0 if leaf == "bias" and columns else None
