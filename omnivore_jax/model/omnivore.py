"""The model: one trunk for all modalities, one head a dataset."""

from collections.abc import Sequence

import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads, Output, find_head, make_heads
from omnivore_jax.model.noise import Keys, child_keys
from omnivore_jax.model.trunk import Trunk


class Omnivore(nnx.Module):
    """Classifies images (t = 1), videos and RGB-D (four channels) with the same parameters.

    Inputs are normalised, [b, t, h, w, 3 or 4], of any size. `keys` are one PRNG key a sample: all
    that is random for a sample depends on its own. Without them nothing is.
    """

    def __init__(self, config: ModelConfig, heads: Heads, *, key: PRNGKeyArray):
        trunk, head = jax.random.split(key)
        self.config = config
        self.trunk = Trunk(config, key=trunk)
        self.heads = nnx.Dict(make_heads(heads, config, key=head))

    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        head: str = "image",
        *,
        keys: Keys | None = None,
        compute: Compute = Compute(),
    ) -> Output:
        """Gives the output of one head: float32 logits [b, classes] of a linear classifier.

        Raises:
            ValueError: there is no such head, or the input has a wrong number of channels.

        """
        module = find_head(self.heads, head)
        pooled, maps = self.trunk(
            x, keys=child_keys(keys, 0), compute=compute, stages=module.stages
        )
        return module.score(pooled, maps, child_keys(keys, 1), compute.head_dropout)

    def features(
        self,
        x: Float[Array, "b t h w c"],
        stages: Sequence[str] | None = None,
        *,
        keys: Keys | None = None,
        compute: Compute = Compute(),
    ) -> Float[Array, "b c8"] | dict[str, Float[Array, "b t2 h2 w2 _"]]:
        """Gives the pooled feature, after the final norm, or the maps that `stages` names.

        Raises:
            ValueError: there is no such stage (`trunk.stage_names` lists them), or the input has
                a wrong number of channels.

        """
        pooled, maps = self.trunk(x, keys=child_keys(keys, 0), compute=compute, stages=stages or ())
        return pooled if stages is None else maps
