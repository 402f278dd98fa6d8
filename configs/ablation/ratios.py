"""Table 8, data ratio: passes of IN21K : IN1K : K400 : SUN in an epoch.

python -m omnivore_jax.main --config=configs/ablation/ratios.py:0.1-1-1-10
"""

from ml_collections import ConfigDict

from configs.ablation.base import baseline, set_ratios

ROWS = (
    *("0.1-1-1-1", "0.1-1-1-10", "0.1-1-1-20", "0.1-1-1-100"),
    *("0.3-1-1-50", "0.6-1-1-50", "1.0-1-1-50"),
)
"""Those of the table; the paper chose 0.1-1-1-10."""


def get_config(ratios: str = "0.1-1-1-10") -> ConfigDict:
    if ratios not in ROWS:
        raise ValueError(f"configs/ablation/ratios.py:{ratios} is no row; use {', '.join(ROWS)}")
    config = baseline(f"ratios-{ratios}")
    set_ratios(config, ratios)
    return config
