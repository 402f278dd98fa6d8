"""Writes tables and pictures of docs/performance.md and docs/scaling.md, from benchmarks/results/.

    python -m benchmarks.table [--check]

A file is what `python -m benchmarks.model ... --json=benchmarks/results/NAME.json`,
`benchmarks.growth` or `benchmarks.scaling` wrote. Only what stands between the two marks of a
section is written; --check says whether it is what the files say.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.growth import exponent
from benchmarks.machine import words
from benchmarks.plot import draw
from benchmarks.scaling import FIGURES, series
from omnivore_jax.core import command
from omnivore_jax.core.errors import UserError

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
HEAD = (
    "input", "mode", "beside", "time", "CPU time", "s", "MFU", "matmul", "peak GiB", "first call s",
    "again",
)  # fmt: skip
QUIET = 1.0
"""Processes that want to run beside ours, below which a machine counts as quiet."""


def main(argv: Sequence[str]) -> int:
    results = read_results(RESULTS)
    pages = {name: DOCS / name for name in SECTIONS}
    old = {name: path.read_text(encoding="utf-8") for name, path in pages.items()}
    new = {name: page(name, text, results) for name, text in old.items()}
    if flags.FLAGS.check:
        changed = [str(pages[name]) for name in pages if old[name] != new[name]]
        said = f"old: {', '.join(changed)}; python -m benchmarks.table"
        print(said if changed else "as the files say")
        return int(bool(changed))
    for name, path in pages.items():
        path.write_text(new[name], encoding="utf-8")
    draw([row for row in results if row["benchmark"] == "growth"], DOCS / "growth.svg")
    steps = series(row for row in results if row["benchmark"] == "scaling")
    figures = {key: (label, f"{key}_exponent") for key, label in FIGURES.items()}
    draw(steps, DOCS / "scaling.svg", figures)
    return 0


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Reads all files of figures, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def page(name: str, text: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Puts the tables of the results into the text of a page of docs/.

    Raises:
        UserError: a mark is missing.

    """
    for section, make in SECTIONS[name].items():
        found = [row for row in results if row["benchmark"] == section]
        begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
        head, begun, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not begun or not closed:
            raise UserError(f"docs/{name} has no {begin} ... {end}; put these lines back")
        text = f"{head}{begin}\n{make(found)}\n{end}{tail}"
    return text


def model_section(results: Iterable[Mapping[str, Any]]) -> str:
    """A table for every machine, and the commands."""
    parts = []
    for machine, rows in _by_machine(results).items():
        load = max(row["machine"]["load"] for row in rows)
        versions = {key: value for row in rows for key, value in row["versions"].items()}
        parts += [f"**{machine}**: {_with(versions)}{_shared(load)}", ""]
        parts += _table(HEAD, [line for row in rows for line in _lines(row)])
        parts += ["", *(f"    {row['command']}" for row in rows), ""]
    return "\n".join(parts).strip()


def _by_machine(results: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for row in results:
        machines.setdefault(words(row["machine"]), []).append(row)
    return machines


def _with(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _shared(load: float) -> str:
    if load < QUIET:
        return "; it was quiet"
    return f"; it was shared: up to {load:.1f} processes of others wanted to run when ours began"


def _lines(row: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    """A line for every side but ours."""
    ours = row["sides"]["ours"]
    batch, frames, size, _, _ = row["shape"]
    clip = f" x {frames}" if row["input"] == "video" else ""
    given = f"{row['model'].removeprefix('omnivore_')} {row['input']} {batch}{clip} x {size}²"
    run = (row["dtype"], row.get("attention", "auto"))
    mode = ", ".join([row["mode"], *(word for word in run if word not in ("float32", "auto"))])
    for side, ratio in row["ratios"].items():
        other = row["sides"][side]
        yield (
            given,
            mode,
            side,
            f"**{ratio['seconds']['median']:.2f}** ({ratio['seconds']['spread']:.2f})",
            f"{ratio['cpu_seconds']['median']:.2f}",
            _pair(ours, other, "seconds", ".3g"),
            _pair(ours, other, "mfu", ".0%"),
            _pair(ours, other, "matmul_gflops", ".0f"),
            _pair(ours, other, "peak_gib", ".2f"),
            _pair(ours, other, "first_call_cold", ".0f"),
            _pair(ours, other, "first_call_warm", ".1f"),
        )


def _pair(ours: Mapping[str, float], other: Mapping[str, float], key: str, form: str) -> str:
    return f"{ours[key]:{form}} / {other[key]:{form}}"


def growth_section(results: Iterable[Mapping[str, Any]]) -> str:
    """What every axis did to time and memory, and the exponents."""
    parts = []
    head = ("mode", "along", "GFLOPs", "s", "GiB", "powers of", "FLOPs", "time", "memory")
    for machine, rows in _by_machine(results).items():
        parts += [f"**{machine}**{_shared(max(row['machine']['load'] for row in rows))}", ""]
        parts += _table(
            head,
            [
                _growth_line(row["mode"], axis, found)
                for row in rows
                for axis, found in row["axes"].items()
            ],
        )
        parts += ["", *(f"    {row['command']}" for row in rows), ""]
    return "\n".join(parts).strip()


def _growth_line(mode: str, axis: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    points, of = found["points"], found["of"]
    flops = [point["gflops"] for point in points]
    base = flops if of == "FLOPs" else [point["tokens"] for point in points]
    return (
        mode,
        f"{axis}: {', '.join(str(point['value']) for point in points)}",
        _ends(points, "gflops", ".3g"),
        _ends(points, "seconds", ".2g"),
        _ends(points, "gib", ".2f"),
        of,
        f"{exponent(base, flops):.2f}",
        f"**{found['time_exponent']:.2f}**",
        f"**{found['memory_exponent']:.2f}**",
    )


def _ends(points: Sequence[Mapping[str, float]], key: str, form: str) -> str:
    return f"{points[0][key]:{form}} to {points[-1][key]:{form}}"


def scaling_section(results: Iterable[Mapping[str, Any]]) -> str:
    """What the compiler counts along every axis, and the powers."""
    rows = list(results)
    if not rows:
        return ""
    head = ("along", "model", "GFLOPs", "GB", "GiB of temporaries", "MB of collectives", "powers")
    parts = _table(head, [line for row in rows for line in _scaling_lines(row)])
    versions = {key: value for row in rows for key, value in row["versions"].items()}
    parts += ["", f"{_with(versions)}:", "", *(f"    {row['command']}" for row in rows)]
    return "\n".join(parts)


def _scaling_lines(told: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    model = f"{told['model'].removeprefix('omnivore_')} {tuple(told['depths'])}"
    for line in told["lines"]:
        for axis, found in line["axes"].items():
            points = found["points"]
            powers = [found[f"{key}_exponent"] for key in FIGURES]
            yield (
                f"{axis}: {', '.join(str(point['value']) for point in points)} ({line['mode']})",
                model,
                _ends(points, "gflops", ",.4g"),
                _ends(points, "gb", ".3g"),
                _ends(points, "temporaries_gib", ".2f"),
                _ends(points, "collectives_mb", ".4g"),
                ", ".join("-" if power is None else f"{power:z.2f}" for power in powers),
            )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


SECTIONS = {
    "performance.md": {"model": model_section, "growth": growth_section},
    "scaling.md": {"scaling": scaling_section},
}
"""What is written into every page, by the benchmark whose files say it."""


if __name__ == "__main__":
    flags.DEFINE_boolean("check", False, "Write nothing; exit code 1 if the page is old.")
    command.run(main)
