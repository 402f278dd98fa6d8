"""A model for use from Python: parameters, and one compiled program for every shape of input."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from omnivore_jax.core.memory import in_order
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads, Output
from omnivore_jax.model.omnivore import Omnivore
from omnivore_jax.model.params import Params, abstract_model, init_params, merge
from omnivore_jax.model.variants import model_config

Samples = Float[Array, "b t h w c"] | Float[np.ndarray, "b t h w c"]


@dataclass(frozen=True)
class CompiledModel:
    """What `create_model` and `load` give; call it like an `Omnivore`.

    The first call with inputs of a shape compiles. Inputs are normalised, float32 [b, t, h, w, 3 or
    4].
    """

    config: ModelConfig
    heads: Heads
    params: Params
    """Nested dicts down to arrays, on the default device."""
    compute: Compute = Compute()
    card: Mapping[str, Any] | None = None
    """What the weights say about themselves; None where they were drawn."""

    def __call__(self, x: Samples, head: str = "image") -> Output:
        """Gives the output of one head: float32 logits [b, classes] of a linear classifier.

        Raises:
            ValueError: there is no such head, or the input has a wrong number of channels.

        """
        score = _compiled(_score, jax.default_backend())
        return score(self._graphdef, self.params, x, head, self.compute)

    def features(
        self, x: Samples, stages: Sequence[str] | None = None
    ) -> Float[Array, "b c8"] | dict[str, Float[Array, "b t2 h2 w2 _"]]:
        """Gives the pooled feature, after the final norm, or the maps that `stages` names.

        Raises:
            ValueError: there is no such stage (`trunk.stage_names` lists them), or the input has
                a wrong number of channels.

        """
        names = None if stages is None else tuple(stages)
        see = _compiled(_features, jax.default_backend())
        return see(self._graphdef, self.params, x, names, self.compute)

    def module(self) -> Omnivore:
        """Gives the Flax module with these parameters, for what a compiled call does not offer."""
        return merge(self._graphdef, self.params)

    @property
    def _graphdef(self) -> nnx.GraphDef:
        return abstract_model(self.config, self.heads)[0]


@cache
def _compiled(function: Callable, platform: str) -> jax.stages.Wrapped:
    """The program of a function of (graphdef, parameters, inputs, what of them, how to run)."""
    return jax.jit(function, static_argnums=(0, 3, 4), compiler_options=dict(in_order(platform)))


def _score(graphdef: nnx.GraphDef, params: Params, x: Array, head: str, compute: Compute) -> Output:
    return merge(graphdef, params)(x, head, compute=compute)


def _features(
    graphdef: nnx.GraphDef, params: Params, x: Array, stages: Any, compute: Compute
) -> Any:
    return merge(graphdef, params).features(x, stages, compute=compute)


def create_model(
    name: str, heads: Heads, *, seed: int = 0, compute: Compute = Compute(), **changes: object
) -> CompiledModel:
    """Builds a model with fresh parameters; `changes` are fields of `ModelConfig`.

    Raises:
        ValueError: there is no such model or field.

    """
    config = model_config(name, **changes)
    params = jax.jit(lambda key: init_params(config, heads, key))(jax.random.key(seed))
    return CompiledModel(config, heads, params, compute)
