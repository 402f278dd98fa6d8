"""What follows the trunk for one dataset; a linear classifier unless a task brings its own.

A head is a module that takes the pooled feature and the maps that it names; its task (`tasks/`)
knows what its output means.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.layers import Linear
from omnivore_jax.model.noise import Keys, dropout

HEAD_STD = 0.01
NAME = re.compile(r"[A-Za-z][\w-]*")

Maps = Mapping[str, Float[Array, "b ..."]]
"""Maps of the trunk by name (`trunk.stage_names`)."""


class HeadSpec(Protocol):
    """How to make a head: a value that can be hashed and compared."""

    @property
    def make(self) -> Callable[..., nnx.Module]:
        """Makes the module from (config, key=...)."""
        ...


Heads = Mapping[str, Any]
"""By name: a `HeadSpec`, or the number of classes of a linear classifier."""


class LinearHead(Linear):
    """One linear map of the pooled feature, behind dropout (paper, section 3.2)."""

    stages: ClassVar[tuple[str, ...]] = ()
    """Maps of the trunk that it reads."""

    def __init__(self, features: int, classes: int, *, key: PRNGKeyArray):
        super().__init__(features, classes, std=HEAD_STD, key=key)

    def score(
        self, pooled: Float[Array, "b c"], maps: Maps, keys: Keys | None, rate: float
    ) -> Float[Array, "b classes"]:
        """Scores the classes; `rate` of the feature is dropped where keys are given."""
        return self(dropout(pooled, keys, rate))


def check_name(name: str) -> None:
    """Raises ValueError for what cannot name a head: in parameters' paths numbers are places."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"head={name!r} is no name; use a letter, then letters, digits, _ and -, for example "
            "image"
        )


def make_heads(heads: Heads, config: ModelConfig, *, key: PRNGKeyArray) -> dict[str, nnx.Module]:
    """Makes a head for every name.

    Raises:
        ValueError: a name cannot be part of a path, or a head has no classes.

    """
    keys = jax.random.split(key, max(1, len(heads)))
    return {n: _make(n, heads[n], config, keys[i]) for i, n in enumerate(heads)}


def _make(name: str, spec: Any, config: ModelConfig, key: PRNGKeyArray) -> nnx.Module:
    check_name(name)
    if not isinstance(spec, int):
        return spec.make(config, key=key)
    if spec < 1:
        raise ValueError(f"head {name!r} has {spec} classes; use 1 or more")
    return LinearHead(config.feature_dim, spec, key=key)


def find_head(heads: Mapping[str, Any], name: str) -> Any:
    """Looks up a head.

    Raises:
        ValueError: there is none of that name.

    """
    if name not in heads:
        names = ", ".join(sorted(heads)) or "none: it has no heads"
        raise ValueError(f"head={name!r} is not in this model; use one of {names}")
    return heads[name]


Output = PyTree[Array]
"""What a head gives: logits [b classes], or what its task makes of it."""
