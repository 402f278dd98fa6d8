"""Omnivore Swin-S, jointly trained on IN1K + K400 + SUN RGB-D (Table 2).

python -m omnivore_jax.main --config=configs/swin_s.py
python -m omnivore_jax.main --config=configs/swin_s.py --mode=dry   # what would run, without
                                                                    running it
"""

from ml_collections import ConfigDict

from configs.joint import joint


def get_config() -> ConfigDict:
    return joint(
        "swin_s",
        model="omnivore_swin_s",
        drop_path=0.2,  # App. A
        mixture="in1k",
        microbatch={"image": 64, "video": 8},  # fits 16 GiB by the estimate, 10 % to spare
    )
