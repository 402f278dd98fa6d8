"""Where the randomness of training comes from.

(seed, step, dataset, position in the global batch) and nothing else.

No key depends on devices, hosts or micro-batches, so neither does what is drawn.
"""

from zlib import crc32

import jax
from jaxtyping import Array, Int, Key, PRNGKeyArray

MODEL, COLOUR, ERASE, RGB_DROP = USES = range(4)
"""What a sample needs a key for."""

GROUPS = 2**31
"""Keeps the keys of groups apart from those of samples: no batch has so many."""


def dataset_key(seed: int, step: Int[Array, ""], dataset: str) -> PRNGKeyArray:
    """Key of a dataset's part of a step."""
    return jax.random.fold_in(
        jax.random.fold_in(jax.random.key(seed), step), crc32(dataset.encode())
    )


def sample_keys(dataset: PRNGKeyArray, slots: Int[Array, "b"]) -> Key[Array, "uses b"]:
    """Keys of each sample, one a use; `slots` are positions in the global batch."""
    return jax.vmap(
        lambda slot: jax.random.split(jax.random.fold_in(dataset, slot), len(USES)), out_axes=1
    )(slots)


def group_keys(dataset: PRNGKeyArray, groups: Int[Array, "g"]) -> Key[Array, "g"]:
    """Keys of mixing groups by their numbers in the global batch."""
    base = jax.random.fold_in(dataset, GROUPS)
    return jax.vmap(lambda group: jax.random.fold_in(base, group))(groups)
