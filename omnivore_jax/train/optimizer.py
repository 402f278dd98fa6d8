"""AdamW or SGD over groups of parameters, each trained or left alone by a step; and the EMA.

A step trains only what its samples pass through: the heads of its datasets, the depth embedding
where there is depth. PyTorch skips parameters without a gradient, with their moments, their decay
and their own step count for Adam's bias correction. So every group has an optimiser state of its
own, and an absent group is left as it is. Source: Appendix A; end values of the schedule and
exclusions from decay as in the released configuration. SGD is for transfer (Appendix B).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr
from jaxtyping import Array, Float

from omnivore_jax.core.tree import flatten
from omnivore_jax.model.params import decays
from omnivore_jax.train.groups import HEADS, split_groups

Tree = Any
"""Nested dicts of arrays."""
Rule = Literal["adamw", "sgd"]
Moments = optax.ScaleByAdamState | optax.TraceState
"""What a rule remembers of the gradients of a group."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The rule of the updates, their schedule and the EMA: the section `optimizer`."""

    rule: Rule = "adamw"
    """sgd: with `momentum`, and with decay that is part of the gradient, as PyTorch's."""
    momentum: float = 0.9
    trunk_rate: float = 1.0
    """The learning rate of all that is no head, in learning rates; 0: a linear probe."""
    layer_decay: float = 1.0
    """The rate of a block in rates of the one after it (BEiT); the final norm has the trunk's."""
    schedule: Literal["cosine", "poly"] = "cosine"
    """After the warm-up; poly: `peak` to `end` by a power of what is left of the whole training."""
    power: float = 1.0
    """Of poly."""
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
    """Weight decay, decoupled with adamw; none for biases, norms and position tables."""
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
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay}; use a number above 0, at most 1")
        for name in ("trunk_rate", "power", "peak", "start", "cooldown", "end", "decay", "clip"):
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
        for name in ("ema", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; use a number from 0 to below 1")
        if self.update_absent and self.rule != "adamw":
            raise ValueError(f"update_absent=True; use rule='adamw' with it, not {self.rule!r}")


def init(params: Tree, rule: Rule = "adamw") -> dict[str, Moments]:
    """Makes the optimiser state: one of optax's states a group."""
    transform = _transform(OptimizerConfig(rule=rule))
    return {
        name: cast(Moments, transform.init(tree)) for name, tree in split_groups(params).items()
    }


def update(
    config: OptimizerConfig,
    rate: Float[Array, ""],
    params: dict[str, Tree],
    grads: dict[str, Tree],
    state: dict[str, Moments],
) -> tuple[dict[str, Tree], dict[str, Moments]]:
    """Updates every group that `grads` holds; `params` and `state` hold all groups."""
    blocks = _blocks(params)
    params, state = dict(params), dict(state)
    for name in params:
        scaled = rate if name.startswith(HEADS) else rate * config.trunk_rate
        old = (params[name], state[name])
        if name in grads:
            params[name], state[name] = _move(config, scaled, grads[name], *old, blocks=blocks)
        elif config.update_absent:
            zero = jax.tree.map(jnp.zeros_like, params[name])
            new = _move(config, scaled, zero, *old, blocks=blocks)
            trained = jnp.asarray(cast(optax.ScaleByAdamState, state[name]).count) > 0
            params[name], state[name] = jax.tree.map(
                lambda n, o, t=trained: jnp.where(t, n, o), new, old
            )
    return params, state


def _transform(config: OptimizerConfig) -> optax.GradientTransformation:
    if config.rule == "sgd":
        return optax.trace(config.momentum)
    return optax.scale_by_adam(*config.betas, eps=config.eps)


def _move(
    config: OptimizerConfig,
    rate: Float[Array, ""],
    grads: Tree,
    params: Tree,
    state: Moments,
    *,
    blocks: Mapping[str, int],
) -> tuple[Tree, Moments]:
    """Updates one group; `blocks` as `_blocks` counts them."""

    def decay(path, update, param):
        name = keystr(path, simple=True, separator=".")
        return update + config.decay * param if decays(name) else update

    def with_decay(updates: Tree) -> Tree:
        return jax.tree_util.tree_map_with_path(decay, updates, params)

    if config.rule == "sgd":
        updates, moments = _transform(config).update(with_decay(grads), state)
    else:
        updates, moments = _transform(config).update(grads, state)
        updates = with_decay(updates)

    def move(path, param, update):
        layers = _above(keystr(path, simple=True, separator="."), blocks)
        return param - rate * config.layer_decay**layers * update

    moved = jax.tree_util.tree_map_with_path(move, params, updates)
    return moved, cast(Moments, moments)


def _blocks(params: Mapping[str, Tree]) -> dict[str, int]:
    """Numbers the blocks of the trunk from 1 on, by the beginning of their paths."""
    names = [
        path.partition("blocks.")
        for tree in params.values()
        for path in flatten(tree)
        if ".blocks." in path
    ]
    places = {(stage, int(rest.split(".")[0])) for stage, _, rest in names}
    order = sorted(places, key=lambda place: (int(place[0].split(".")[-2]), place[1]))
    return {f"{stage}blocks.{block}.": k for k, (stage, block) in enumerate(order, 1)}


def _above(path: str, blocks: Mapping[str, int]) -> int:
    """Counts the layers from a parameter of the trunk to the final norm; 0 for the heads."""
    if path.startswith(HEADS) or path.startswith("trunk.norm"):
        return 0
    inside = next((k for begin, k in blocks.items() if path.startswith(begin)), 0)
    if not inside and ".downsample." in path:  # goes with the last block of its stage
        stage = path.partition("downsample.")[0]
        inside = max((k for begin, k in blocks.items() if begin.startswith(stage)), default=0)
    return len(blocks) + 1 - inside


def clip_by_norm(grads: Tree, norm: Float[Array, ""], limit: float) -> Tree:
    """Scales gradients down to a global norm of `limit`; 0 leaves them alone."""
    if not limit:
        return grads
    scale = jnp.minimum(1.0, limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
    return jax.tree.map(lambda g: g * scale, grads)


def average(config: OptimizerConfig, ema: Tree, params: Tree) -> Tree:
    """Moves the average of the parameters towards them by 1 - decay."""
    return jax.tree.map(lambda e, p: e + (1 - config.ema) * (p - e), ema, params)
