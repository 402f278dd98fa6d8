"""What the rows of Table 8 share: Swin-B, 300 epochs, IN21K:IN1K:K400:SUN at 0.1:1:1:50."""

from ml_collections import ConfigDict

from configs import swin_b

EPOCHS = 300.0  # P 4.3
RATIOS = "0.1-1-1-50"


def baseline(name: str, mixture: str = "in21k") -> ConfigDict:
    """The first row, under the name of another."""
    config = swin_b.get_config(mixture)
    config.name = f"ablation-{name}"
    config.update({"train": {"epochs": EPOCHS}})
    set_ratios(config, RATIOS)
    return config


def set_ratios(config: ConfigDict, ratios: str) -> None:
    """Sets the passes of each dataset in an epoch: IN21K-IN1K-K400-SUN, of those that are there."""
    names = ("imagenet21k", "imagenet", "kinetics400", "sunrgbd")
    passes = dict(zip(names, map(float, ratios.split("-")), strict=True))
    there = config.to_dict()["data"]
    config.update({"data": {name: {"ratio": passes[name]} for name in names if name in there}})
