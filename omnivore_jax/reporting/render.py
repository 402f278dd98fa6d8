"""Turns a stored report and the files of its run into one self-contained page, and into text."""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jaxtyping import Int, UInt8
from markupsafe import Markup
from PIL import Image

from omnivore_jax.core.files import write_text
from omnivore_jax.reporting import plots, sheets
from omnivore_jax.reporting.goodput import ACTIVITIES
from omnivore_jax.reporting.report import DatasetResult, KnnResult, Report, SampleSheet
from omnivore_jax.reporting.runs import Run, config_lines, read_run, relation, siblings, specialists

TEMPLATES = Path(__file__).parent / "templates"
PAGE, SAMPLES = "report.html", "samples.html"
KINDS = {"image": "images", "video": "videos", "rgbd": "RGB-D"}
MAX_LABELLED = 40
"""More classes are not drawn as a matrix: only the pairs that are confused most are listed."""
MAX_PAIRS = 8
MAX_BAD = 20
LARGE = 64
"""Rows from which on a picture is a photograph.

JPEG is many times smaller, and its faults are not seen.
"""


class Confused(NamedTuple):
    """A mistake and how often it was made."""

    true: str
    predicted: str
    count: int
    share: float
    """Of the samples of the true class."""


def write_page(workdir: Path, compare: Sequence[Path] | None = None) -> Path:
    """Draws `report.html` of a run from what its folder holds; `compare`.

    Other runs, by default its siblings.

    Raises:
        UserError: a folder holds no run, a file is damaged, or the disk does not take the page.

    """
    run = read_run(workdir)
    others = [read_run(path) for path in (siblings(workdir) if compare is None else compare)]
    path = workdir / PAGE
    write_text(path, render(run, others))
    return path


def write_samples(path: Path, title: str, lead: str, samples: Sequence[SampleSheet]) -> None:
    """Draws a page of samples alone; `lead` says in a sentence where they come from.

    Raises:
        UserError: the disk does not take the page.

    """
    template = environment().get_template("samples.html")
    page = template.render(
        title=title, lead=lead, sheets=samples, kinds=KINDS, frames=sheets.FRAMES
    )
    write_text(path, page)


def render(run: Run, others: Sequence[Run] = ()) -> str:
    """Draws the page."""
    return (
        environment()
        .get_template("report.html")
        .render(
            run=run,
            report=run.report,
            kinds=KINDS,
            frames=sheets.FRAMES,
            curves={
                name: Markup(svg) for name, svg in plots.curves(run.history, run.datasets).items()
            },
            config=list(config_lines(run.config)),
            uncertainty=uncertainty,
            noise=lambda results: 100 * math.sqrt(2) * max(map(uncertainty, results)),
            confused=confused,
            activities=ACTIVITIES,
            most_labelled=MAX_LABELLED,
            most_bad=MAX_BAD,
            **_comparison(run, others),
        )
    )


