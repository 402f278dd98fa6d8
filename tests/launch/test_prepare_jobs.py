import os
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from omnivore_jax.ingest.layouts.table import LAYOUTS
from omnivore_jax.prepare import Options

SBATCH, JOB = Path("launch/prepare_slurm.sbatch"), Path("launch/prepare_k8s.yaml")
FLAGS = {option.name for option in fields(Options)}


def flags_in(arguments):
    return dict(re.fullmatch(r"--(\w+)=(.*)", text).groups() for text in arguments)


def slurm(tmp_path, **environment):
    """The arguments with which a task of the array calls Python."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    python.chmod(0o755)
    run = subprocess.run(
        ["bash", str(SBATCH)],
        env={"PATH": os.environ["PATH"], "PYTHON": str(python)} | environment,
        capture_output=True,
        text=True,
    )
    return run.returncode, run.stdout.splitlines(), run.stderr


def test_a_task_of_the_slurm_array_makes_its_shards(tmp_path):
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_CPUS_PER_TASK": "8"}
    code, said, _ = slurm(tmp_path, SRC="/a b", OUT="/c", **task)
    assert code == 0 and said[:3] == ["-m", "omnivore_jax.prepare", "kinetics400"]
    flags = flags_in(said[3:])
    assert set(flags) <= FLAGS and said[2] in LAYOUTS
    assert (flags["src"], flags["shard"], flags["threads"]) == ("/a b", "3/16", "8")


@pytest.mark.parametrize("given", [{"SRC": "/a"}, {"OUT": "/c"}])
def test_a_slurm_job_without_a_folder_says_which(tmp_path, given):
    code, _, said = slurm(tmp_path, SLURM_ARRAY_TASK_ID="0", SLURM_ARRAY_TASK_COUNT="1", **given)
    assert code != 0 and "give the folder of" in said


def test_the_pods_of_the_job_share_the_shards():
    spec = yaml.safe_load(JOB.read_text())["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    command = container["command"]
    flags = flags_in(command[4:])
    assert command[2:4] == ["omnivore_jax.prepare", "kinetics400"] and set(flags) <= FLAGS
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert flags["shard"] == f"$(JOB_COMPLETION_INDEX)/{spec['completions']}"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # as podFailurePolicy asks


def test_a_task_of_the_grid_has_the_axes_as_words_and_its_share(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SBATCH", Path("launch/grid_slurm.sbatch"))
    task = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "8"}
    code, said, _ = slurm(tmp_path, CONFIG="c.py:pets", WORKDIR="/a b", AXES="x=1,2 y=3", **task)
    assert code == 0 and said[1:4] == ["omnivore_jax.grid", "x=1,2", "y=3"]
    assert flags_in(said[4:]) == {"config": "c.py:pets", "workdir": "/a b", "shard": "1/8"}
    assert slurm(tmp_path, CONFIG="c.py", WORKDIR="/a", **task)[0] != 0
