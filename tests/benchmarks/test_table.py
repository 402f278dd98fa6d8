"""The tables of docs/performance.md are what the files of figures say."""

import pytest

from benchmarks import plot, table
from omnivore_jax.core.errors import UserError

MACHINE = {
    "cpu": "A CPU", "cores": 2, "instructions": ["avx2"], "memory_gib": 8.0, "load": 0.2,
    "python": "3.11.0",
}  # fmt: skip
SIDE = {
    "seconds": 0.5, "mfu": 0.4, "matmul_gflops": 90.0, "peak_gib": 1.25, "first_call_cold": 9.0,
    "first_call_warm": 2.0,
}  # fmt: skip
MODEL = {
    "benchmark": "model",
    "command": "python -m benchmarks.model --input=video",
    "machine": MACHINE,
    "model": "omnivore_swin_t",
    "input": "video",
    "shape": [1, 16, 224, 224, 3],
    "mode": "train",
    "dtype": "bfloat16",
    "attention": "chunked",
    "sides": {"ours": SIDE, "torch": SIDE | {"seconds": 1.0, "mfu": 0.2}},
    "ratios": {
        "torch": {
            "seconds": {"median": 0.5, "spread": 0.03},
            "cpu_seconds": {"median": 0.6, "spread": 0.01},
        }
    },
    "versions": {"torch": "2.1", "jax": "0.10"},
}
POINTS = [
    {"value": n, "tokens": 100 * n, "gflops": 2.0 * n, "seconds": 0.1 * n, "cpu_seconds": 0.2 * n,
     "gib": 0.5 * n}
    for n in (8, 16)
]  # fmt: skip
GROWTH = {
    "benchmark": "growth",
    "command": "python -m benchmarks.growth",
    "machine": MACHINE | {"load": 3.0},
    "mode": "forward",
    "axes": {
        "frames": {
            "of": "tokens", "points": POINTS, "time_exponent": 1.0, "memory_exponent": 0.9,
        }
    },
}  # fmt: skip
MARKS = "before\n<!-- model: begin -->\nold\n<!-- model: end -->\nbetween\n<!-- growth: begin -->\n<!-- growth: end -->\nafter\n"  # noqa: E501


def test_pages_are_what_the_files_say():
    for name in table.SECTIONS:
        text = (table.DOCS / name).read_text(encoding="utf-8")
        assert table.page(name, text, table.read_results(table.RESULTS)) == text


def test_tables_stand_between_their_marks_and_all_else_stays():
    made = table.page("performance.md", MARKS, [MODEL, GROWTH])
    lines = made.splitlines()
    assert lines[0] == "before" and "between" in lines and lines[-1] == "after"
    assert "old" not in lines
    assert "**A CPU, 2 cores, avx2, 8.0 GiB**: jax 0.10, torch 2.1; it was quiet" in lines
    assert (
        "| swin_t video 1 x 16 x 224² | train, bfloat16, chunked | torch | **0.50** (0.03) | 0.60 "
        "| 0.5 / 1 | 40% / 20% | 90 / 90 | 1.25 / 1.25 | 9 / 9 | 2.0 / 2.0 |" in lines
    )
    assert "    python -m benchmarks.model --input=video" in lines
    assert any("shared: up to 3.0 processes" in line for line in lines)
    assert (
        "| forward | frames: 8, 16 | 16 to 32 | 0.8 to 1.6 | 4.00 to 8.00 | tokens | "
        "1.00 | **1.00** | **0.90** |" in lines
    )
    assert table.page("performance.md", made, [MODEL, GROWTH]) == made


def test_a_page_without_marks_is_refused():
    with pytest.raises(UserError, match="has no <!-- model: begin --> .* put these lines back"):
        table.page("performance.md", "nothing", [])


def test_the_picture_is_the_same_every_time(tmp_path):
    for name in ("a.svg", "b.svg"):
        plot.draw([GROWTH], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "along frames" in (tmp_path / "a.svg").read_text()
