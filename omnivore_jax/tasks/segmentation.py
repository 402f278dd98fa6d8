"""Segmentation: a map of labels a sample, UPerNet, pixel-wise cross entropy, mIoU (FACTS 6.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int, Int32, Integer

from omnivore_jax.core.types import IGNORE, Fusion, LabelForm
from omnivore_jax.model.heads import check_name
from omnivore_jax.model.upernet import PixelScores, UPerNetSpec, resize
from omnivore_jax.tasks.base import Sums


@dataclass(frozen=True)
class SegmentationTask:
    """Labels of pixels, int [b h w], of which `IGNORE` is nobody's: keys of `data.<dataset>`."""

    head: str
    """Name of the head; two datasets with one head share it."""
    classes: int
    head_dropout: float = 0.1
    """Of the channels before the last layer, in training."""
    channels: int = 512
    """Of UPerNet's maps."""
    auxiliary_channels: int = 256
    auxiliary_weight: float = 0.4
    """Of the loss of the FCN on the third stage, beside that of UPerNet."""

    def __post_init__(self):
        check_name(self.head)
        if self.classes > IGNORE:
            raise ValueError(f"classes={self.classes}; label maps hold up to {IGNORE}")
        if not 0 <= self.head_dropout < 1:
            raise ValueError(f"head_dropout={self.head_dropout}; use a number from 0 to below 1")
        if self.auxiliary_weight < 0:
            raise ValueError(f"auxiliary_weight={self.auxiliary_weight}; use 0 or more")
        _ = self.spec  # checks the rest

    @property
    def labels(self) -> LabelForm:
        return "map"

    @property
    def spec(self) -> UPerNetSpec:
        return UPerNetSpec(self.classes, self.channels, self.auxiliary_channels)

    @property
    def mixes(self) -> bool:
        return False

    def check_classes(self, names: Sequence[str], dataset: str) -> str | None:
        """Compares the classes of a prepared dataset with the head's."""
        if len(names) != self.classes:
            raise ValueError(
                f"data.{dataset}.classes={self.classes}, but it has {len(names)} classes; set it "
                f"to {len(names)}"
            )
        return None

    def named(self, names: Sequence[str]) -> "SegmentationTask":
        """Gives the task as it is."""
        return self

    def targets(
        self, label: Integer[Array, "b h w"], other: Integer[Array, "b h w"], own: Float[Array, "b"]
    ) -> Int[Array, "b h w"]:
        """Gives the maps themselves: they are not blended."""
        return label.astype(jnp.int32)

    def sums(
        self,
        output: PixelScores,
        targets: Int[Array, "b h w"],
        label: Integer[Array, "b h w"],
        mask: Bool[Array, "b"],
    ) -> Sums:
        """Adds up loss and accuracy, of every sample the mean over its labelled pixels."""
        scores, auxiliary = (resize(part, targets.shape[1:]) for part in output)
        loss = _loss(scores, targets) + self.auxiliary_weight * _loss(auxiliary, targets)
        known = targets != IGNORE
        hits = (known & (jnp.argmax(scores, -1) == targets)).sum((1, 2))
        accuracy = hits / jnp.maximum(known.sum((1, 2)), 1)
        return {
            "loss": jnp.where(mask, loss, 0.0).sum(),
            "count": mask.sum(),
            "correct": jnp.where(mask, accuracy, 0.0).sum(),
        }

    def means(self, sums: Mapping[str, Any]) -> dict[str, float | int]:
        """Gives loss, mean pixel accuracy and number of samples of a step."""
        n = int(sums["count"])
        loss, correct = float(sums["loss"]), float(sums["correct"])
        return {"loss": loss / max(n, 1), "accuracy": correct / max(n, 1), "n": n}

    def restore(self, output: PixelScores, size: tuple[int, int], *, flipped: bool) -> PixelScores:
        """Brings the scores of an input of another size, or of its mirror image, to `size`."""
        parts = (part[:, :, ::-1] if flipped else part for part in output)
        return PixelScores(*(resize(part, size) for part in parts))

    def fuse(self, output: PixelScores, fusion: Fusion) -> PixelScores:
        """Averages scores, or probabilities, whose logarithm is given back."""
        if fusion == "logits":
            return jax.tree.map(lambda x: x.mean(1), output)
        return jax.tree.map(lambda x: jnp.log(jax.nn.softmax(x, axis=-1).mean(1)), output)

    def judge(self, output: PixelScores, label: Integer[Array, "b h w"]) -> "Judged":
        """Counts the pixels of every sample by class."""
        label = label.astype(jnp.int32)
        scores = resize(output.scores, label.shape[1:])
        known, predicted = label != IGNORE, jnp.argmax(scores, axis=-1)
        hit = known & (predicted == label)
        # One place more, for the pixels that do not count.
        count = jax.vmap(lambda x: jnp.bincount(x.ravel(), length=self.classes + 1)[:-1])

        def among(
            pixels: Bool[Array, "b h w"], of: Integer[Array, "b h w"]
        ) -> Int[Array, "b classes"]:
            return count(jnp.where(pixels, of, self.classes))

        strange = jnp.where(known, label, 0).max((1, 2))
        counts = among(hit, label), among(known, label), among(known, predicted)
        return Judged(*counts, _loss(scores, label), strange)

    def result(self, judged: "Judged", ids: list[str]) -> "Segmentation":
        """Makes the result of a split.

        Raises:
            ValueError: a label that the head does not have.

        """
        if judged.highest.max() >= self.classes:
            raise ValueError(
                f"label maps hold {judged.highest.max()}, but the head has {self.classes} classes; "
                "set the dataset's `classes` to what its files hold"
            )
        return Segmentation(*judged[:-1], ids=ids)


