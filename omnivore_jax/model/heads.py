"""What follows the trunk for one dataset; a linear classifier unless a task brings its own.

A head is a module that takes the pooled feature and the maps that it names; its task (`tasks/`)
knows what its output means.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from omnivore_jax.core import config as builder
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.layers import Linear
from omnivore_jax.model.noise import Keys, dropout
from omnivore_jax.model.upernet import UPerNetSpec

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

    def products(self, maps: Sequence[tuple[int, int]]) -> int:
        """Counts multiplications for one sample, by (channels, pixels) of the trunk's maps."""
        ...

    def activation_bytes(self, maps: Sequence[tuple[int, int]], pixels: int) -> int:
        """Estimates what one sample of so many pixels takes in a training step."""
        ...


Heads = Mapping[str, Any]
"""By name: a `HeadSpec`, or the number of classes of a linear classifier."""


HEAD_KINDS: dict[str, type] = {"UPerNetSpec": UPerNetSpec}
"""By name, the frozen dataclasses that specify heads and are no number of classes.

What a card says of such a head is read with this table, so a task with its own head enters its
`HeadSpec` here.
"""


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


def linear_heads(heads: Heads) -> dict[str, int]:
    """Lists the linear classifiers with their numbers of classes."""
    return {name: spec for name, spec in heads.items() if isinstance(spec, int)}


def class_count(spec: Any) -> int:
    """Counts the classes of a head; 0 where it does not say."""
    return spec if isinstance(spec, int) else getattr(spec, "classes", 0)


def describe_spec(spec: Any) -> str:
    """Says what a head is: the end of a sentence about it."""
    return f"has {spec} classes" if isinstance(spec, int) else f"is a {type(spec).__name__}"


def spec_to_json(spec: Any) -> int | dict[str, Any]:
    """Writes a head as a card does: the number of classes, or {"kind": ..., fields}."""
    return spec if isinstance(spec, int) else {"kind": type(spec).__name__, **asdict(spec)}


def spec_from_json(name: str, said: Any) -> Any:
    """Reads a head of a card: undoes `spec_to_json`.

    Raises:
        ValueError: the name, the number, the kind or one of its fields is none.

    """
    check_name(name)
    if isinstance(said, Mapping) and "kind" in said:
        kind = said["kind"]
        if kind not in HEAD_KINDS:
            known = ", ".join(["linear classifiers", *sorted(HEAD_KINDS)])
            raise ValueError(f"head {name!r} is of kind {kind!r}; this version knows {known}")
        fields = {key: value for key, value in said.items() if key != "kind"}
        return builder.build(HEAD_KINDS[kind], fields, f"heads.{name}")
    if not isinstance(said, int) or said < 1:
        raise ValueError(f"head {name!r} has {said!r} classes")
    return said


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
