"""Table 8, finetuned: IN21K alone, then 100 epochs of IN1K, K400, SUN (-0.7 / -0.9 / +0.9).

python -m omnivore_jax.main --config=configs/swin_b.py:in21k_alone    # first, or give weights
python -m omnivore_jax.main --config=configs/ablation/finetuned.py
python -m omnivore_jax.main --config=configs/ablation/finetuned.py --config.init_from=WEIGHTS
"""

from ml_collections import ConfigDict

from configs.ablation.base import baseline


def get_config() -> ConfigDict:
    config = baseline("finetuned", mixture="in1k")
    config.init_from = "runs/swin_b-in21k_alone"
    config.update({"train": {"epochs": 100.0}})  # P 4.3
    return config
