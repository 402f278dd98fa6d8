"""Parameters for tests to which initial distributions do not matter.

NumPy draws them, so that nothing compiles.
"""

from typing import Any

import numpy as np

from omnivore_jax.core.tree import flatten, unflatten
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads
from omnivore_jax.model.params import Params, abstract_model


def random_params(config: ModelConfig, heads: Heads, seed: int = 7) -> Params:
    """Fills a model so that every parameter counts.

    None is 0 or 1, as initialisation leaves norms and biases.
    """
    rng = np.random.default_rng(seed)

    def fill(path: str, leaf: Any) -> np.ndarray:
        noise = rng.standard_normal(leaf.shape, np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if path.endswith("kernel") else 4
        return np.float32(path.endswith("scale")) + noise / np.float32(np.sqrt(fan_in))

    flat = flatten(abstract_model(config, heads)[1])
    return unflatten({path: fill(path, leaf) for path, leaf in flat.items()})
