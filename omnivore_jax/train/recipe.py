"""What training does with the samples of a dataset on the device: keys of `data.<dataset>`."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from omnivore_jax.model.compute import Remat
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.tasks.base import Task


@dataclass(frozen=True)
class Recipe:
    """Augmentation on the device and how samples are run; the paper's for RGB (App. A)."""

    microbatch: int = 0
    """Most samples a device takes at once, the rest follows by accumulation; 0: all."""
    remat: Remat = "none"
    """What is computed again in the backward pass instead of being kept."""
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strength of brightness, contrast, saturation (0 or more) and hue (0 to .5, in turns)."""
    channel_shuffle: bool = False
    gain: float = 0.0
    """Every colour channel is multiplied by its own factor in 1 - gain .. 1 + gain."""
    erase: float = 0.0
    """Probability that a box is erased (random erasing)."""
    erase_mode: Literal["zero", "pixel"] = "zero"
    """zero: black, before standardising (C). pixel: noise of N(0, 1) after it (timm)."""
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

    def __post_init__(self):
        if self.microbatch < 0:
            raise ValueError(
                f"microbatch={self.microbatch}; use 0 (all at once) or a number of samples"
            )
        for name in ("erase", "rgb_drop", "mix_prob", "switch_prob", "gain"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}; use a number from 0 to 1")
        if min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ValueError(
                f"jitter={self.jitter}; use strengths of 0 or more, at most 0.5 for the last (hue)"
            )
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name}={getattr(self, name)}; use an alpha above 0, or 0 for off"
                )

    @property
    def mixes(self) -> bool:
        """Whether samples are ever blended with others."""
        return self.mix_prob > 0 and (self.mixup > 0 or self.cutmix > 0)


class TrainDataset(NamedTuple):
    """All that a step needs to know of one dataset."""

    task: Task
    recipe: Recipe = Recipe()
    preprocessing: Preprocessing = Preprocessing()

    @property
    def mixes(self) -> bool:
        """Whether its samples are ever blended with others: its labels must allow it."""
        return self.recipe.mixes and self.task.mixes
