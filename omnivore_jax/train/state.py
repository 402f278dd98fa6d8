"""The state of a training run: born on its devices, already divided over them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, PyTree

from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads
from omnivore_jax.model.params import abstract_model, init_params
from omnivore_jax.train import optimizer
from omnivore_jax.train.mesh import shardings
from omnivore_jax.train.optimizer import Moments, Rule

INIT = 2**32 - 1
"""Folded into the seed for initial parameters.

The keys of training fold in steps, which are smaller.
"""


class TrainState(NamedTuple):
    """All that a step changes; plain nested dicts, float32."""

    step: Int[Array, ""]
    """Updates done."""
    params: PyTree
    opt_state: dict[str, Moments]
    """One a group of parameters (`model.params.group_of`)."""
    ema: PyTree


def abstract_state(
    model: ModelConfig, heads: Heads, mesh: Mesh, rule: Rule = "adamw"
) -> TrainState:
    """Shapes, types and shardings of a state, to restore into; touches no device."""
    begin = partial(_begin, rule=rule)
    shapes = jax.eval_shape(begin, abstract_model(model, heads)[1])
    place = shardings(shapes, mesh)
    return jax.tree.map(
        lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, place
    )


def init_state(
    model: ModelConfig, heads: Heads, seed: int, mesh: Mesh, rule: Rule = "adamw"
) -> TrainState:
    """Initialises a run.

    No device ever holds more than its own part, and the values depend on the seed alone.
    """
    make = make_init(model, heads, mesh, rule)
    return make(jax.random.fold_in(jax.random.key(seed), INIT))


def make_init(
    model: ModelConfig, heads: Heads, mesh: Mesh, rule: Rule = "adamw"
) -> jax.stages.Wrapped:
    """Compiles key -> state of a run that begins."""
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, heads, mesh, rule))
    return jax.jit(lambda key: _begin(init_params(model, heads, key), rule), out_shardings=places)


def state_from(params: PyTree, mesh: Mesh, rule: Rule = "adamw") -> TrainState:
    """Starts a run from given parameters (a checkpoint's, say)."""
    begin = partial(_begin, rule=rule)
    return jax.jit(begin, out_shardings=shardings(jax.eval_shape(begin, params), mesh))(params)


def _begin(params: PyTree, rule: Rule) -> TrainState:
    step, moments = jnp.zeros((), jnp.int32), optimizer.init(params, rule)
    # The average is a copy: an alias of the parameters could not be donated with them.
    return TrainState(step, params, moments, jax.tree.map(jnp.copy, params))
