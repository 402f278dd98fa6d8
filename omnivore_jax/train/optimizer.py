"""AdamW over groups of parameters, each trained or left alone by a step; and the EMA.

A step trains only what its samples pass through: the heads of its datasets, the depth embedding
where there is depth. PyTorch skips parameters without a gradient, with their moments, their decay
and their own step count for Adam's bias correction. So every group has an optimiser state of its
own, and an absent group is left as it is. Source: Appendix A; end values of the schedule and
exclusions from decay as in the released configuration.
"""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr
from jaxtyping import Array, Float

from omnivore_jax.model.params import decays
from omnivore_jax.train.groups import split_groups

Tree = Any
"""Nested dicts of arrays."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, its schedule and the EMA: the section `optimizer`."""

    peak: float = 2e-3
    start: float = 2e-6
    cooldown: float = 2e-4
    """Learning rate at which the cosine ends and the cool-down starts."""
    end: float = 1e-6
    warmup: float = 0.1
    """Fraction of the training that is warm-up (linear from start to peak)."""
    warmup_steps: int = 0
    """Length of the warm-up in steps; 0: from the fraction."""
    cooldown_start: float = 0.9
    """Fraction of the training after which the cool-down runs (linear from cooldown to end); 1.

    None.
    """
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay: float = 0.05
    """Decoupled weight decay; none for biases, norms and position tables."""
    clip: float = 0.0
    """Largest global norm of the gradient; 0: no clipping."""
    ema: float = 0.9999
    """Decay of the moving average of all parameters."""
    update_absent: bool = False
    """Feed zero gradients to what a step does not train, once it has been trained.

    Decay and momentum then act on it, as in PyTorch before 2.0, which zeroed gradients that later
    versions drop. Else it is left alone.
    """

    def __post_init__(self):
        for name in ("peak", "start", "cooldown", "end", "decay", "clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}; use 0 or more")
        if not 0 <= self.warmup < 1 or self.warmup_steps < 0:
            raise ValueError(
                f"warmup={self.warmup}, warmup_steps={self.warmup_steps}; use a fraction below 1, "
                "or steps"
            )
        if not self.warmup < self.cooldown_start <= 1:
            raise ValueError(
                f"cooldown_start={self.cooldown_start}; use a fraction above warmup "
                f"({self.warmup}), at most 1"
            )
        if not (0 <= min(self.betas) and max(self.betas) < 1):
            raise ValueError(f"betas={self.betas}; use numbers from 0 to below 1")
        if self.eps <= 0:
            raise ValueError(f"eps={self.eps}; use a number above 0")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema}; use a decay from 0 to below 1")


def init(params: Tree) -> dict[str, optax.ScaleByAdamState]:
    """Makes the optimiser state: one of optax's Adam states a group."""
    adam = optax.scale_by_adam()
    return {
        n: cast(optax.ScaleByAdamState, adam.init(tree)) for n, tree in split_groups(params).items()
    }


def update(
    config: OptimizerConfig,
    rate: Float[Array, ""],
    params: dict[str, Tree],
    grads: dict[str, Tree],
    state: dict[str, optax.ScaleByAdamState],
) -> tuple[dict[str, Tree], dict[str, optax.ScaleByAdamState]]:
    """Updates every group that `grads` holds; `params` and `state` hold all groups."""
    params, state = dict(params), dict(state)
    for name in params:
        if name in grads:
            params[name], state[name] = _adamw(config, rate, params[name], grads[name], state[name])
        elif config.update_absent:
            old = (params[name], state[name])
            zero = jax.tree.map(jnp.zeros_like, params[name])
            new = _adamw(config, rate, params[name], zero, state[name])
            trained = jnp.asarray(state[name].count) > 0
            params[name], state[name] = jax.tree.map(
                lambda n, o, t=trained: jnp.where(t, n, o), new, old
            )
    return params, state


def _adamw(
    config: OptimizerConfig,
    rate: Float[Array, ""],
    params: Tree,
    grads: Tree,
    state: optax.ScaleByAdamState,
):
    adam = optax.scale_by_adam(*config.betas, eps=config.eps)
    updates, moments = adam.update(grads, state)

    def move(path, param, update):
        if decays(keystr(path, simple=True, separator=".")):
            update = update + config.decay * param
        return param - rate * update

    moved = jax.tree_util.tree_map_with_path(move, params, updates)
    return moved, cast(optax.ScaleByAdamState, moments)


def clip_by_norm(grads: Tree, norm: Float[Array, ""], limit: float) -> Tree:
    """Scales gradients down to a global norm of `limit`; 0 leaves them alone."""
    if not limit:
        return grads
    scale = jnp.minimum(1.0, limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
    return jax.tree.map(lambda g: g * scale, grads)


def average(config: OptimizerConfig, ema: Tree, params: Tree) -> Tree:
    """Moves the average of the parameters towards them by 1 - decay."""
    return jax.tree.map(lambda e, p: e + (1 - config.ema) * (p - e), ema, params)
