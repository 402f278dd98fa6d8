"""Classification: one label a sample, soft-target cross entropy, top-1 and top-5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Float64, Int, Int32, Int64

from omnivore_jax.core.types import Fusion, LabelForm
from omnivore_jax.model.heads import check_name
from omnivore_jax.tasks.base import Sums

BINS = 15
"""Of confidence, in which it is compared with accuracy."""


@dataclass(frozen=True)
class ClassificationTask:
    """A linear head over some classes: keys of `data.<dataset>`."""

    head: str
    """Name of the classifier; two datasets with one head share it."""
    classes: int
    smoothing: float = 0.1
    """Share of the target that is spread over all classes (App. A)."""
    head_dropout: float = 0.0
    """Of the pooled feature, in training."""

    def __post_init__(self):
        check_name(self.head)
        if self.classes < 1:
            raise ValueError(f"classes={self.classes}; use 1 or more")
        for name in ("head_dropout", "smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; use a number from 0 to below 1")

    @property
    def labels(self) -> LabelForm:
        return "class"

    @property
    def spec(self) -> int:
        return self.classes

    @property
    def mixes(self) -> bool:
        return True

    def check_classes(self, names: Sequence[str], dataset: str) -> str | None:
        """Compares the classes of a prepared dataset with the head's."""
        if len(names) > self.classes:
            raise ValueError(
                f"data.{dataset}.classes={self.classes}, but it has {len(names)} classes; set it "
                f"to {len(names)}"
            )
        if len(names) < self.classes:
            return f"has {len(names)} of the {self.classes} classes of head {self.head!r}"
        return None

    def named(self, names: Sequence[str]) -> "ClassificationTask":
        """Gives the task as it is."""
        return self

    def targets(
        self, label: Int[Array, "b"], other: Int[Array, "b"], own: Float[Array, "b"]
    ) -> Float[Array, "b classes"]:
        """Soft targets, smoothed: 1 - s + s/K on a label, s/K off it, shared by the two labels."""
        mine, theirs = (jax.nn.one_hot(labels, self.classes) for labels in (label, other))
        hard = own[:, None] * mine + (1 - own)[:, None] * theirs
        return (1 - self.smoothing) * hard + self.smoothing / self.classes

    def sums(
        self,
        output: Float[Array, "b classes"],
        targets: Float[Array, "b classes"],
        label: Int[Array, "b"],
        mask: Bool[Array, "b"],
    ) -> Sums:
        """Adds up loss, samples, and those, mixed or not, whose own label came out on top."""
        return {
            "loss": cross_entropy_sum(output, targets, mask),
            "count": mask.sum(),
            "correct": jnp.sum((jnp.argmax(output, axis=-1) == label) & mask),
        }

    def means(self, sums: Mapping[str, Any]) -> dict[str, float | int]:
        """Gives loss, accuracy and number of samples of a step."""
        n = int(sums["count"])
        loss, correct = float(sums["loss"]), int(sums["correct"])
        return {"loss": loss / max(n, 1), "accuracy": correct / max(n, 1), "n": n}

    def restore(self, output: Array, size: tuple[int, int], *, flipped: bool) -> Array:
        """Gives the logits as they are: they have no place in the picture."""
        return output

    def fuse(self, output: Float[Array, "b views classes"], fusion: Fusion) -> Array:
        """Averages logits, or probabilities, whose logarithm is given back."""
        if fusion == "logits":
            return output.mean(1)
        return jnp.log(jax.nn.softmax(output, axis=-1).mean(1))

    def judge(self, output: Float[Array, "b classes"], label: Int[Array, "b"]) -> "Judged":
        """Ranks the label among the classes; a logit that is not a number ranks above all."""
        own = jnp.take_along_axis(output, label[:, None], axis=-1)
        # Of equal scores the first counts as higher, as in argmax.
        earlier = jnp.arange(output.shape[-1]) < label[:, None]
        above = ~(output <= own) | (output == own) & earlier
        losses = jax.nn.logsumexp(output, axis=-1) - own[:, 0]
        predicted = jnp.argmax(output, axis=-1).astype(jnp.int32)
        confidence = jax.nn.softmax(output, axis=-1).max(-1)
        rank = jnp.sum(above, axis=-1, dtype=jnp.int32)
        return Judged(label, predicted, rank, losses, confidence)

    def result(self, judged: "Judged", ids: list[str]) -> "Classification":
        """Makes the result of a split.

        Raises:
            ValueError: a label that the head does not have.

        """
        label = judged.label
        if label.min() < 0 or label.max() >= self.classes:
            raise ValueError(
                f"labels run from {label.min()} to {label.max()}, but the head has {self.classes} "
                "classes; set the dataset's `classes` to what its files hold"
            )
        return Classification(self.classes, *judged, ids=ids)


