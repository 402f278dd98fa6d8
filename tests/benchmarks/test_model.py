"""The comparison with other libraries: its parts, and a run on a model of one stage."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from benchmarks import model, worker  # noqa: E402
from benchmarks.job import Job, config_of  # noqa: E402
from benchmarks.machine import describe  # noqa: E402
from omnivore_jax.core.errors import UserError  # noqa: E402
from omnivore_jax.model.variants import model_config  # noqa: E402

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
ONE_STAGE = model_config(
    "tiny", depths=(2,), num_heads=(1,), window=(2, 4, 4), position_bias="joint"
)
IMAGE = Job("ours", "", "", mode="forward", kind="image", batch=2, frames=1, size=32)


ASKED = {
    "input": "image", "mode": "forward", "against": ["torch", "timm"], "batch": 0, "frames": 0,
    "size": 224, "dtype": "float32", "threads": 0, "attention": "auto",
}  # fmt: skip


def sides(**changes):
    return model.sides(SimpleNamespace(**ASKED | changes), cores=2)


def test_flags_make_a_job_for_every_side():
    ours, torch, timm = sides()
    assert (ours.batch, ours.frames, ours.threads) == (8, 1, 2)
    assert timm == replace(ours, side="timm") and torch == replace(ours, side="torch")
    assert sides(input="video", against=["torch-compile"], threads=1)[1] == Job(
        "torch-compile", "", "", "forward", "video", batch=1, frames=16, size=224, threads=1
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"against": ["keras"]}, "--against=keras is not known; use some of torch, "),
        ({"against": ["timm"], "input": "rgbd"}, "timm has no model for --input=rgbd"),
        ({"frames": 4}, "--input=image has one frame; use --input=video"),
        ({"threads": 4096}, "--threads=4096: this machine has 2 cores"),
    ],
)
def test_wrong_flags_are_named(changes, says):
    with pytest.raises(UserError, match=says):
        sides(**changes)
    with pytest.raises(UserError, match="--model: model 'swin_xl' is not known; use one of "):
        config_of("swin_xl")


def test_a_wrong_use_of_the_command_is_one_line_and_exit_2():
    command = [sys.executable, "-m", "benchmarks.model", "--against=keras"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("model.py: --against=keras") and done.stderr.count("\n") == 1


@LINUX
@pytest.mark.parametrize(
    ("mode", "peers"),
    [
        ("forward", ["torch"]),
        pytest.param("train", ["torch", "torchvision", "timm"], marks=pytest.mark.slow),
    ],
)
def test_sides_agree_and_are_measured(mode, peers):
    sides = [replace(IMAGE, mode=mode, side=name) for name in ("ours", *peers)]
    told = model.compare(sides, ONE_STAGE, rounds=2) | {"machine": describe()}
    assert list(told["sides"]) == ["ours", *peers]
    for side, row in told["sides"].items():
        assert 0 < row["mfu"] < 2 and row["peak_gib"] > 0 and row["first_call_cold"] > 0
        assert row["difference"] < model.TOLERANCE[mode]["float32"]
        assert (side == "ours") == (row["difference"] == 0)
    assert told["versions"].keys() >= {"jax", "torch"}
    assert peers[-1] in model.text(told) and "attention auto" in model.text(told)


@LINUX
def test_a_side_that_fails_says_why_in_a_line(tmp_path):
    with pytest.raises(UserError, match=r"the side 'torch' failed: .*card.json"):
        model.first_call(replace(IMAGE, side="torch", folder=str(tmp_path), cache=str(tmp_path)))


def test_what_computes_something_else_is_refused():
    assert model.difference([2.0, -4.0], [2.0, -3.0]) == 0.25
    assert model.difference([2.0], [2.0, 2.0]) == float("inf")
    with pytest.raises(UserError, match="differ from ours by 2.5e-01 .* is not timed"):
        model._check("torch", 0.25, 1e-4)
    with pytest.raises(UserError):
        model._check("torch", float("nan"), 1.0)


class Told:
    """A worker that takes as long as it is told."""

    def __init__(self, name, seconds, order):
        self.name, self.seconds, self.order = name, iter(seconds), order

    def ask(self, word):
        self.order.append((self.name, word))
        seconds = next(self.seconds) if word == "call" else 0
        return 1e9 if word == "matmul" else {"seconds": seconds, "cpu_seconds": 2 * seconds}


def test_sides_take_turns_and_are_compared_round_by_round():
    order = []
    workers = {"ours": Told("ours", [1, 3, 1], order), "torch": Told("torch", [2, 4, 1], order)}
    measured = model.measure(workers, rounds=3)
    calls = [name for name, word in order if word == "call"]
    assert calls == ["ours", "torch", "torch", "ours", "ours", "torch"]
    figures = model._figures(IMAGE, ONE_STAGE, measured, 3)
    assert figures["ratios"]["torch"]["seconds"]["median"] == 0.75
    assert figures["sides"]["ours"]["samples_per_second"] == 2
    assert figures["sides"]["torch"]["mfu"] == figures["gflops"] / 2


@LINUX
def test_memory_is_that_of_the_moment_and_the_most_so_far():
    worker.forget_peak()
    before = worker.resident("VmHWM")
    block = bytearray(200 << 20)
    block[:: 1 << 12] = bytes(len(block[:: 1 << 12])).replace(b"\0", b"\1")
    assert worker.resident("VmHWM") - before > 150 << 20
    del block
    worker.forget_peak()
    assert worker.resident("VmHWM") - before < 100 << 20
