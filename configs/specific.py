"""Models of one modality, the baselines of Tables 2, 3 and 4.

python -m omnivore_jax.main --config=configs/specific.py:image_swin_b    # from scratch on ImageNet
python -m omnivore_jax.main --config=configs/specific.py:video_swin_b    # its weights, inflated
python -m omnivore_jax.main --config=configs/specific.py:depth_swin_b    # the same for SUN RGB-D

Sources: P = the paper; A = its authors, omnivore#33; SW = Swin Transformer; VS = Video Swin; K =
general knowledge. Where the paper cites published numbers for ImageSwin and VideoSwin, these are
the recipes of those papers on our model (window 16, 7, 7 for B, as Omnivore has it).
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs.transfer import HALF_COSINE, KINETICS, SGD, UNMIXED, without_in21k

DATASETS = {"image_swin": "imagenet", "video_swin": "kinetics400", "depth_swin": "sunrgbd"}

IMAGE = HALF_COSINE | {  # SW: 300 epochs, batch 1024
    "peak": 1e-3,
    "start": 1e-6,
    "cooldown": 1e-5,
    "end": 1e-5,
    "warmup": 20 / 300,
    "decay": 0.05,
    "clip": 5.0,
}
BY_SIZE: Mapping[str, dict[str, Any]] = {  # VS: T and S from IN1K, B as with IN22K
    "t": {"peak": 1e-3, "decay": 0.02},
    "s": {"peak": 1e-3, "decay": 0.02},
    "b": {"peak": 3e-4, "decay": 0.05},
    "l": {"peak": 3e-4, "decay": 0.05},
}
DEPTH = SGD | {"peak": 5e-3}  # A: as App. B, which is SGD for NYU's scenes


def get_config(name: str = "image_swin_b") -> ConfigDict:
    """`name`: image_swin, video_swin or depth_swin, and the size: image_swin_t ... depth_swin_l."""
    model, _, size = name.rpartition("_")
    if model not in DATASETS or size not in BY_SIZE:
        names = ", ".join(f"{model}_{size}" for model in DATASETS for size in BY_SIZE)
        raise ValueError(f"the baseline {name!r} is not known; use one of {names}")
    config = without_in21k(f"swin_{size}")
    for key, part in config.to_dict()["data"].items():
        if isinstance(part, dict) and key != DATASETS[model]:
            del config.data[key]
    row = config.data[DATASETS[model]]
    row.ratio = 1.0
    config.name, config.init_from = name, "" if model == "image_swin" else f"runs/image_swin_{size}"
    if model == "image_swin":
        row.batch_size = 1024
        config.update({"train": {"epochs": 300.0}, "optimizer": IMAGE})
    elif model == "video_swin":
        row.update({"batch_size": 64, **UNMIXED})
        config.update({"train": {"epochs": 30.0}, "optimizer": KINETICS | BY_SIZE[size]})
    else:
        row.batch_size = 512  # P B.1
        config.update({"train": {"epochs": 200.0}, "optimizer": DEPTH})
    config.eval.retrieval = 0
    return config
