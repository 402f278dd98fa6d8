"""The picture of how cost grows, docs/growth.svg."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

FIGURES = {"cpu_seconds": "CPU seconds of a call", "gib": "GiB without parameters"}


def draw(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws time and memory along every axis, a line for every file of figures.

    Both scales are logarithmic; the dotted line grows as what is below.
    """
    axes = list(dict.fromkeys(axis for row in results for axis in row["axes"]))
    if not axes:
        return
    with matplotlib.rc_context({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure((2.6 * len(axes), 4.6), layout="constrained")
        grid = figure.subplots(len(FIGURES), len(axes), squeeze=False)
        for column, axis in enumerate(axes):
            for row, key in enumerate(FIGURES):
                _panel(grid[row][column], axis, key, results)
            grid[0][column].set_title(f"along {axis}")
        for row, label in enumerate(FIGURES.values()):
            grid[row][0].set_ylabel(label)
        grid[0][0].legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(panel: Any, axis: str, key: str, results: Sequence[Mapping[str, Any]]) -> None:
    for row in results:
        if axis not in row["axes"]:
            continue
        found = row["axes"][axis]
        base = "gflops" if found["of"] == "FLOPs" else "tokens"
        x = [point[base] for point in found["points"]]
        y = [point[key] for point in found["points"]]
        exponent = found["time_exponent" if key == "cpu_seconds" else "memory_exponent"]
        (line,) = panel.loglog(x, y, "o-", markersize=3, label=row["mode"])
        panel.loglog(x, [y[0] * v / x[0] for v in x], ":", color=line.get_color(), linewidth=0.8)
        panel.annotate(
            f"{exponent:.2f}",
            (x[-1], y[-1]),
            ha="right",
            va="top",
            xytext=(-6, 0),
            textcoords="offset points",
        )
        panel.set_xticks(
            x, [str(point["value"]).removeprefix("swin_") for point in found["points"]]
        )
        panel.set_xlabel("by FLOPs" if base == "gflops" else "by tokens of the first stage")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    panel.yaxis.set_minor_locator(NullLocator())
