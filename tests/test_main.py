"""The mission's command: wrong uses are one line and exit 2; a small run goes all the way."""

import json
import sys
from importlib.util import find_spec

import grain  # noqa: F401  (defines its flags, which would else be gone once they are put back)
import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from omnivore_jax import main
from omnivore_jax.core import command, dist

SMALL = [
    "--config.data.demo_image.batch_size=8",
    "--config.data.demo_rgbd.batch_size=8",
    "--config.data.demo_video.batch_size=8",
    "--config.train.steps=6",
    "--config.eval.retrieval=40",
    "--config.log.tensorboard=False",
]
"""A few steps of the demo."""


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process; gives exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
        monkeypatch.setattr(
            dist, "initialize_from_flags", lambda: None
        )  # this process has its devices already
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            flags.FLAGS.unparse_flags()
            command.run(main.main)
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return call


WRONG = {
    "an unknown key": (["--config.train.stesp=4"], 'Did you mean "steps"'),
    "a wrong type": (["--config.optimizer.peak=fast"], "could not convert string to float: 'fast'"),
    "a mesh of more devices than there are": (
        ["--config.mesh.data=3", "--config.mesh.fsdp=3"],
        "mesh.data=3 x mesh.fsdp=3 x mesh.tensor=1 does not fit the 8 devices; use",
    ),
    "a URL for the workdir": (["--workdir=https://host/run"], "https://host/run is a URL"),
    "a store that Orbax does not write to": (
        ["--workdir=s3://bucket/run"],
        "Orbax writes checkpoints to disks and gs:// only"
        if find_spec("s3fs")
        else "s3://bucket/run needs the package s3fs",
    ),
    "a workdir that cannot be made": (
        ["--workdir={tmp}/file/run"],
        "file/run cannot be made: Not a directory",
    ),
    "an empty head": (["--config.data.demo_image.head="], "data.demo_image.head='' is no name"),
    "a head with two numbers of classes": (
        ["--config.data.demo_video.head=image"],
        "gives head 'image' 10 classes",
    ),
    "depth without a depth embedding": (
        ["--config.model.depth_embed=none"],
        "but data.demo_rgbd has depth",
    ),
    "a dataset that is not there": (
        ["--config.data.demo_image.source=records", "--config.data.root={tmp}"],
        "dataset 'demo_image' is not in {tmp}/demo_image; make it with: python -m "
        "omnivore_jax.prepare",
    ),
    "a URL for the config": (["--config=gs://bucket/run"], "gs://bucket/run is a URL"),
    "a URL for the data": (["--config.data.root=https://host/run"], "https://host/run is a URL"),
    "a URL for weights": (["--config.init_from=https://host/run"], "https://host/run is a URL"),
    "no such backend": (
        ["--config.attention.backend=magic"],
        "attention.backend='magic' is not known; use one of auto, ",
    ),
    "depth where a picture is expected": (
        ["--config.data.demo_rgbd.kind=image"],
        "the embedded dataset has 'rgbd'",
    ),
    "no such model": (
        ["--config.model.name=swin_xl"],
        "model 'swin_xl' is not known; use one of omnivore_swin_t",
    ),
    "no such config": (
        ["--config={tmp}/nothing.py"],
        "--config={tmp}/nothing.py cannot be read: No such file or directory",
    ),
    "no such variant": (["--config=configs/demo.py:sound"], "sound is not known; use joint"),
    "a bad mesh": (["--config.mesh.fsdp=3"], "mesh.fsdp=3"),
    "a flag that is none": (["steps=3"], "'steps=3' is not a flag"),
    "nothing to do": (["--config.train.epochs=0"], "train.epochs=0.0, steps=0: nothing to do"),
    "nothing to evaluate": (["--mode=eval"], "holds no run to evaluate; train first"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_use_is_one_line_and_exit_2(name, run, tmp_path):
    arguments, says = WRONG[name]
    (tmp_path / "file").write_text("")
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    config = (
        [] if any(a.startswith("--config=") for a in arguments) else ["--config=configs/demo.py"]
    )
    code, out, err = run(*config, f"--workdir={tmp_path}/run", *arguments)
    assert (code, out) == (2, "")
    assert says.format(tmp=tmp_path) in err and err.count("\n") == 1, err


def test_every_missing_dataset_has_its_line(run, tmp_path):
    code, _, err = run(
        "--config=configs/swin_l.py", f"--config.data.root={tmp_path}", f"--workdir={tmp_path}/run"
    )
    assert code == 2
    lines = err.splitlines()
    for name, line in zip(
        ["imagenet", "imagenet21k", "kinetics400", "sunrgbd"], lines, strict=True
    ):
        assert (
            f"dataset '{name}' is not in {tmp_path}/{name}" in line
            and f"--out={tmp_path}/{name}" in line
        )


@pytest.mark.slow
def test_a_run_trains_evaluates_reports_and_is_not_trained_again(run, tmp_path):
    command = ["--config=configs/demo.py", f"--workdir={tmp_path}", "--json", *SMALL]
    code, out, err = run(*command)
    assert code == 0, err
    figures = json.loads(out)
    assert [row["name"] for row in figures["datasets"]] == ["demo_image", "demo_rgbd", "demo_video"]
    assert all(row["n"] == 1000 for row in figures["datasets"])
    assert {row["gallery"] for row in figures["knn"]} == {"demo_video", "demo_rgbd"}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train" in row] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "report.html").stat().st_size > 10_000
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["versions"]["jax"] == jax.__version__ and stored["config"]["train"]["steps"] == 6

    code, again, _ = run(*command)
    assert code == 0 and json.loads(again) == figures

    code, out, err = run(*command, "--config.train.seed=1")
    assert code == 2 and "train.seed was 0, is 1" in err and "--allow_config_change" in err
