"""Table 8, the first row: 85.2 / 83.2 / 65.5 (IN1K, K400, SUN), with which the others compare.

python -m omnivore_jax.main --config=configs/ablation/baseline.py
"""

from ml_collections import ConfigDict

from configs.ablation.base import baseline


def get_config() -> ConfigDict:
    return baseline("baseline")
