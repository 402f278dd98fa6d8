"""Omnivore Swin-T, jointly trained on IN1K + K400 + SUN RGB-D (Table 2).

python -m omnivore_jax.main --config=configs/swin_t.py
python -m omnivore_jax.main --config=configs/swin_t.py --mode=dry   # what would run, without
                                                                    running it
"""

from ml_collections import ConfigDict

from configs.joint import joint


def get_config() -> ConfigDict:
    return joint(
        "swin_t",
        model="omnivore_swin_t",
        drop_path=0.1,  # App. A
        mixture="in1k",
        microbatch={"image": 128, "video": 8},  # fits 16 GiB by the estimate, 10 % to spare
    )
