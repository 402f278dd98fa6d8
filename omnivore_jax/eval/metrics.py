"""Figures over several results.

The mean that picks the best model, and what one model for all modalities saves.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import jax

from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads
from omnivore_jax.model.params import abstract_model
from omnivore_jax.tasks.base import Result


def mean_score(results: Mapping[str, Result]) -> float:
    """Averages the scores of datasets, each counting the same, whatever its size."""
    return math.fsum(result.score for result in results.values()) / len(results)


@dataclass(frozen=True)
class ParameterAccount:
    """Parameters of one model with many heads, and of a model for each head."""

    trunk: int
    heads: dict[str, int]
    separate: dict[str, int]
    """Of a model with one head; without the depth embedding where its dataset has no depth."""

    @property
    def joint(self) -> int:
        return self.trunk + sum(self.heads.values())

    @property
    def saved(self) -> float:
        """How many times smaller the one model is than the others together."""
        return sum(self.separate.values()) / self.joint


def parameter_account(
    model: ModelConfig, heads: Heads, with_depth: Collection[str]
) -> ParameterAccount:
    """Counts parameters; `with_depth` are the heads of datasets that have depth."""
    _, params = abstract_model(model, heads)
    _, without = abstract_model(replace(model, depth_embed="none"), {})
    trunk, colour_trunk = _count(params["trunk"]), _count(without["trunk"])
    counts = {head: _count(params["heads"][head]) for head in heads}
    separate = {
        head: n + (trunk if head in with_depth else colour_trunk) for head, n in counts.items()
    }
    return ParameterAccount(trunk, counts, separate)


def _count(params) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
