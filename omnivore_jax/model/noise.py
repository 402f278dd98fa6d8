"""Stochastic depth and dropout.

Every sample draws from its own key, so its result does not depend on its batch.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

Keys = Key[Array, "b"]
"""One key a sample."""


def child_keys(keys: Keys | None, use: int) -> Keys | None:
    """Keys for one of several uses; None, which stands for evaluation, stays None."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, use))(keys)


def drop_path_rates(rate: float, blocks: int) -> list[float]:
    """Rates of all blocks, in order: linear from 0 (paper, App. A)."""
    return np.linspace(0, rate, blocks).tolist()


def drop_path_factors(keys: Keys, rates: Sequence[float]) -> Float[Array, "blocks 2 b"]:
    """Factors of both branches of every block: 0 where it is dropped, else 1 / (1 - rate).

    All in one draw.
    """
    keep = 1 - jnp.asarray(rates, jnp.float32)[:, None]
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (len(rates), 2)))(keys)
    return jnp.moveaxis(jnp.where(uniform < keep, 1 / keep, 0.0), 0, -1)


def scale_samples(
    x: Float[Array, "b ..."], factor: Float[Array, "b"] | None
) -> Float[Array, "b ..."]:
    """Multiplies every sample by its factor."""
    return x if factor is None else x * factor.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))


def dropout_factors(
    keys: Keys | None, shape: tuple[int, ...], rate: float
) -> Float[Array, "b ..."] | None:
    """Draws 0 or 1 / (1 - rate) for every element of every sample.

    `shape` is that of one sample.
    """
    if keys is None or not rate:
        return None
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(keys)
    return jnp.where(kept, 1 / (1 - rate), 0.0)


def dropout(x: Float[Array, "b ..."], keys: Keys | None, rate: float) -> Float[Array, "b ..."]:
    """Zeroes elements at a rate and scales the others; does nothing in evaluation."""
    factors = dropout_factors(keys, x.shape[1:], rate)
    return x if factors is None else x * factors.astype(x.dtype)
