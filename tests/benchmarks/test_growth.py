"""How cost grows: fitted exponents, and a run on a model of one stage."""

import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from benchmarks import growth  # noqa: E402
from benchmarks.job import Job  # noqa: E402
from omnivore_jax.core.errors import UserError  # noqa: E402
from omnivore_jax.model.variants import model_config  # noqa: E402

ONE_STAGE = model_config(
    "tiny", depths=(1,), num_heads=(1,), window=(2, 4, 4), position_bias="joint"
)


def test_an_exponent_is_the_slope_of_logarithms():
    assert growth.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert growth.exponent([10, 1000], [7, 7]) == pytest.approx(0)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_points_are_measured_in_turn():
    job = Job("ours", "", "", mode="forward", kind="image", batch=1, frames=1, size=32)
    chosen = [growth.Point(batch, ONE_STAGE, growth.replace(job, batch=batch)) for batch in (2, 64)]
    found = growth.measure("batch", chosen, rounds=1)
    small, large = found["points"]
    assert (small["tokens"], large["tokens"]) == (2 * 64, 64 * 64)
    assert large["gflops"] == pytest.approx(32 * small["gflops"])
    assert large["cpu_seconds"] > small["cpu_seconds"] > 0 and found["of"] == "tokens"
    assert "batch: time ~ tokens^" in growth.text(
        {"machine": growth.describe(), "mode": "forward", "rounds": 1, "axes": {"batch": found}}
    )


ASKED = {
    "model": "swin_t", "mode": "train", "frames": ["8", "16"], "sizes": ["224", "big"],
    "batches": ["1"], "models": ["swin_t", "swin_x"],
}  # fmt: skip


def test_flags_make_points_along_an_axis():
    eight, sixteen = growth.points(SimpleNamespace(**ASKED), "frames", cores=2)
    assert (eight.job.kind, eight.job.frames, sixteen.job.frames) == ("video", 8, 16)
    assert eight.config.name == "omnivore_swin_t" and eight.job.mode == "train"


@pytest.mark.parametrize(
    ("axis", "says"),
    [
        ("depth", "--axes=depth is not known; use some of frames, size, batch, model"),
        ("batch", "--batches=1; give two or more to fit a line"),
        ("size", "--sizes=big; give numbers above 0"),
        ("model", "--model: model 'swin_x' is not known"),
    ],
)
def test_wrong_flags_are_named(axis, says):
    with pytest.raises(UserError, match=says):
        growth.points(SimpleNamespace(**ASKED), axis, cores=2)
