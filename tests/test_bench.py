"""How fast a config trains here: the demo's own steps and loader; wrong uses are one line."""

import json
import sys

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from omnivore_jax import bench
from omnivore_jax.core import command
from omnivore_jax.core.config_file import load
from omnivore_jax.experiment.settings import resolve

CONFIG = "tests/before/config.py"
"""The demo with a smaller model and batches."""
SMALL = [f"--config={CONFIG}", "--config.data.demo_video.batch_size=10", "--steps=3"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process; gives exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench.py", *map(str, arguments)])
        monkeypatch.setattr("omnivore_jax.experiment.speed.open_cache", lambda choice: None)
        one = jax.devices()[:1]  # eight that share two cores wait for each other
        monkeypatch.setattr(jax, "devices", lambda *_: one)
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            flags.FLAGS.unparse_flags()
            command.run(bench.main)
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return call


def test_every_step_of_the_demo_and_its_loader_are_timed(run):
    code, out, err = run(*SMALL, "--json")
    assert code == 0, err
    told = json.loads(out)
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
    assert sum(data["samples"].values()) == pytest.approx(26, abs=4)  # 3 steps
    assert data["samples_per_second"] > 0
    assert (data["limit"] == "data") == (data["seconds"] > data["device_seconds"])


def test_mixed_batches_are_one_step_and_missing_data_is_said(run, tmp_path):
    code, out, err = run(
        *SMALL,
        "--config.train.batching=mixed",
        "--config.train.batch_size=26",
        "--config.data.demo_image.source=records",
        "--config.data.demo_image.num_train=4000",
        f"--config.data.root={tmp_path}",
    )
    assert code == 0, err
    lines = out.splitlines()
    row = next(line for line in lines if line.startswith("mixed"))
    assert int(row.split()[1]) == pytest.approx(26, abs=2)
    assert f"data, not measured: dataset 'demo_image' is not in {tmp_path}/demo_image" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--config is missing; name one, --config=configs/demo.py for example"),
        (["--config=configs/demo.py", "--steps=0"], "--steps=0"),
        (["--config=configs/demo.py", "--config.mesh.fsdp=3"], "mesh.fsdp=3"),
        (["--config=configs/demo.py", "more"], "'more' is not a flag"),
        (["--config=configs/demo.py", "--config.train.stesp=4"], 'Did you mean "steps"'),
    ],
)
def test_a_wrong_use_is_one_line_and_exit_2(run, arguments, says):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert says in err, err
