"""What a conversion did, for people and for programs; it holds no weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnivore_jax.model.config import ModelConfig
from omnivore_jax.weights import accounts
from omnivore_jax.weights.accounts import Kind, Row
from omnivore_jax.weights.fit import Plan, parameter_count
from omnivore_jax.weights.opening import WeightsFile
from omnivore_jax.weights.torch import certificate

SKIPPED = {
    "buffers": "buffers",
    "training": "of the trainer",
    "others": "of another model",
}
"""Keys of a file that no conversion takes: lists of a `WeightsFile`, in words."""


@dataclass(frozen=True)
class Result:
    """A conversion's account, and the card of what it wrote."""

    path: Path
    """What was converted."""
    layout: str
    config: ModelConfig
    heads: Mapping[str, Any]
    rows: Sequence[Row]
    parameters: int
    skipped: Mapping[str, int]
    """Numbers of keys by list of the file (`SKIPPED`)."""
    not_finite: Mapping[str, int]
    """Numbers of values that are NaN or infinity, by path."""
    assumed: Sequence[str]
    """What the file does not say."""
    card: Mapping[str, Any]
    seconds: float = 0.0

    def count(self, kind: Kind) -> int:
        """Counts the rows of a kind."""
        return sum(row.kind == kind for row in self.rows)

    def json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "layout": self.layout,
            "parameters": self.parameters,
            "seconds": round(self.seconds, 2),
            "skipped": dict(self.skipped),
            "not_finite": dict(self.not_finite),
            "assumed": list(self.assumed),
            "card": dict(self.card),
            "table": [row._asdict() for row in self.rows],
        }

    def text(self) -> str:
        """What a person wants to know."""
        config = self.config
        lines = [
            f"{self.path}: {self.layout}, {config.name}",
            f"window {config.window}, {config.position_bias} position bias, heads "
            f"{dict(self.heads) or 'none'}, {self.parameters:,} parameters",
            *accounts.lines(self.rows),
        ]
        lines += [
            f"  {'left out':<12}{count:>6,}  {SKIPPED[name]}"
            for name, count in self.skipped.items()
            if count
        ]
        lines += [
            f"  {'not finite':<12}{count:>6,}  values of {path}"
            for path, count in self.not_finite.items()
        ]
        lines += [f"assumed: {text}" for text in self.assumed]
        lines += certificate.lines(self.card["certificate"])
        return "\n".join([*lines, f"{self.seconds:.1f} s"])


def make_result(
    source: WeightsFile, plan: Plan, card: Mapping[str, Any], not_finite: Mapping[str, int]
) -> Result:
    """Writes down what is worth keeping of a conversion when its file is let go."""
    return Result(
        path=source.path,
        layout=source.layout,
        config=plan.config,
        heads=plan.heads,
        rows=plan.rows,
        parameters=parameter_count(plan),
        skipped={name: len(getattr(source, name)) for name in SKIPPED},
        not_finite=not_finite,
        assumed=_assumed(source, plan, card),
        card=card,
    )


def _assumed(source: WeightsFile, plan: Plan, card: Mapping[str, Any]) -> list[str]:
    """What a file of PyTorch's does not say, and a card of ours beside it would."""
    if source.card is None:
        means = dict.fromkeys(str(spec["mean"]) for spec in card["preprocessing"].values())
        texts = [
            f"inputs standardised with the released models' statistics (mean {mean})"
            for mean in means
        ]
        return ["the released window index", *texts]
    specs = source.card.get("preprocessing", {})
    fresh = [head for head in plan.heads if plan.head_sources.get(head) not in specs]
    return [f"inputs of head {head} standardised as those of another" for head in fresh if specs]
