"""Actions that are pairs of a verb and a noun: classification, and what follows for either part.

EPIC-KITCHENS-100 (paper, Table 6): probabilities of the actions, averaged over views, are summed
over all actions that share a verb, and over those that share a noun; the largest sum wins (FACTS
5). A class is named "verb noun", or "0:3" where names are missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from omnivore_jax.tasks.classification import Classification, ClassificationTask, Judged

Parts = tuple[tuple[int, ...], tuple[int, ...]]
"""The number of the verb, and of the noun, of every action."""


@dataclass(frozen=True)
class VerbNounTask(ClassificationTask):
    """Trains as classification does: keys of `data.<dataset>`."""

    def named(self, names: Sequence[str]) -> "_Marginals":
        """Makes the task that knows which verb and noun an action has.

        Raises:
            ValueError: a class is named otherwise.

        """
        fields = self.head, self.classes, self.smoothing, self.head_dropout
        return _Marginals(*fields, parts=parts_of(names))


def parts_of(names: Sequence[str]) -> Parts:
    """Numbers the verbs and the nouns of actions in the order in which they come.

    Raises:
        ValueError: a name has not both.

    """
    pairs = []
    for name in names:
        verb, _, noun = name.partition(" " if " " in name else ":")
        if not verb or not noun:
            raise ValueError(
                f"class {name!r} is no pair of verb and noun (as 'take plate' or '0:3'); use "
                "task='classification'"
            )
        pairs.append((verb, noun))
    verbs, nouns = (
        {part: k for k, part in enumerate(dict.fromkeys(p))} for p in zip(*pairs, strict=True)
    )
    return tuple(verbs[verb] for verb, _ in pairs), tuple(nouns[noun] for _, noun in pairs)


@dataclass(frozen=True)
class _Marginals(VerbNounTask):
    """Judges verb and noun beside the action."""

    parts: Parts = ((), ())

    def judge(self, output: Float[Array, "b classes"], label: Int[Array, "b"]) -> "JudgedParts":
        probabilities = jax.nn.softmax(output, axis=-1)
        verb, noun = (self._is_right(probabilities, label, part) for part in self.parts)
        return JudgedParts(super().judge(output, label), verb, noun)

    def _is_right(
        self, probabilities: Float[Array, "b classes"], label: Int[Array, "b"], part: Sequence[int]
    ) -> Bool[Array, "b"]:
        # A head may have more classes than the dataset names; those are parts of nothing.
        member = np.zeros((self.classes, max(part) + 2), np.float32)
        rest = [max(part) + 1] * (self.classes - len(part))
        number = np.array([*part, *rest])
        member[np.arange(self.classes), number] = 1
        sums = jnp.matmul(probabilities, member, precision=jax.lax.Precision.HIGHEST)
        return jnp.argmax(sums, axis=-1) == jnp.asarray(number)[label]

    def result(self, judged: "JudgedParts", ids: list[str]) -> "VerbNoun":
        """Makes the result of a split; ValueError for a label that the head does not have."""
        whole = super().result(judged.action, ids)
        verb, noun = (float(np.mean(right)) for right in (judged.verb, judged.noun))
        fields = {name: getattr(whole, name) for name in Classification.__dataclass_fields__}
        return VerbNoun(**fields, verb=verb, noun=noun)


class JudgedParts(NamedTuple):
    """What became of samples, one by one."""

    action: Judged
    verb: Any
    """Whether the verb came out on top."""
    noun: Any


@dataclass(frozen=True)
class VerbNoun(Classification):
    """Predictions for the actions of a split, and how often their parts were right."""

    verb: float
    """Top-1 of the marginals."""
    noun: float

    def row(self) -> dict[str, float | int]:
        return super().row() | {"verb_top1": self.verb, "noun_top1": self.noun}
