"""A page of two evaluations: gain of every group and every class (paper, Figs. 3, 6 and 7)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from omnivore_jax.core.files import write_text
from omnivore_jax.reporting import plots, render

NAMED = 60
"""Bars that have room for a name each."""


def write_comparison(path: Path, names: tuple[str, str], figures: Mapping[str, Any]) -> None:
    """Draws the page; `figures` are those of `evaluate compare --json`.

    Raises:
        UserError: the disk does not take it.

    """
    gains = {"groups": figures["group_gains"], "classes": figures["class_gains"]}
    drawn = {what: _gains(rows, what) for what, rows in gains.items() if rows}
    template = render.environment().get_template("comparison_page.html")
    write_text(path, template.render(names=names, figures=figures, drawn=drawn))


def _gains(rows: Mapping[str, float], name: str) -> str:
    """Draws gains in points as bars, the largest first."""
    order = sorted(rows, key=lambda row: -rows[row])
    points = [100 * rows[row] for row in order]
    named = len(order) <= NAMED

    def draw(axes: Axes) -> None:
        colours = [plots.SERIES[0] if gain >= 0 else plots.SERIES[1] for gain in points]
        axes.barh(range(len(order)), points, 0.86 if named else 1.0, color=colours)
        axes.set_yticks(range(len(order)) if named else [], order if named else [])
        axes.invert_yaxis()
        axes.axvline(0, color=plots.INK, linewidth=0.8)
        axes.set_xlabel("gain in F1, points")
        axes.grid(False, axis="y")
        axes.set_axisbelow(True)

    better = sum(gain > 0 for gain in points)
    label = (
        f"Gain in F1 of {len(order)} {name}, {better} of them better; the largest: "
        + ", ".join(f"{row} {gain:+.1f}" for row, gain in list(zip(order, points, strict=True))[:5])
    )
    height = 0.7 + (0.2 * len(order) if named else 4.0)
    return plots.figure(draw, name, label, width=6.4, height=height)