class Judged(NamedTuple):
    """What became of samples, one by one."""

    label: Any
    predicted: Any
    rank: Any
    """How many classes were scored above the label's: 0 where it came out on top."""
    losses: Any
    """Plain cross entropy, without smoothing."""
    confidence: Any
    """Probability of the predicted class."""


class Calibration(NamedTuple):
    """Samples, mean confidence and accuracy of every bin of confidence; NaN where it is empty."""

    count: Int64[np.ndarray, " bins"]
    confidence: Float64[np.ndarray, " bins"]
    accuracy: Float64[np.ndarray, " bins"]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap, every sample counting the same."""
        gap = np.abs(np.nan_to_num(self.accuracy - self.confidence))
        return float(np.average(gap, weights=self.count))


@dataclass(frozen=True)
class Classification:
    """Predictions for the samples of a split, in order, and what follows from them (`Judged`)."""

    classes: int
    label: Int32[np.ndarray, " n"]
    predicted: Int32[np.ndarray, " n"]
    rank: Int32[np.ndarray, " n"]
    losses: Float32[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]
    ids: list[str]
    """Empty where several processes read a part each."""

    @property
    def n(self) -> int:
        return len(self.label)

    @property
    def top1(self) -> float:
        """Share of samples, not mean over classes (FACTS 5: SUN RGB-D too)."""
        return float(np.mean(self.rank < 1))

    @property
    def score(self) -> float:
        """Top-1, by which checkpoints are compared."""
        return self.top1

    @property
    def score_name(self) -> str:
        return "top-1"

    @property
    def top5(self) -> float | None:
        """None where there are no more than five classes: it could not fail."""
        return float(np.mean(self.rank < 5)) if self.classes > 5 else None

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses, dtype=np.float64))

    @property
    def confusion(self) -> Int64[np.ndarray, "classes classes"]:
        """Number of samples by true class (row) and predicted class (column)."""
        pairs = self.label.astype(np.int64) * self.classes + self.predicted
        counts = np.bincount(pairs, minlength=self.classes**2)
        return counts.reshape(self.classes, self.classes)

    @property
    def support(self) -> Int64[np.ndarray, " classes"]:
        """Number of samples of every class."""
        return np.bincount(self.label, minlength=self.classes)

    @property
    def f1(self) -> Float64[np.ndarray, " classes"]:
        """One-vs-rest F1 of every class from top-1; NaN for a class without samples (FACTS 5)."""
        correct = np.bincount(self.label[self.predicted == self.label], minlength=self.classes)
        total = self.support + np.bincount(self.predicted, minlength=self.classes)
        nan = np.full(self.classes, np.nan)
        return np.divide(2.0 * correct, total, out=nan, where=self.support > 0)

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that have samples."""
        return float(np.nanmean(self.f1))

    @property
    def mean_recall(self) -> float:
        """Mean per-class accuracy over the classes that have samples."""
        return float(np.nanmean(self.recall))

    def calibration(self, bins: int = BINS) -> "Calibration":
        """Compares confidence with accuracy in bins of equal width (Guo et al., ICML 2017)."""
        place = np.minimum((self.confidence * bins).astype(np.int64), bins - 1)
        count = np.bincount(place, minlength=bins)
        sums = (self.confidence.astype(np.float64), (self.rank < 1).astype(np.float64))
        nan = np.full(bins, np.nan)
        confidence, accuracy = (
            np.divide(np.bincount(place, x, bins), count, out=nan.copy(), where=count > 0)
            for x in sums
        )
        return Calibration(count, confidence, accuracy)

    @property
    def recall(self) -> Float64[np.ndarray, " classes"]:
        """Share of every class that was recognised; NaN for a class without samples."""
        support = self.support
        correct = np.bincount(self.label[self.rank < 1], minlength=self.classes)
        nan = np.full(self.classes, np.nan)
        return np.divide(correct, support, out=nan, where=support > 0)

    def row(self) -> dict[str, float | int]:
        """The figures of a line of metrics.jsonl: n, loss, top1 and, from six classes on, top5."""
        row: dict[str, float | int] = {"n": self.n, "loss": self.loss, "top1": self.top1}
        return row if self.top5 is None else row | {"top5": self.top5}


def cross_entropy_sum(
    logits: Float[Array, "b classes"], targets: Float[Array, "b classes"], mask: Bool[Array, "b"]
) -> Float[Array, ""]:
    """Sum of the soft-target cross entropy over samples that are not padding, in float32."""
    loss = -jnp.sum(targets * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)
    return jnp.sum(jnp.where(mask, loss, 0.0))
