"""A page of a sweep: a figure over what was changed, a line for each of the weights (Figure 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from omnivore_jax.core.files import write_text
from omnivore_jax.reporting import plots, render


def write_sweep(path: Path, title: str, axis: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the page; `rows` are those of `evaluate sweep --json`.

    Raises:
        UserError: the disk does not take it.

    """
    figure = "miou" if "miou" in rows[0] else "top1"
    values = list(dict.fromkeys(row["value"] for row in rows))
    names = list(dict.fromkeys(row["weights"] for row in rows))
    found = {(row["weights"], row["value"]): row[figure] for row in rows}

    def draw(axes: Axes) -> None:
        for number, name in enumerate(names):
            there = [k for k, value in enumerate(values) if (name, value) in found]
            shares = [found[name, values[k]] for k in there]
            axes.plot(there, shares, label=name, **plots.look(number))
        axes.set_xticks(range(len(values)), values)
        axes.set_xlabel(axis)
        axes.set_ylabel("mIoU" if figure == "miou" else "top-1")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(frameon=False)

    words = ", ".join(f"{row['weights']} at {row['value']}: {row[figure]:.1%}" for row in rows)
    drawn = plots.figure(draw, "sweep", words, width=6.4, height=3.6)
    template = render.environment().get_template("sweep_page.html")
    content = {"title": title, "axis": axis, "values": values, "names": names, "found": found}
    write_text(path, template.render(**content, drawn=drawn, view=rows[0]["view"]))
