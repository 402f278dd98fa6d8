"""AdamW with the paper's schedule over groups of parameters, each trained or left alone by a step.

And the EMA.

A step trains only what its samples pass through: the heads of its datasets, the depth embedding
where there is depth. PyTorch skips parameters without a gradient, with their moments, their decay
and their own step count for Adam's bias correction. So every group has an optimiser state of its
own, and an absent group is left as it is. Source: Appendix A; end values of the schedule and
exclusions from decay as in the released configuration.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from omnivore_jax.core.tree import flatten, unflatten

Tree = Any
"""Nested dicts of arrays."""

TRUNK, RGB_EMBED, DEPTH_EMBED = "trunk", "patch_embed", "depth_patch_embed"
DepthEmbed = Literal["summed", "separate", "shared", "none"]


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
    """Feed zero gradients to what a step does not train, once it has been trained, instead of leaving it alone.

    Decay and momentum then act on it, as in PyTorch before 2.0, which zeroed gradients that later versions drop.
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


def learning_rate(
    config: OptimizerConfig, step: Int[Array, ""] | int, total_steps: int
) -> Float[Array, ""]:
    """Learning rate of the update that follows `step` updates.

    Computed on the device, so no host value is traced.
    """
    done = jnp.asarray(step, jnp.float32) / total_steps
    warmup, cooldown = config.warmup, config.cooldown_start
    if config.warmup_steps:
        warmup = min(config.warmup_steps / total_steps, cooldown)
    tiny = 1 / (2 * total_steps)  # a phase of no length is never divided by
    u = jnp.clip((done - warmup) / max(cooldown - warmup, tiny), 0, 1)
    cosine = config.cooldown + 0.5 * (config.peak - config.cooldown) * (1 + jnp.cos(jnp.pi * u))
    rest = _linear(
        config.cooldown, config.end, jnp.clip((done - cooldown) / max(1 - cooldown, tiny), 0, 1)
    )
    return jnp.where(
        done < warmup,
        _linear(config.start, config.peak, done / max(warmup, tiny)),
        jnp.where(done < cooldown, cosine, rest),
    )


def _linear(start: float, end: float, u: Float[Array, ""]) -> Float[Array, ""]:
    return start * (1 - u) + end * u


def group_of(path: str) -> str:
    """Group of a parameter, by its dotted path.

    A head, one of the two patch embeddings, or the rest of the trunk.
    """
    keys = path.split(".")
    if keys[0] == "heads":
        return f"heads.{keys[1]}"
    if keys[1] == DEPTH_EMBED or keys[1:3] == [RGB_EMBED, "var_proj"]:
        return DEPTH_EMBED
    return RGB_EMBED if keys[1] == RGB_EMBED else TRUNK


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
    """Lists the groups that a step trains, given the head of each of its datasets and whether that one has depth."""
    depths = list(depths)
    active = {TRUNK, *(f"heads.{head}" for head in heads)}
    if any(depths) and depth_embed != "none":
        active.add(DEPTH_EMBED)
    if depth_embed != "separate" or not all(
        depths
    ):  # "separate" embeds all four channels by themselves
        active.add(RGB_EMBED)
    return frozenset(active)


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
            new = _adamw(
                config, rate, params[name], jax.tree.map(jnp.zeros_like, params[name]), state[name]
            )
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
        return param - rate * (update + config.decay * param if decays(path) else update)

    return jax.tree_util.tree_map_with_path(move, params, updates), cast(
        optax.ScaleByAdamState, moments
    )


def decays(path: tuple[Any, ...]) -> bool:
    """Kernels decay; biases, norm scales and position tables do not."""
    return path[-1].key == "kernel"


def clip_by_norm(grads: Tree, norm: Float[Array, ""], limit: float) -> Tree:
    """Scales gradients down to a global norm of `limit`; 0 leaves them alone."""
    if not limit:
        return grads
    scale = jnp.minimum(1.0, limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
    return jax.tree.map(lambda g: g * scale, grads)


def average(config: OptimizerConfig, ema: Tree, params: Tree) -> Tree:
    """Moves the average of the parameters towards them by 1 - decay."""
    return jax.tree.map(lambda e, p: e + (1 - config.ema) * (p - e), ema, params)
