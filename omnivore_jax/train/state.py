"""The state of a training run: born on its devices, already divided over them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, PyTree

from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads
from omnivore_jax.model.params import abstract_model, init_params
from omnivore_jax.train import optimizer
from omnivore_jax.train.mesh import shardings

INIT = 2**32 - 1
"""Folded into the seed for initial parameters.

The keys of training fold in steps, which are smaller.
"""


class TrainState(NamedTuple):
    """All that a step changes; plain nested dicts, float32."""

    step: Int[Array, ""]
    """Updates done."""
    params: PyTree
    opt_state: dict[str, optax.ScaleByAdamState]
    """One a group of parameters (`model.params.group_of`)."""
    ema: PyTree


def abstract_state(model: ModelConfig, heads: Heads, mesh: Mesh) -> TrainState:
    """Shapes, types and shardings of a state, to restore into; touches no device."""
    shapes = jax.eval_shape(_begin, abstract_model(model, heads)[1])
    place = shardings(shapes, mesh)
    return jax.tree.map(
        lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, place
    )


def init_state(model: ModelConfig, heads: Heads, seed: int, mesh: Mesh) -> TrainState:
    """Initialises a run.

    No device ever holds more than its own part, and the values depend on the seed alone.
    """
    make = jax.jit(
        lambda key: _begin(init_params(model, heads, key)),
        out_shardings=_places(model, heads, mesh),
    )
    return make(jax.random.fold_in(jax.random.key(seed), INIT))


def state_from(params: PyTree, mesh: Mesh) -> TrainState:
    """Starts a run from given parameters (a checkpoint's, say)."""
    return jax.jit(_begin, out_shardings=shardings(jax.eval_shape(_begin, params), mesh))(params)


def _places(model: ModelConfig, heads: Heads, mesh: Mesh) -> TrainState:
    return jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, heads, mesh))


def _begin(params: PyTree) -> TrainState:
    # The average is a copy: an alias of the parameters could not be donated with them.
    return TrainState(
        jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.tree.map(jnp.copy, params)
    )
