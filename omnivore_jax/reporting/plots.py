"""Figures of a report as SVG with the colours and the font of the page, light or dark."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from numpy import isfinite

from omnivore_jax.reporting.history import History, Series, averaged, thinned

INK, FAINT = "#010101", "#020202"
SERIES = [f"#0{i}0303" for i in range(1, 7)]
"""Colours that stand for others: matplotlib draws with them, the page replaces them."""
PAGE_COLOURS = {INK: "currentColor", FAINT: "var(--rule)"} | {
    c: f"var(--c{i})" for i, c in enumerate(SERIES, 1)
}
DASHES = ["-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)), (0, (3, 3)), (0, (8, 2))]
MARKERS = ["o", "s", "^", "D", "v", "P"]
"""Curves differ in more than their colour."""

STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.labelsize": 9,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def curves(history: History, names: Sequence[str]) -> dict[str, str]:
    """Draws loss, accuracy, learning rate and gradient norm over steps.

    `names` fixes the colours of the datasets.
    """
    steps = history.steps
    loss = {name: averaged(series, steps) for name, series in history.loss.items()}
    accuracy = {name: averaged(series, steps) for name, series in history.accuracy.items()}
    rate, norm = thinned(history.learning_rate), averaged(history.grad_norm, steps)
    drawn = {
        "loss": (lambda axes: _by_dataset(axes, loss, names), _ends("Training loss", loss)),
        "accuracy": (
            lambda axes: _accuracy(axes, accuracy, history, names),
            _ends("Accuracy", history.validation),
        ),
        "learning_rate": (lambda axes: _one(axes, rate), _ends("Learning rate", {"": rate})),
        "grad_norm": (lambda axes: _one(axes, norm), _ends("Gradient norm", {"": norm})),
    }
    return {name: figure(draw, name, label) for name, (draw, label) in drawn.items()}


def look(number: int) -> dict[str, Any]:
    """Color, dash and marker of line `number` of a figure, as `Axes.plot` takes them."""
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def overlaid(losses: Mapping[str, Series], steps: int, name: str, title: str) -> str:
    """Draws the loss of several runs over one another, in the order of their names' legend."""
    drawn = {run: averaged(series, steps) for run, series in losses.items()}

    def draw(axes: Axes) -> None:
        _by_dataset(axes, drawn, list(drawn))
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_ylabel("training loss")

    return figure(draw, name, _ends(f"Training loss of {title}", drawn))


def bars(groups: Mapping[str, Mapping[str, float]], runs: Sequence[str], name: str) -> str:
    """Draws shares of 0 to 1 as horizontal bars.

    A group for each dataset, a bar for each of `runs`.
    """

    def draw(axes: Axes) -> None:
        step = len(runs) + 0.8
        for g, values in enumerate(groups.values()):
            for b, run in enumerate(runs):
                if run in values:
                    at, share = g * step + b, values[run]
                    axes.barh(at, share, 0.86, color=SERIES[b % len(SERIES)])
                    axes.text(share + 0.01, at, f"{100 * share:.1f} %", va="center", fontsize=8)
        middles = [g * step + (len(runs) - 1) / 2 for g in range(len(groups))]
        axes.set_yticks(middles, list(groups))
        axes.invert_yaxis()
        axes.set_xlim(0, 1.08)  # room for a figure beside a full bar
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(False, axis="y")
        axes.set_axisbelow(True)

    def told(group: Mapping[str, float]) -> str:
        return ", ".join(f"{run} {value:.1%}" for run, value in group.items())

    values = "; ".join(f"{name}: {told(group)}" for name, group in groups.items())
    return figure(
        draw,
        name,
        f"Top-1 of {values}",
        height=0.6 + 0.24 * len(groups) * (len(runs) + 0.8),
        width=6.4,
    )


def _ends(title: str, series: Mapping[str, Series]) -> str:
    """Says in words where curves begin and end."""
    ranges = [
        f"{n} from {s.value[0]:.3g} to {s.value[-1]:.3g}".strip()
        for n, s in series.items()
        if s.value
    ]
    return f"{title}: {'; '.join(ranges) or 'no values'}"


def _by_dataset(axes: Axes, series: Mapping[str, Series], names: Sequence[str]) -> None:
    for name, colour, dash in zip(names, cycle(SERIES), cycle(DASHES)):
        if name in series:
            axes.plot(series[name].step, series[name].value, color=colour, linestyle=dash)
    _over_steps(axes)


def _accuracy(
    axes: Axes, training: Mapping[str, Series], history: History, names: Sequence[str]
) -> None:
    """Training accuracy as a line, validation as points."""
    _by_dataset(axes, training, names)
    for name, colour, marker in zip(names, cycle(SERIES), cycle(MARKERS)):
        if name in history.validation:
            points = history.validation[name]
            axes.plot(
                points.step,
                points.value,
                marker,
                color=colour,
                markersize=6,
                clip_on=False,
                zorder=3,
            )
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _one(axes: Axes, curve: Series) -> None:
    axes.plot(curve.step, curve.value, color=INK)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
    _over_steps(axes)


def _over_steps(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.set_xlim(left=0)
    top = axes.dataLim.y1
    axes.set_ylim(0, top * 1.05 if isfinite(top) and top > 0 else 1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def figure(
    draw: Callable[[Axes], None], name: str, label: str, width: float = 4.6, height: float = 2.7
) -> str:
    """Draws a figure as SVG for a page; `name` makes its ids its own, `label` says it in words."""
    with matplotlib.rc_context(STYLE):
        whole = Figure(figsize=(width, height))
        draw(whole.subplots())
        text = io.StringIO()
        whole.savefig(
            text, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return _for_page(text.getvalue(), name, label)


def _for_page(svg: str, name: str, label: str) -> str:
    """Leaves the drawing alone.

    No fixed size, font or style of its own, no id that another figure has too.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", r"<svg \1>", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", svg)
    for drawn, shown in PAGE_COLOURS.items():
        svg = svg.replace(drawn, shown)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