class Judged(NamedTuple):
    """Pixels of samples, one by one; those of label `IGNORE` are not among them."""

    correct: Any
    """By class, [b classes]."""
    labelled: Any
    """By true class."""
    predicted: Any
    """By predicted class."""
    losses: Any
    """Mean cross entropy over the labelled pixels, [b]."""
    highest: Any
    """The largest label."""


@dataclass(frozen=True)
class Segmentation:
    """Pixels of the samples of a split, in order, by class, and what follows (`Judged`)."""

    correct: Int32[np.ndarray, "n classes"]
    labelled: Int32[np.ndarray, "n classes"]
    predicted: Int32[np.ndarray, "n classes"]
    losses: Float[np.ndarray, " n"]
    ids: list[str]
    """Empty where several processes read a part each."""

    @property
    def n(self) -> int:
        return len(self.losses)

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses, dtype=np.float64))

    @property
    def iou(self) -> Float64[np.ndarray, " classes"]:
        """Intersection over union of every class, over all pixels of the split.

        NaN for a class that is neither there nor predicted.
        """
        both, union = _total(self.correct), _total(self.labelled) + _total(self.predicted)
        return _ratio(both, union - both)

    @property
    def miou(self) -> float:
        """Mean over the classes, none of them weighted."""
        return float(np.nanmean(self.iou))

    @property
    def score(self) -> float:
        """mIoU, by which checkpoints are compared."""
        return self.miou

    @property
    def score_name(self) -> str:
        return "mIoU"

    @property
    def accuracy(self) -> Float64[np.ndarray, " classes"]:
        """Share of the pixels of every class that was recognised; NaN where there are none."""
        return _ratio(_total(self.correct), _total(self.labelled))

    @property
    def pixel_accuracy(self) -> float:
        """Share of all labelled pixels."""
        return float(_total(self.correct).sum() / max(_total(self.labelled).sum(), 1))

    def row(self) -> dict[str, float | int]:
        """The figures of a line of metrics.jsonl."""
        return {
            "n": self.n,
            "loss": self.loss,
            "miou": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_class_accuracy": float(np.nanmean(self.accuracy)),
        }


def _loss(
    scores: Float[Array, "b h w classes"], label: Integer[Array, "b h w"]
) -> Float[Array, "b"]:
    """Mean cross entropy over the labelled pixels of every sample; 0 where it has none."""
    known = label != IGNORE
    logs = jax.nn.log_softmax(scores.astype(jnp.float32), axis=-1)
    own = jnp.take_along_axis(logs, jnp.where(known, label, 0)[..., None], axis=-1)[..., 0]
    return -jnp.where(known, own, 0.0).sum((1, 2)) / jnp.maximum(known.sum((1, 2)), 1)


def _total(counts: np.ndarray) -> Float64[np.ndarray, " classes"]:
    return counts.sum(0, dtype=np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> Float64[np.ndarray, " classes"]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
