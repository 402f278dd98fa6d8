"""Pictures of how cost grows: docs/growth.svg, docs/scaling.svg."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

GROWTH = {
    "cpu_seconds": ("CPU seconds of a call", "time_exponent"),
    "gib": ("GiB without parameters", "memory_exponent"),
}
"""What is drawn of benchmarks.growth: the label of a figure, and its power."""
BELOW = {
    "FLOPs": "by FLOPs",
    "tokens": "by tokens of the first stage",
    "devices": "by devices",
}
"""Label of what an axis is made of."""
BASE = {"FLOPs": "gflops", "tokens": "tokens", "devices": "value"}
"""Where a point has it."""


def draw(
    results: Sequence[Mapping[str, Any]],
    path: Path,
    figures: Mapping[str, tuple[str, str]] = GROWTH,
) -> None:
    """Draws every figure along every axis, a line for each of the results, named by its mode.

    Both scales are logarithmic; the dotted line grows as what is below, where that is what is
    computed and no number of devices.
    """
    axes = list(dict.fromkeys(axis for row in results for axis in row["axes"]))
    if not axes:
        return
    with matplotlib.rc_context({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure((2.6 * len(axes), 2.3 * len(figures)), layout="constrained")
        grid = figure.subplots(len(figures), len(axes), squeeze=False)
        for column, axis in enumerate(axes):
            lines = [row for row in results if axis in row["axes"]]
            for place, (key, (_, power)) in zip(grid[:, column], figures.items(), strict=True):
                _panel(place, [(row["mode"], row["axes"][axis]) for row in lines], key, power)
            grid[0][column].set_title(f"along {axis}")
        for row, (label, _) in enumerate(figures.values()):
            grid[row][0].set_ylabel(label)
        modes = [tuple(row["mode"] for row in results if axis in row["axes"]) for axis in axes]
        for column, names in enumerate(modes):
            if not column or names != modes[column - 1]:
                grid[0][column].legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(panel: Any, lines: Sequence[tuple[str, Any]], key: str, power: str) -> None:
    ticks: dict[float, str] = {}
    for mode, found in lines:
        points = [point for point in found["points"] if point[key]]
        if not points:
            continue
        x = [point[BASE[found["of"]]] for point in points]
        y = [point[key] for point in points]
        (line,) = panel.loglog(x, y, "o-", markersize=3, label=mode)
        if found["of"] != "devices":
            panel.loglog(
                x, [y[0] * v / x[0] for v in x], ":", color=line.get_color(), linewidth=0.8
            )
        if found[power] is not None:
            panel.annotate(
                f"{found[power]:z.2f}",
                (x[-1], y[-1]),
                ha="right",
                va="top",
                xytext=(-6, 0),
                textcoords="offset points",
            )
        ticks |= {
            at: str(point["value"]).removeprefix("swin_")
            for at, point in zip(x, points, strict=True)
        }
        panel.set_xlabel(BELOW[found["of"]])
    panel.set_xticks(list(ticks), list(ticks.values()))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    panel.yaxis.set_minor_locator(NullLocator())
    low, high = panel.get_ylim()
    if high < 2 * low:  # what stays as it is looks so
        panel.set_ylim(low / 2, high * 2)
    panel.set_visible(bool(ticks))
