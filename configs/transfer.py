"""Transfer of a jointly trained Swin-B to another dataset (Tables 3, 5, 6, 7; Appendix B and C).

python -m omnivore_jax.main --config=configs/transfer.py:pets      # or another name in ROWS
python -m omnivore_jax.main --config=configs/transfer.py:pets --config.init_from=WEIGHTS
python -m omnivore_jax.main --config=configs/transfer.py:pets+swin_l+384+in21k    # OPTIONS

Sizes and what the host does are in `omnivore_jax.data.datasets.PUBLIC`. Sources: P = the paper;
VS = Video Swin, which the paper follows; R = the released models; K = general knowledge.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import swin_b, swin_l, swin_s, swin_t
from configs.joint import mixing
from omnivore_jax.data.datasets import PUBLIC
from omnivore_jax.model.variants import model_config


class Row(NamedTuple):
    """What differs between the transfers."""

    dataset: str
    epochs: float
    optimizer: Mapping[str, Any]
    """Beside what all have."""
    device: Mapping[str, Any]
    """What the device does with the samples."""
    drop_path: float
    start: str = "runs/swin_b"
    """The run whose weights it starts from."""


PLAIN: dict[str, Any] = {"ema": 0.0, "trunk_rate": 1.0, "layer_decay": 1.0}
HALF_COSINE = PLAIN | {"cooldown_start": 1.0}
SGD = HALF_COSINE | {  # P B.1
    "rule": "sgd",
    "momentum": 0.9,  # K
    "peak": 0.1,  # P B.1: the best of .005, .01, .02, .04, .08, .1, .2, .3, .4, .5, .6
    "start": 0.0,
    "cooldown": 0.0,
    "end": 0.0,
    "warmup": 0.0,
    "decay": 0.0,
}
ADAMW = HALF_COSINE | {  # P B.2
    "start": 1e-6,
    "cooldown": 1e-6,
    "end": 1e-6,
    "warmup": 0.05,
    "trunk_rate": 0.1,
    "decay": 0.05,
}
KINETICS = ADAMW | {"peak": 3e-4, "warmup": 2.5 / 30}  # VS: Swin-B
PICTURE = {"jitter": (0.4, 0.4, 0.4, 0.4), "erase": 0.25, **mixing()}  # P B.1: as DeiT
UNMIXED = {"mixup": 0.0, "cutmix": 0.0}
POLY = PLAIN | {  # P B.3
    "schedule": "poly",
    "peak": 6e-5,
    "start": 0.0,
    "end": 0.0,
    "warmup_steps": 1500,
    "decay": 0.01,
}
CLIP = {"erase": 0.25, "head_dropout": 0.5, "smoothing": 0.1, **UNMIXED}  # P B.2, VS, R
LABEL_MAP = {  # P B.3: UPerNet; its sizes as mmsegmentation has them
    "task": "segmentation",
    "channels": 512,
    "auxiliary_channels": 256,
    "microbatch": 2,  # a sample takes about a gigabyte in the head alone
    "head_dropout": 0.1,
    **UNMIXED,
}
ACTION = CLIP | {"task": "verb_noun"}  # top-1 of verb and noun too
IN21K = "runs/swin_b-in21k"
MAP_EPOCHS = 800.0
"""K: the paper does not say for how long; about 20,000 updates."""

ROWS: Mapping[str, Row] = {
    "inat2018": Row("inat2018", 100.0, SGD, PICTURE, 0.1),
    "pets": Row("pets", 100.0, SGD, PICTURE, 0.1),
    "places365": Row("places365", 100.0, SGD, PICTURE, 0.1),  # P B.1: drop path .1 or .3
    # P B.3: Swin-B with IN21K, the rest as for pictures
    "nyu_scenes": Row("nyu_scenes", 200.0, SGD | {"peak": 5e-3}, PICTURE, 0.1, IN21K),
    "nyu_seg": Row("nyu_seg", MAP_EPOCHS, POLY, LABEL_MAP, 0.3),  # P B.3; drop path as mmseg
    "nyu_seg_table7": Row("nyu_seg", MAP_EPOCHS, POLY, LABEL_MAP, 0.3, IN21K),
    "ssv2": Row("ssv2", 60.0, ADAMW | {"peak": 6e-3}, CLIP, 0.4),
    "epic100": Row("epic100", 150.0, ADAMW | {"peak": 2e-3}, ACTION | {"smoothing": 0.0}, 0.4),
    "ssv2_table6": Row("ssv2", 150.0, ADAMW | {"peak": 1.2e-3, "ema": 0.9999}, CLIP, 0.4, IN21K),
    "epic100_table6": Row(
        "epic100",
        100.0,
        ADAMW | {"peak": 4e-4, "trunk_rate": 1.0, "decay": 0.004, "ema": 0.9999},
        ACTION | {"cutmix": 1.0},
        0.4,
        IN21K,
    ),
    "kinetics600": Row("kinetics600", 30.0, KINETICS, CLIP | {"erase": 0.0}, 0.2),
    "ucf101": Row("ucf101", 30.0, KINETICS, CLIP | {"erase": 0.0}, 0.2),
}
"""Tables 3, 6 and 7. For UCF101 the paper gives no numbers (C), Kinetics-600 it does not have."""


SIZES = {"swin_t": swin_t, "swin_s": swin_s, "swin_b": swin_b, "swin_l": swin_l}
SHARES = {"1pct": 0.01, "2pct": 0.02, "5pct": 0.05, "10pct": 0.1}
"""Of the training samples (Table 10)."""
BASELINES = {"image": "image_swin", "video": "video_swin", "rgbd": "depth_swin"}
"""Runs of `configs/specific.py` by kind, without their size."""
FOLDS = {"fold1": "ucf101", "fold2": "ucf101_fold2", "fold3": "ucf101_fold3"}
"""Prepared splits of UCF101 (Table 9)."""
OPTIONS = (*SIZES, *SHARES, *FOLDS, "384", "in21k", "specific")


def get_config(name: str = "pets") -> ConfigDict:
    """`name`: of a row, a dataset and the second of its two in Tables 6 and 7; then options.

    pets+swin_l+384+in21k: another size; 384 pixels with windows of 12; from weights trained with
    IN21K; `specific`: from a model of that modality alone; 1pct, 2pct, 5pct, 10pct of the samples;
    fold2, fold3 of UCF101.
    """
    row, options = _parse(name)
    public = PUBLIC[row.dataset]
    size = next((option for option in options if option in SIZES), "swin_b")
    config = without_in21k(size)
    joint = config.to_dict()["data"]
    like = next(
        part for part in joint.values() if isinstance(part, dict) and part["kind"] == public.kind
    )
    dataset = {"head": public.head, "classes": public.classes}
    dataset |= {"microbatch": like["microbatch"], "remat": like.get("remat", "none")}
    dataset |= dataclasses.asdict(public.config()) | dict(row.device)
    dataset["subset"] = next((SHARES[option] for option in options if option in SHARES), 1.0)
    key = next((FOLDS[option] for option in options if option in FOLDS), row.dataset)
    if "384" in options:  # P B.1
        dataset |= {"size": 384, "microbatch": max(like["microbatch"] // 4, 2)}
        config.model.window = (model_config(config.model.name).window[0], 12, 12)
    config.data = ConfigDict(
        {key: value for key, value in joint.items() if not isinstance(value, dict)} | {key: dataset}
    )
    config.name = f"transfer-{name}"
    config.init_from = _start(row, size, options, public.kind)
    config.update(
        {
            "model": {"drop_path": row.drop_path},
            "optimizer": dict(row.optimizer),
            "train": {"epochs": row.epochs},
            "eval": {"retrieval": 0},  # there is nothing else to be found in
        }
    )
    return config


def without_in21k(size: str) -> Any:
    """The joint ConfigDict of Table 2 of a size, which some files have beside that of Table 4."""
    chosen = ("in1k",) if size in ("swin_b", "swin_l") else ()
    return SIZES[size].get_config(*chosen)


def _parse(name: str) -> tuple[Row, list[str]]:
    first, *options = name.split("+")
    if first not in ROWS:
        raise ValueError(f"the transfer {first!r} is not known; use one of {', '.join(ROWS)}")
    row = ROWS[first]
    for option in options:
        if option not in OPTIONS:
            raise ValueError(f"{option!r} in {name!r} is not known; use {', '.join(OPTIONS)}")
        if option in FOLDS and row.dataset != "ucf101":
            raise ValueError(f"{option!r} in {name!r}: UCF101 has folds, {row.dataset} has none")
        if option == "384" and PUBLIC[row.dataset].kind != "image":
            raise ValueError(f"'384' in {name!r}: the paper has it for pictures alone")
    return row, options


def _start(row: Row, size: str, options: Sequence[str], kind: str) -> str:
    """The run whose weights it starts from."""
    if "specific" in options:
        return f"runs/{BASELINES[kind]}_{size.removeprefix('swin_')}"
    in21k = "in21k" in options or row.start == IN21K
    if size == "swin_l":  # configs/swin_l.py is with IN21K unless it says otherwise
        return "runs/swin_l" if in21k else "runs/swin_l-in1k"
    return f"runs/{size}-in21k" if in21k else f"runs/{size}"
