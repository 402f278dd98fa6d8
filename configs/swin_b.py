"""Omnivore Swin-B, jointly trained on IN1K + K400 + SUN RGB-D (Table 2).

python -m omnivore_jax.main --config=configs/swin_b.py
python -m omnivore_jax.main --config=configs/swin_b.py:in21k    # with IN21K too (Table 4)
python -m omnivore_jax.main --config=configs/swin_b.py:in21k_alone    # IN21K and nothing else
python -m omnivore_jax.main --config=configs/swin_b.py --mode=dry   # what would run, without
                                                                    running it
"""

from ml_collections import ConfigDict

from configs.joint import joint


def get_config(datasets: str = "in1k") -> ConfigDict:
    """`datasets`: in1k (Table 2), in21k (Table 4), or in21k_alone (where "finetuned" starts)."""
    return joint(
        "swin_b" if datasets == "in1k" else f"swin_b-{datasets}",
        model="omnivore_swin_b",
        drop_path=0.3,  # App. A
        mixture=datasets,
        microbatch={"image": 64, "video": 8},  # compiled for a v5e (docs/scaling.md)
    )
