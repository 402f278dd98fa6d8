"""A page of a grid of runs: scores over the values of the first key, a line for the rest each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from omnivore_jax.core.files import write_text
from omnivore_jax.reporting import plots, render


def write_grid(path: Path, config: str, figures: Mapping[str, Any]) -> None:
    """Draws the page; `figures` are those of `grid --json`.

    Raises:
        UserError: the disk does not take it.

    """
    ended = [row for row in figures["points"] if row["score"] is not None]
    first, *rest = list(ended[0]["values"])
    values = list(dict.fromkeys(row["values"][first] for row in figures["points"]))

    def others(row: Mapping[str, Any]) -> str:
        return ", ".join(f"{key}={row['values'][key]}" for key in rest)

    def draw(axes: Axes) -> None:
        for number, name in enumerate(dict.fromkeys(map(others, ended))):
            rows = sorted(
                (values.index(row["values"][first]), row["score"])
                for row in ended
                if others(row) == name
            )
            axes.plot(*zip(*rows, strict=True), label=name, **plots.look(number))
        axes.set_xticks(range(len(values)), values)
        axes.set_xlabel(first)
        axes.set_ylabel("score")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        if rest:
            axes.legend(frameon=False)

    words = ", ".join(f"{row['values']}: {row['score']:.1%}" for row in ended)
    drawn = plots.figure(draw, "grid", words, width=6.4, height=3.6)
    template = render.environment().get_template("grid_page.html")
    keys = [first, *rest]
    write_text(path, template.render(config=config, figures=figures, keys=keys, drawn=drawn))
