"""A page of one evaluation: figures, confusion, calibration, and every class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from omnivore_jax.core.files import write_text
from omnivore_jax.core.types import Kind
from omnivore_jax.reporting import plots, render
from omnivore_jax.reporting.report import dataset_result, map_result
from omnivore_jax.tasks.classification import Calibration, Classification
from omnivore_jax.tasks.segmentation import Segmentation

MATRIX_CLASSES = 50
"""More classes have no readable confusion matrix; their table says the same."""


def write_evaluation(
    path: Path,
    weights: str,
    classes: Sequence[str],
    result: Classification | Segmentation,
    figures: Mapping[str, Any],
    kind: Kind,
) -> None:
    """Draws the page; `figures` are those of `evaluate --json`.

    Raises:
        UserError: the disk does not take it.

    """
    if isinstance(result, Segmentation):
        maps = map_result(figures["dataset"], kind, classes, result)
        template = render.environment().get_template("map_page.html")
        write_text(path, template.render(weights=weights, figures=figures, maps=[maps]))
        return
    calibration = result.calibration()
    page = (
        render.environment()
        .get_template("score_page.html")
        .render(
            weights=weights,
            figures=figures,
            result=dataset_result(figures["dataset"], kind, classes, result),
            matrix=len(classes) <= MATRIX_CLASSES,
            reliability=plots.figure(
                lambda axes: _reliability(axes, calibration),
                "reliability",
                f"Accuracy by confidence; calibration error {calibration.error:.3f}",
            ),
        )
    )
    write_text(path, page)


def _reliability(axes: Axes, calibration: Calibration) -> None:
    axes.plot([0, 1], [0, 1], color=plots.INK, linewidth=0.8, linestyle=":")
    there = calibration.count > 0
    axes.plot(
        calibration.confidence[there],
        calibration.accuracy[there],
        "o-",
        color=plots.SERIES[0],
        clip_on=False,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
