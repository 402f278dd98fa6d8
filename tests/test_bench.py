"""How fast a config trains here: the demo's own steps and loader; wrong uses are one line."""

import subprocess
import sys

import jax
import pytest

from omnivore_jax.core.config_file import load
from omnivore_jax.core.errors import UserError
from omnivore_jax.experiment import speed
from omnivore_jax.experiment.settings import resolve

CONFIG = "tests/before/config.py"
"""The demo with a smaller model and batches."""
STEPS = 3


@pytest.fixture
def measure(monkeypatch):
    """Measures the config with changes; on one device: eight on two cores wait for each other."""
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: one)
    monkeypatch.setattr(speed, "open_cache", lambda choice: None)

    def call(**changes):
        config = load(CONFIG)
        config.data.demo_video.batch_size = 10
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
        return speed.measure(config.to_dict(), STEPS)

    return call


def test_every_step_of_the_demo_and_its_loader_are_timed(measure):
    told = measure()
    assert list(told["steps"]) == ["demo_image", "demo_rgbd", "demo_video"]
    settings = resolve(load(CONFIG).to_dict())
    for name, row in told["steps"].items():
        samples = {"demo_video": 10}.get(name, 8)
        assert row["samples"] == {name: samples}
        assert row["flops"] == 3 * samples * settings.forward_flops(name)
        assert row["samples_per_second"][name] == pytest.approx(samples / row["seconds"])
        assert row["seconds"] > 0 and row["compile_seconds"] > 0 and row["memory_gib"] > 0
        assert row["mfu"] == pytest.approx(
            row["flops"] / row["seconds"] / told["matmul_teraflops"] / 1e12
        )
    assert told["devices"] == 1 and told["peak_teraflops"] is None
    data = told["data"]
    assert sum(data["samples"].values()) == pytest.approx(26, abs=4)
    assert (data["limit"] == "data") == (data["seconds"] > data["device_seconds"])
    text = speed.render(told)
    assert f"what limits: the {data['limit']}; on a CPU both share its cores" in text


def test_mixed_batches_are_one_step_and_missing_data_is_said(measure, tmp_path):
    told = measure(
        train__batching="mixed",
        train__batch_size=26,
        data__demo_image__source="records",
        data__demo_image__num_train=4000,
        data__root=str(tmp_path),
    )
    assert list(told["steps"]) == ["mixed"]
    assert sum(told["steps"]["mixed"]["samples"].values()) == pytest.approx(26, abs=2)
    missing = f"dataset 'demo_image' is not in {tmp_path}/demo_image"
    assert told["data"]["missing"][0].startswith(missing)
    assert f"data, not measured: {missing}" in speed.render(told)


def test_a_step_that_does_not_fit_is_one_line(measure, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(speed, "time_step", full)
    says = "a step of demo_image does not fit .* lower data.demo_image.microbatch"
    with pytest.raises(UserError, match=says):
        measure()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--config is missing; name one, --config=configs/demo.py for example"),
        (["--config=configs/demo.py", "--config.mesh.fsdp=3"], "mesh.fsdp=3"),
        (["--config=configs/demo.py", "--config.train.stesp=4"], 'Did you mean "steps"'),
    ],
)
def test_a_wrong_use_is_one_line_and_exit_2(arguments, says):
    command = [sys.executable, "-m", "omnivore_jax.bench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and done.stderr.count("\n") == 1, done.stderr
