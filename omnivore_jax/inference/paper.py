"""The paper's numbers, and whether an evaluation may be laid beside them (FACTS 7).

A row is what a table says of one model on one dataset, in percent. An evaluation is comparable with
it when the dataset is whole, seen by the protocol of the paper, on the dataset's own head, by a
model of that size.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from omnivore_jax.data.datasets import PUBLIC
from omnivore_jax.data.protocol import PROTOCOLS, Protocol
from omnivore_jax.inference.exam import Evaluation
from omnivore_jax.ingest.layouts.official import OFFICIAL
from omnivore_jax.model.compiled import CompiledModel

T, S, B, L = "omnivore_swin_t", "omnivore_swin_s", "omnivore_swin_b", "omnivore_swin_l"
IN21K = "image21k"
"""The head that a model has which was trained with IN21K."""


class Row(NamedTuple):
    """A model's figures on a dataset, in percent, by the key of `evaluate --json`."""

    table: str
    dataset: str
    variant: str
    figures: Mapping[str, float]
    in21k: bool | None = None
    """Whether the model was trained with IN21K; None where either may be meant."""
    size: int = 224


def _pair(top1: float, top5: float | None = None) -> dict[str, float]:
    return {"top1": top1} if top5 is None else {"top1": top1, "top5": top5}


def _table(
    table: str, dataset: str, figures: Mapping[str, Mapping[str, float]], in21k: bool | None = None
) -> list[Row]:
    return [Row(table, dataset, variant, row, in21k) for variant, row in figures.items()]


ROWS: tuple[Row, ...] = (
    *_table(
        "2", "imagenet", {T: _pair(80.9, 95.5), S: _pair(83.4, 96.6), B: _pair(84.0, 96.8)}, False
    ),
    *_table(
        "2",
        "kinetics400",
        {T: _pair(78.9, 93.8), S: _pair(82.2, 95.4), B: _pair(83.3, 95.8)},
        False,
    ),
    *_table("2", "sunrgbd", {T: _pair(62.3), S: _pair(64.6), B: _pair(65.4)}, False),
    *_table("3", "places365", {T: _pair(58.2, 87.4), S: _pair(58.8, 88.0), B: _pair(59.2, 88.3)}),
    *_table("3", "inat2018", {T: _pair(69.0, 87.7), S: _pair(73.6, 90.8), B: _pair(74.4, 91.1)}),
    *_table("3", "pets", {T: _pair(94.2, 99.7), S: _pair(95.2, 99.7), B: _pair(95.1, 99.8)}),
    *_table("3", "ssv2", {T: _pair(64.4, 89.7), S: _pair(68.2, 91.8), B: _pair(68.3, 92.1)}),
    *_table("3", "epic100", {T: _pair(42.7, 63.1), S: _pair(44.9, 64.8), B: _pair(47.4, 67.7)}),
    *_table("3", "nyu_scenes", {T: _pair(77.3), S: _pair(76.9), B: _pair(79.4)}),
    *_table("3", "nyu_seg", {T: {"miou": 49.7}, S: {"miou": 52.7}, B: {"miou": 54.0}}),
    *_table("4", "imagenet", {B: _pair(85.3, 97.5), L: _pair(86.0, 97.7)}, True),
    *_table("4", "kinetics400", {B: _pair(84.0, 96.2), L: _pair(84.1, 96.3)}, True),
    *_table("4", "sunrgbd", {B: _pair(67.2), L: _pair(67.1)}, True),
    *_table("5", "places365", {B: _pair(59.3), L: _pair(59.4)}),
    *_table("5", "inat2018", {B: _pair(76.3), L: _pair(78.0)}),
    *_table("5", "pets", {B: _pair(95.5), L: _pair(95.7)}),
    Row("5", "places365", B, _pair(59.6), None, 384),
    Row("5", "places365", L, _pair(59.9), None, 384),
    Row("5", "inat2018", B, _pair(82.6), None, 384),
    Row("5", "inat2018", L, _pair(84.1), None, 384),
    Row("5", "pets", B, _pair(95.9), None, 384),
    Row("5", "pets", L, _pair(96.1), None, 384),
    Row("6", "epic100", B, {"verb_top1": 69.5, "noun_top1": 61.7, "top1": 49.9}),
    Row("6", "ssv2", B, _pair(71.4, 93.5)),
    *_table("7", "nyu_scenes", {B: _pair(80.0), L: _pair(80.3)}),
    *_table("7", "nyu_seg", {B: {"miou": 55.1}, L: {"miou": 56.8}}),
    Row("9", "ucf101", B, _pair(98.2)),
)
"""Omnivore's rows that an evaluation of one model on one dataset can give."""

