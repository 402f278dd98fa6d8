"""What a task is: all that depends on what the labels of a dataset are.

A task owns its head, the targets that labels become, the sums of its loss and its scores. The step,
the loader and the evaluator know this interface alone, so that another kind of label (a verb and a
noun, a map of labels) is another file here and a line in `table.py`.

    label   what a sample carries, an array [b ...] of any shape and type; the loader stacks it
    output  what the task's head gives for a batch: logits [b classes], or a tree of arrays [b ...]
    targets what the loss compares the output with, on the device, after samples were mixed
    sums    figures that add up over micro-batches, devices and steps: {"loss": ..., "count": ...}
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from omnivore_jax.core.types import Fusion, LabelForm

Sums = dict[str, Array]
"""Scalars by name; `loss` is the sum over real samples and `count` their number."""


@runtime_checkable
class Result(Protocol):
    """What a task says of a whole split, every sample counted once."""

    @property
    def n(self) -> int:
        """Samples."""
        ...

    @property
    def score(self) -> float:
        """The figure by which checkpoints are compared, 0 to 1: top-1, mIoU."""
        ...

    @property
    def score_name(self) -> str:
        """What people call it."""
        ...

    def row(self) -> dict[str, float | int]:
        """The figures of a line of metrics.jsonl."""
        ...


@runtime_checkable
class Task(Protocol):
    """Targets, loss and scores of one dataset; a frozen dataclass built from its config row."""

    head: str
    """Name of the head; two datasets with one head share it."""
    head_dropout: float

    @property
    def labels(self) -> LabelForm:
        """What the labels of its datasets are."""
        ...

    @property
    def spec(self) -> Any:
        """What `model.heads.make_heads` makes the head of."""
        ...

    @property
    def mixes(self) -> bool:
        """Whether samples may be blended by mixup and cutmix: whether labels can be."""
        ...

    def check_classes(self, names: Sequence[str], dataset: str) -> str | None:
        """Compares the classes of a prepared dataset with the head; a remark where it has fewer.

        Raises:
            ValueError: the dataset has what the head cannot express.

        """
        ...

    def named(self, names: Sequence[str]) -> "Task":
        """Makes the task that knows what its classes are called; most need not know.

        Raises:
            ValueError: the names say nothing to it.

        """
        ...

    def targets(self, label: Array, other: Array, own: Float[Array, "b"]) -> PyTree[Array]:
        """Makes targets of samples blended with others: `own` is the share of their own label."""
        ...

    def sums(
        self, output: PyTree[Array], targets: PyTree[Array], label: Array, mask: Bool[Array, "b"]
    ) -> Sums:
        """Adds up the loss and what else is shown of training, over samples that are no padding."""
        ...

    def means(self, sums: Mapping[str, Any]) -> dict[str, float | int]:
        """Turns fetched sums into the figures of a step: loss, n, and for example accuracy."""
        ...

    def restore(
        self, output: PyTree[Array], size: tuple[int, int], *, flipped: bool
    ) -> PyTree[Array]:
        """Undoes what an input of another size, or mirrored, does to the output.

        `size`: rows and columns that the input should have had. Logits of whole samples stay.
        """
        ...

    def fuse(self, output: PyTree[Array], fusion: Fusion) -> PyTree[Array]:
        """Joins the outputs of several views, [b views ...] to [b ...]."""
        ...

    def judge(self, output: PyTree[Array], label: Array) -> PyTree[Array]:
        """Judges every sample by itself, on the device: arrays [b ...]."""
        ...

    def result(self, judged: PyTree[np.ndarray], ids: list[str]) -> Result:
        """Makes the result of what `judge` gave for all samples of a split, on the host."""
        ...


def heads(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Lists the heads of some datasets, by name, with what each is made of.

    Raises:
        ValueError: two datasets ask for one head of different kinds.

    """
    specs: dict[str, Any] = {}
    for name, task in tasks.items():
        if specs.setdefault(task.head, task.spec) != task.spec:
            raise ValueError(
                f"data.{name}.classes={task.spec}, but another dataset gives head {task.head!r} "
                f"{specs[task.head]} classes; make them equal or name another head"
            )
    return specs
