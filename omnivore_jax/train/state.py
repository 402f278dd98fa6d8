"""The state of a training run: born on its devices, already divided over them."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from omnivore_jax.core.tree import flatten, unflatten
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

DRAWN = 32
"""Parameters that one program draws: what the compiler takes grows with them, and Swin-L's at once
would take more of a host than a fourth of its state."""


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
    key = jax.random.fold_in(jax.random.key(seed), INIT)
    params: dict[str, Array] = {}
    for draw in make_draws(model, heads, mesh):
        params |= draw(key)
    return make_begin(abstract_state(model, heads, mesh, rule), rule)(unflatten(params))


def make_draws(model: ModelConfig, heads: Heads, mesh: Mesh) -> Iterator[jax.stages.Wrapped]:
    """Compiles key -> initial parameters by path, `DRAWN` in each of the programs."""
    leaves = flatten(abstract_state(model, heads, mesh).params)

    def some(names: Sequence[str]) -> jax.stages.Wrapped:
        def draw(key: PRNGKeyArray) -> dict[str, Array]:
            params = flatten(init_params(model, heads, key))
            return {name: params[name] for name in names}

        return jax.jit(draw, out_shardings={name: leaves[name].sharding for name in names})

    names = list(leaves)
    for first in range(0, len(names), DRAWN):
        yield some(names[first : first + DRAWN])


def make_begin(state: TrainState, rule: Rule = "adamw") -> jax.stages.Wrapped:
    """Compiles parameters -> state of a run that begins; takes the parameters over.

    `state` says the places of its arrays (`abstract_state`).
    """
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(partial(_begin, rule=rule), out_shardings=places, donate_argnums=0)


def state_from(params: PyTree, mesh: Mesh, rule: Rule = "adamw") -> TrainState:
    """Starts a run from given parameters (a checkpoint's, say)."""
    begin = partial(_begin, rule=rule)
    return jax.jit(begin, out_shardings=shardings(jax.eval_shape(begin, params), mesh))(params)


def _begin(params: PyTree, rule: Rule) -> TrainState:
    step, moments = jnp.zeros((), jnp.int32), optimizer.init(params, rule)
    # The average is a copy: an alias of the parameters could not be donated with them.
    return TrainState(step, params, moments, jax.tree.map(jnp.copy, params))
