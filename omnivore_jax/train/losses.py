"""Losses as sums and counts over real samples; whoever has them all divides, once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def cross_entropy_sum(
    logits: Float[Array, "b classes"], targets: Float[Array, "b classes"], mask: Bool[Array, "b"]
) -> Float[Array, ""]:
    """Sum of the soft-target cross entropy over samples that are not padding, in float32."""
    loss = -jnp.sum(targets * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)
    return jnp.sum(jnp.where(mask, loss, 0.0))


def correct_count(
    logits: Float[Array, "b classes"], label: Int[Array, "b"], mask: Bool[Array, "b"]
) -> Int[Array, ""]:
    """How many real samples have their plain label on top."""
    return jnp.sum((jnp.argmax(logits, axis=-1) == label) & mask)
