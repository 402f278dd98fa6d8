"""Table 8, patch embedding: a convolution of RGB-D alone, four channels (-0.1 / +0.1 / -2.2).

python -m omnivore_jax.main --config=configs/ablation/patch_embedding.py
"""

from ml_collections import ConfigDict

from configs.ablation.base import baseline


def get_config() -> ConfigDict:
    config = baseline("rgbd_conv")
    # C: the default of the released option `rgbd`
    config.update({"model": {"depth_embed": "separate"}})
    return config
