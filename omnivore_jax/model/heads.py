"""One linear classifier a dataset on the pooled feature (paper, section 3.2)."""

import re
from collections.abc import Mapping

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from omnivore_jax.model.layers import Linear
from omnivore_jax.model.noise import Keys, dropout

HEAD_STD = 0.01
NAME = re.compile(r"[A-Za-z][\w-]*")


def check_name(name: str) -> None:
    """Raises ValueError for what cannot name a head.

    It is a part of parameters' paths, where numbers are places.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"head={name!r} is no name; use a letter, then letters, digits, _ and -, for example "
            "image"
        )


def make_heads(
    classes: Mapping[str, int], features: int, *, key: PRNGKeyArray
) -> dict[str, Linear]:
    """Makes a head for every name.

    Raises:
        ValueError: a name cannot be part of a path, or a head has no classes.

    """
    for name, number in classes.items():
        check_name(name)
        if number < 1:
            raise ValueError(f"head {name!r} has {number} classes; use 1 or more")
    keys = jax.random.split(key, max(1, len(classes)))
    return {
        n: Linear(features, k, std=HEAD_STD, key=keys[i])
        for i, (n, k) in enumerate(classes.items())
    }


def classify(
    feature: Float[Array, "b c"],
    heads: Mapping[str, Linear],
    name: str,
    keys: Keys | None,
    rate: float,
) -> Float[Array, "b classes"]:
    """Scores pooled features with one head, behind dropout where keys are given."""
    if name not in heads:
        raise ValueError(
            f"head={name!r} is not in this model; use one of "
            f"{', '.join(sorted(heads)) or 'none: it has no heads'}"
        )
    return heads[name](dropout(feature, keys, rate))
