"""Writes the tables of docs/performance.md and draws docs/growth.svg, from benchmarks/results/.

    python -m benchmarks.table [--check]

A file is what `python -m benchmarks.model ... --json=benchmarks/results/NAME.json` or
`benchmarks.growth` wrote. Only what stands between the two marks of a section is written; --check
says whether it is what the files say.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.growth import exponent
from benchmarks.machine import words
from benchmarks.plot import draw
from omnivore_jax.core import command
from omnivore_jax.core.errors import UserError

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PLOT = PAGE.with_name("growth.svg")
HEAD = (
    "input", "mode", "beside", "time", "CPU time", "s", "MFU", "matmul", "peak GiB", "first call s",
    "again",
)  # fmt: skip
QUIET = 1.0
"""Processes that want to run beside ours, below which a machine counts as quiet."""


def main(argv: Sequence[str]) -> int:
    results = read_results(RESULTS)
    old = PAGE.read_text(encoding="utf-8")
    new = page(old, results)
    if flags.FLAGS.check:
        print("as the files say" if old == new else f"{PAGE} is old; python -m benchmarks.table")
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    draw([row for row in results if row["benchmark"] == "growth"], PLOT)
    return 0


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Reads all files of figures, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def page(text: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Puts the tables of the results into the text of the page.

    Raises:
        UserError: a mark is missing.

    """
    made = {"model": model_section, "growth": growth_section}
    for name, make in made.items():
        found = [row for row in results if row["benchmark"] == name]
        text = put(text, name, make(found))
    return text


def put(text: str, section: str, content: str) -> str:
    """Replaces what stands between the marks of a section."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise UserError(f"docs/performance.md has no {begin} ... {end}; put these lines back")
    return f"{head}{begin}\n{content}\n{end}{tail}"


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


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


if __name__ == "__main__":
    flags.DEFINE_boolean("check", False, "Write nothing; exit code 1 if the page is old.")
    command.run(main)