VIEWS: Mapping[str, tuple[str, ...]] = {
    "kinetics400": ("4x3", "4x3_video_swin"),
    "ucf101": ("4x3", "4x3_video_swin"),
    "ssv2": ("1x3",),
    "epic100": ("1x3",),
    "nyu_seg": ("whole_6x2",),
}
"""Protocols of the paper; of the others one view in the center."""
ABOUT = ("kinetics400",)
"""Datasets that decay: samples may be missing."""
SHARE = 0.9
"""Of their samples that must be there."""


class Line(NamedTuple):
    """A figure beside the paper's, in percent."""

    table: str
    figure: str
    paper: float
    ours: float

    @property
    def difference(self) -> float:
        return self.ours - self.paper

    def json(self) -> dict[str, Any]:
        return {**self._asdict(), "difference": self.difference}


def compare(
    evaluation: Evaluation, figures: Mapping[str, Any], variant: str, in21k: bool | None
) -> tuple[list[Line], str]:
    """Lays an evaluation beside the paper's rows, or says why that cannot be.

    `figures` as `score_table.figures` has them, `variant` is the model's, `in21k` whether it was
    trained with IN21K (None: nobody knows, and rows of both stand there). Both are empty for a
    dataset that the paper does not have.
    """
    exam = evaluation.exam
    if exam.name not in {row.dataset for row in ROWS}:
        return [], ""
    why = _obstacle(evaluation)
    if why:
        return [], why
    lines = [
        Line(row.table, key, value, 100 * figures[key])
        for row in ROWS
        if row.dataset == exam.name
        and row.variant == variant
        and (None in (row.in21k, in21k) or row.in21k == in21k)
        and row.size == (224 if exam.protocol.whole else exam.protocol.size)
        for key, value in row.figures.items()
        if key in figures
    ]
    return lines, "" if lines else f"the paper has no row of {variant} on {exam.name}"


def trained_with_in21k(model: CompiledModel) -> bool | None:
    """Tells it from the heads of a run of ours; other people's files keep no head of IN21K."""
    if IN21K in model.heads:
        return True
    return None if (model.card or {}).get("source") else False


def _obstacle(evaluation: Evaluation) -> str:
    """What keeps an evaluation from being one of the paper's; empty: nothing."""
    exam, n = evaluation.exam, evaluation.result.n
    public = PUBLIC[exam.name]
    if exam.mode != "all":
        return f"the model saw {exam.mode} alone"
    if exam.head != public.head:
        return f"head {exam.head!r} is not that of the dataset, {public.head!r}"
    if len(exam.classes) != public.classes:
        return f"{len(exam.classes):,} classes of {public.classes:,}"
    expected = public.num_val
    if exam.name in OFFICIAL:
        expected = OFFICIAL[exam.name][0].splits.get("val", expected)
    enough = SHARE * expected if exam.name in ABOUT else expected
    if n < enough or n > expected * (2 - SHARE if exam.name in ABOUT else 1):
        about = "about " if exam.name in ABOUT else ""
        return f"{n:,} samples of {about}{expected:,}"
    return _other_view(exam.protocol, VIEWS.get(exam.name, ("1x1",)))


def _other_view(protocol: Protocol, names: tuple[str, ...]) -> str:
    named = [PROTOCOLS[name] for name in names]
    fields = ("clips", "crops", "whole", "sliding", "scales", "mirrored")
    if any(all(getattr(p, f) == getattr(protocol, f) for f in fields) for p in named):
        return ""
    return f"the view is {protocol.clips} x {protocol.crops}, the paper's {' or '.join(names)}"
