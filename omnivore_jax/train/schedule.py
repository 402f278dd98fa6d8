"""Learning rates: the paper's warm-up, half a cosine and cool-down (Appendix A), and poly."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from omnivore_jax.train.optimizer import OptimizerConfig


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
    if config.schedule == "poly":
        left = jnp.clip(1 - done, 0, 1) ** config.power
        rate = config.end + (config.peak - config.end) * left
        return _linear(config.start, rate, jnp.clip(done / max(warmup, tiny), 0, 1))
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


def _linear(start: float, end: Float[Array, ""] | float, u: Float[Array, ""]) -> Float[Array, ""]:
    return start * (1 - u) + end * u
