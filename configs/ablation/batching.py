"""Table 8, batching: every step has samples of all datasets (-0.2 / -0.1 / -0.4).

python -m omnivore_jax.main --config=configs/ablation/batching.py
"""

from ml_collections import ConfigDict

from configs.ablation.base import baseline


def get_config() -> ConfigDict:
    config = baseline("mixed")
    config.update({"train": {"batching": "mixed"}})
    return config
