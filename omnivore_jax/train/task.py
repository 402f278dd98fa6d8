"""What training does with the samples of a dataset on the device.

The training keys of `data.<dataset>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from omnivore_jax.model.heads import check_name
from omnivore_jax.model.preprocess import Preprocessing

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class TaskConfig:
    """Head, augmentation on the device and targets of a dataset.

    The defaults are the paper's for RGB (App. A).
    """

    head: str
    """Name of the classifier; two datasets with one head share it."""
    classes: int
    microbatch: int = 0
    """Most samples a device takes at once, the rest follows by accumulation; 0: all."""
    head_dropout: float = 0.0
    remat: Literal["none", "attention", "block"] = "none"
    """What is computed again in the backward pass instead of being kept."""
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strength of brightness, contrast, saturation (0 or more) and hue (0 to .5, in turns of the colour circle)."""
    channel_shuffle: bool = False
    gain: float = 0.0
    """Every colour channel is multiplied by its own factor in 1 - gain .. 1 + gain."""
    erase: float = 0.0
    """Probability that a box is set to 0 (random erasing)."""
    rgb_drop: float = 0.0
    """Probability that an RGB-D sample keeps its depth alone."""
    mixup: float = 0.8
    """Alpha of mixup; 0: off."""
    cutmix: float = 1.0
    """Alpha of cutmix; 0: off."""
    mix_prob: float = 1.0
    """Probability that a group is mixed at all."""
    switch_prob: float = 0.5
    """Probability of cutmix where mixup and cutmix are both on."""
    smoothing: float = 0.1
    """Share of the target that is spread over all classes."""
    mean: RGB = (0.485, 0.456, 0.406)
    std: RGB = (0.229, 0.224, 0.225)
    disparity_max: float = 75.0
    """Disparity is clamped here and divided by it before it is standardised."""
    disparity_mean: float = 0.0418
    disparity_std: float = 0.0295

    def __post_init__(self):
        check_name(self.head)
        if self.classes < 1:
            raise ValueError(f"classes={self.classes}; use 1 or more")
        if self.microbatch < 0:
            raise ValueError(
                f"microbatch={self.microbatch}; use 0 (all at once) or a number of samples"
            )
        for name in ("erase", "rgb_drop", "mix_prob", "switch_prob"):
            _check(name, getattr(self, name), 0.0, 1.0)
        for name in ("head_dropout", "smoothing"):
            _check(name, getattr(self, name), 0.0, 0.999)
        _check("gain", self.gain, 0.0, 1.0)
        if min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ValueError(
                f"jitter={self.jitter}; use strengths of 0 or more, at most 0.5 for the last (hue)"
            )
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name}={getattr(self, name)}; use an alpha above 0, or 0 for off"
                )
        if min(*self.std, self.disparity_std, self.disparity_max) <= 0:
            raise ValueError(
                f"std={self.std} (disparity {self.disparity_std} of {self.disparity_max}); all "
                "must be above 0"
            )

    @property
    def mixes(self) -> bool:
        """Whether samples are ever blended with others."""
        return self.mix_prob > 0 and (self.mixup > 0 or self.cutmix > 0)

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(
            self.mean, self.std, self.disparity_max, self.disparity_mean, self.disparity_std
        )


def heads(tasks: Mapping[str, TaskConfig]) -> dict[str, int]:
    """Lists the classifiers of some datasets with their number of classes.

    Raises:
        ValueError: two datasets ask for one head with different numbers of classes.

    """
    classes: dict[str, int] = {}
    for name, task in tasks.items():
        if classes.setdefault(task.head, task.classes) != task.classes:
            raise ValueError(
                f"data.{name}.classes={task.classes}, but another dataset gives head {task.head!r} "
                f"{classes[task.head]} classes; make them equal or name another head"
            )
    return classes


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value}; use a number from {low:g} to {high:g}")