def environment() -> jinja2.Environment:
    """Makes what draws the templates; everything is escaped, and has to be there."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "neighbours": _neighbours,
        "percent": percent,
        "points": lambda share: f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}"),
        "duration": duration,
        "address": address,
        "strip": strip,
        "number": lambda value: f"{value:,}",
    }
    return environment


def _comparison(run: Run, others: Sequence[Run]) -> dict[str, Any]:
    others = [
        other
        for other in others
        if other.report and other.workdir.resolve() != run.workdir.resolve()
    ]
    batching = [run, *(o for o in others if relation(run, o) == "batching")]
    pair = specialists(run, others)
    drawn = {}
    if pair is not None:
        values = {
            n: {"one model": pair.joint[n].top1, "trained alone": r.top1}
            for n, r in pair.alone.items()
        }
        drawn["specialists"] = Markup(plots.bars(values, ["one model", "trained alone"], "alone"))
    if len(batching) > 1:
        names = [_batching(other) for other in batching]
        values = {n: {_batching(o): o.results[n].top1 for o in batching} for n in run.results}
        drawn["batching"] = Markup(plots.bars(values, names, "batching"))
    rest = [other for other in others if relation(run, other) == "other"]
    together = [run, *rest]
    return {
        "specialists": pair,
        "batching": batching if len(batching) > 1 else [],
        "other_runs": rest,
        "overlaid": {name: Markup(_overlaid(name, together)) for name in run.history.loss if rest},
        "drawn": drawn,
    }


def _overlaid(name: str, runs: Sequence[Run]) -> str:
    losses = {run.name: run.history.loss[name] for run in runs if name in run.history.loss}
    steps = max(run.history.steps for run in runs)
    return plots.overlaid(losses, steps, f"overlaid-{name}", name)


def _neighbours(run: Run, line: KnnResult) -> float | None:
    """What another run got where this one has a line."""
    lines = run.report.knn if run.report else ()
    same = [
        r.top1
        for r in lines
        if (r.query, r.gallery, r.shows) == (line.query, line.gallery, line.shows)
    ]
    return same[0] if same else None


def _batching(run: Run) -> str:
    return run.report.run.batching if run.report else run.name


def percent(share: float | None) -> str:
    """A share as people read it; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """A time for people: 48 s, 6 min 5 s, 3 h 20 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def uncertainty(result: DatasetResult) -> float:
    """Half the width of the 95 % interval of a top-1 (Wilson).

    How far another sample of as many might be off.
    """
    z, p, n = 1.96, result.top1, result.n
    return z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)


def confused(result: DatasetResult, most: int = MAX_PAIRS) -> list[Confused]:
    """The pairs of classes that are confused most often."""
    matrix = result.confusion
    return list(_confused(matrix, result.classes, most)) if matrix is not None else []


def _confused(
    matrix: Int[np.ndarray, "classes classes"], names: Sequence[str], most: int
) -> Iterator[Confused]:
    wrong = matrix - np.diag(np.diag(matrix))
    for at in np.argsort(-wrong, axis=None, kind="stable")[:most]:
        true, predicted = np.unravel_index(at, wrong.shape)
        count = int(wrong[true, predicted])
        if count:
            yield Confused(
                names[int(true)], names[int(predicted)], count, count / int(matrix[true].sum())
            )


def strip(frames: UInt8[np.ndarray, "t h w 3"], most: int) -> UInt8[np.ndarray, "h w2 3"]:
    """Puts some frames of a clip side by side, a white line between them."""
    chosen = sheets.some_frames(frames[None], most)[0]
    padded = np.pad(chosen, [(0, 0), (0, 0), (0, 1), (0, 0)], constant_values=255)
    return np.concatenate(list(padded), axis=1)[:, :-1]


def address(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    """A picture as the address of itself."""
    kind, data = "JPEG" if len(picture) >= LARGE else "PNG", io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(data, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def summary_table(report: Report) -> str:
    """The figures that matter, for a terminal."""
    rows = [["validation", "top-1", "chance", "top-5", "samples"]]
    for r in report.datasets:
        rows.append([r.name, percent(r.top1), percent(r.chance), percent(r.top5), f"{r.n:,}"])
        if r.depth_only is not None:
            rows.append(
                [f"{r.name}, depth only", percent(r.depth_only), percent(r.chance), "", f"{r.n:,}"]
            )
    text = _table(rows) if report.datasets else ""
    if report.maps:
        rows = [["label maps", "mIoU", "chance", "pixels", "samples"]]
        for r in report.maps:
            figures = [percent(r.chance), percent(r.pixel_accuracy), f"{r.n:,}"]
            rows.append([r.name, percent(r.miou), *figures])
            if r.depth_only is not None:
                rows.append([f"{r.name}, depth only", percent(r.depth_only), "", "", f"{r.n:,}"])
        text += "\n\n" * bool(text) + _table(rows)
    if report.knn:
        k, tau = report.knn[0].k, report.knn[0].tau
        rows = [[f"neighbours (k = {k}, tau = {tau:g})", "top-1", "chance", "untrained", "queries"]]
        for r in report.knn:
            figures = [percent(r.top1), percent(r.chance), percent(r.untrained), f"{r.n:,}"]
            rows.append([f"{r.query} -> {r.gallery}, {r.shows}", *figures])
        text += "\n\n" + _table(rows)
    return text


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Aligns cells, the first column to the left, and rules off the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *lines = [
        "  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])]) for r in rows
    ]
    return "\n".join([head, "-" * len(head), *lines])
