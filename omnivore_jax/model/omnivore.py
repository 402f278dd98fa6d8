"""The model: one trunk for all modalities, one head a dataset."""

from collections.abc import Mapping, Sequence

import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from omnivore_jax.model.block import Remat
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import classify, make_heads
from omnivore_jax.model.noise import Keys, child_keys
from omnivore_jax.model.trunk import Trunk
from omnivore_jax.model.variants import model_config


class Omnivore(nnx.Module):
    """Classifies images (t = 1), videos and single-view 3D (four channels) with the same parameters.

    Inputs are normalised, [b, t, h, w, 3 or 4], of any size. `keys` are one PRNG key a sample: all that is random for a
    sample depends on its own. Without them nothing is.
    """

    def __init__(self, config: ModelConfig, heads: Mapping[str, int], *, key: PRNGKeyArray):
        trunk, head = jax.random.split(key)
        self.config = config
        self.trunk = Trunk(config, key=trunk)
        self.heads = nnx.Dict(make_heads(heads, config.feature_dim, key=head))

    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        head: str = "image",
        *,
        keys: Keys | None = None,
        head_dropout: float = 0.0,
        remat: Remat = "none",
    ) -> Float[Array, "b classes"]:
        """Scores the classes of one head, in float32.

        Raises:
            ValueError: there is no such head, or the input has a wrong number of channels.

        """
        feature, _ = self.trunk(x, keys=child_keys(keys, 0), remat=remat)
        return classify(feature, self.heads, head, child_keys(keys, 1), head_dropout)

    def features(
        self,
        x: Float[Array, "b t h w c"],
        stages: Sequence[str] | None = None,
        *,
        keys: Keys | None = None,
        remat: Remat = "none",
    ) -> Float[Array, "b c8"] | dict[str, Float[Array, "b t2 h2 w2 _"]]:
        """Gives the pooled feature, after the final norm, or the maps that `stages` names (`trunk.stage_names`).

        Raises:
            ValueError: there is no such stage, or the input has a wrong number of channels.

        """
        pooled, maps = self.trunk(x, keys=child_keys(keys, 0), remat=remat, stages=stages or ())
        return pooled if stages is None else maps


def create_model(
    name: str, heads: Mapping[str, int], *, seed: int = 0, **changes: object
) -> Omnivore:
    """Builds a model with fresh parameters.

    `changes` are fields of `ModelConfig` (position_bias="joint", ...).

    Raises:
        ValueError: there is no such model or field.

    """
    return Omnivore(model_config(name, **changes), heads, key=jax.random.key(seed))
