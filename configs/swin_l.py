"""Omnivore Swin-L, jointly trained on IN21K + IN1K + K400 + SUN RGB-D (Table 4).

python -m omnivore_jax.main --config=configs/swin_l.py
python -m omnivore_jax.main --config=configs/swin_l.py:in1k    # without IN21K
python -m omnivore_jax.main --config=configs/swin_l.py --mode=dry   # what would run, without
                                                                    running it
"""

from ml_collections import ConfigDict

from configs.joint import joint


def get_config(datasets: str = "in21k") -> ConfigDict:
    """`datasets`: in1k (Table 2), in21k (Table 4) or in21k_alone."""
    return joint(
        "swin_l" if datasets == "in21k" else f"swin_l-{datasets}",
        model="omnivore_swin_l",
        drop_path=0.3,  # App. A
        mixture=datasets,
        microbatch={"image": 32, "video": 8},  # compiled for a v5e (docs/scaling.md)
    )
