"""From bytes to what the model takes, on the device: the host sends uint8 and plain disparity."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from omnivore_jax.core.types import DISPARITY_MAX, DISPARITY_MIN, Batch


@dataclass(frozen=True)
class Preprocessing:
    """Statistics of the training data, in units of 0 to 1; those of released weights by default."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    disparity_max: float = DISPARITY_MAX
    """Disparity is clamped here and divided by it before it is standardised."""
    disparity_mean: float = 0.0418
    disparity_std: float = 0.0295

    def __post_init__(self):
        if min(*self.std, self.disparity_std) <= 0:
            raise ValueError(
                f"std={self.std}, disparity_std={self.disparity_std}; all must be above 0"
            )
        if self.disparity_max <= DISPARITY_MIN:
            raise ValueError(
                f"disparity_max={self.disparity_max}; use a number above {DISPARITY_MIN}"
            )


def preprocess(batch: Batch, spec: Preprocessing) -> Float[Array, "b t h w c"]:
    """Scales and standardises a batch: three channels, or four where it has disparity."""
    return standardise(to_unit(batch, spec), spec)


def to_unit(batch: Batch, spec: Preprocessing) -> Float[Array, "b t h w c"]:
    """Scales a batch to 0..1.

    Disparity is clamped to [.01, max] and divided by max (the released DepthNorm).
    """
    rgb = jnp.asarray(batch.rgb).astype(jnp.float32) / 255
    if batch.disparity is None:
        return rgb
    disparity = (
        jnp.clip(jnp.asarray(batch.disparity), DISPARITY_MIN, spec.disparity_max)
        / spec.disparity_max
    )
    return jnp.concatenate([rgb, disparity], axis=-1)


def standardise(x: Float[Array, "b t h w c"], spec: Preprocessing) -> Float[Array, "b t h w c"]:
    """Subtracts the mean and divides by the deviation of every channel."""
    mean = jnp.array([*spec.mean, spec.disparity_mean])[: x.shape[-1]]
    std = jnp.array([*spec.std, spec.disparity_std])[: x.shape[-1]]
    return (x - mean) / std


def depth_only(x: Float[Array, "b t h w 4"]) -> Float[Array, "b t h w 4"]:
    """Drops the colours of standardised RGB-D: they become 0, which is their mean (paper, App.

    A and B.4).
    """
    return x.at[..., :3].set(0.0)
