"""How a compiled step grows: its points, what is said of them, and two machines compiled for."""

import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from benchmarks import plot, scaling, table  # noqa: E402
from omnivore_jax.core.errors import UserError  # noqa: E402
from omnivore_jax.experiment.ahead import Figures  # noqa: E402
from omnivore_jax.train.collectives import Collective  # noqa: E402
from omnivore_jax.train.microbatch import split_batch  # noqa: E402

ASKED = {
    "generation": "v5e", "frames": ["8", "16"], "sizes": ["224", "big"], "batches": ["2", "3"],
    "devices": ["v5e:1x1", "v5e:2x2", "v5p:2x2x1"], "fsdp": ["1", "4"],
}  # fmt: skip


def points(axis, **changes):
    return scaling.points(SimpleNamespace(**ASKED | changes), axis)


def test_flags_make_points_along_an_axis():
    (line,) = points("frames").values()
    assert line[1] == scaling.Point(16, "v5e:1x1", 1, "kinetics400", batch=2, frames=16)
    along = points("devices")
    assert {name: [p.value for p in line] for name, line in along.items()} == {
        "v5e, fsdp 1": [1, 4],
        "v5p, fsdp 1": [4],
        "v5e, fsdp 4": [4],
        "v5p, fsdp 4": [4],
    }


@pytest.mark.parametrize(
    ("axis", "changes", "says"),
    [
        ("depth", {}, "--axes=depth is not known; use some of frames, size, batch, devices"),
        ("batch", {}, "--batches: give even numbers"),
        ("batch", {"batches": ["2"]}, "--batches=2; give two or more"),
        ("size", {}, "--sizes=big; give numbers above 0"),
        ("frames", {"generation": "h100"}, "--generation=h100; use one of v4, v5e"),
        ("devices", {"devices": ["v5e:3x3"]}, "v5e:3x3 is not known"),
        ("devices", {"devices": ["h100:8"]}, "--devices=h100:8; give TPUs"),
    ],
)
def test_wrong_flags_are_named(axis, changes, says):
    with pytest.raises(UserError, match=says):
        points(axis, **changes)


def test_a_wrong_use_of_the_command_is_one_line_and_exit_2():
    command = [sys.executable, "-m", "benchmarks.scaling", "--model=swin_x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("scaling.py: --model=swin_x is not in configs/")
    assert done.stderr.count("\n") == 1


def stub(settings, point):
    """What a compiler would say whose counts grow with the samples of a device."""
    shards = point.value if point.topology != "v5e:1x1" else 1
    changed = scaling.at(settings, point, shards)
    name = point.dataset
    split = split_batch(changed.datasets[name].batch_size, shards, changed.training[name])
    assert (split.count, split.micro) == (1, point.batch)
    gradients = Collective("all-reduce", frozenset({"f32"}), 10, 40_000_000, 10, False)
    every = [gradients] if shards > 1 else []
    work = 1e9 * point.batch * point.frames
    memory = {"arguments": 0, "outputs": 0, "temporaries": 2**30, "beside": 0, "total": 0}
    said = {"fits": True, "flops": work, "accessed": work**2 / 1e9, "collectives": every}
    return Figures(name, splits={name: split}, seconds=1.0, **memory, **said)


def told(monkeypatch):
    monkeypatch.setattr(scaling, "compiled", stub)
    settings = scaling.settings_of("swin_t", [1])
    lines = [
        (name, axis, line) for axis in ("frames", "devices") for name, line in points(axis).items()
    ]
    progress = scaling.Progress(sum(len(line) for _, _, line in lines))
    found = [
        {
            "mode": name,
            "axes": {axis: scaling.grown(axis, [progress.row(settings, p) for p in line])},
        }
        for name, axis, line in lines
    ]
    return {
        "benchmark": "scaling", "command": "python -m benchmarks.scaling", "model": "swin_t",
        "depths": [1], "lines": found, "versions": {"jax": "0.10"},
        "machine": {"cpu": "A CPU", "cores": 2, "instructions": [], "memory_gib": 8.0},
    }  # fmt: skip


def test_powers_are_fitted_said_and_drawn(monkeypatch, tmp_path, capsys):
    figures = told(monkeypatch)
    assert "7 of 7: v5p:2x2x1 4, 1 s, 0 s left" in capsys.readouterr().err
    frames, devices = figures["lines"][0]["axes"]["frames"], figures["lines"][1]["axes"]["devices"]
    assert frames["gflops_exponent"] == pytest.approx(1)
    assert frames["gb_exponent"] == pytest.approx(2)
    assert devices["collectives_mb_exponent"] is None  # one chip has none
    assert devices["gflops_exponent"] == pytest.approx(0)
    said = scaling.text(figures)
    assert "frames, v5e:1x1: gflops ~ tokens^1.00, gb ~ tokens^2.00" in said
    marks = "<!-- scaling: begin -->\n<!-- scaling: end -->"
    lines = table.page("scaling.md", marks, [figures]).splitlines()
    assert any(
        line.startswith("| devices: 1, 4 (v5e, fsdp 1) | swin_t (1,) | 4 to") for line in lines
    )
    drawn = {key: (label, f"{key}_exponent") for key, label in scaling.FIGURES.items()}
    plot.draw(scaling.series([figures]), tmp_path / "a.svg", drawn)
    assert "MB of collectives" in (tmp_path / "a.svg").read_text()


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("libtpu") is None, reason="the compiler for TPUs is not installed: pip install libtpu"
)
def test_gradients_weigh_the_same_on_any_number_of_chips():
    settings = scaling.settings_of("swin_t", [1])
    rows = [
        scaling.row(settings, point, scaling.compiled(settings, point))
        for point in (
            scaling.Point(1, "v5e:1x1", batch=2, size=64),
            scaling.Point(4, "v5e:2x2", batch=2, size=64),
            scaling.Point(16, "v5e:4x4", batch=2, size=64),
        )
    ]
    one, four, sixteen = rows
    assert one["collectives"] == [] and one["gflops"] > 0
    assert four["collectives_mb"] == sixteen["collectives_mb"] > 0
    assert {kind["kind"] for kind in four["collectives"]} == {"all-reduce"}
    assert not any(kind["in_loop"] for row in rows for kind in row["collectives"])
