"""Every script of launch/: its syntax, what it is documented by, what it does with wrong use."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted([*Path("launch").glob("*.sh"), *Path("launch").glob("*.sbatch")])
STARTS = {"local.sh", "supervise.sh", "tpu_vm.sh", "slurm.sbatch", "gke_jobset.yaml"}
STARTS |= {"skypilot.yaml", "Dockerfile"}
"""Files that start the main command."""
TEXTS = [*(Path("launch") / name for name in sorted(STARTS)), Path("README.md")]
TEXTS += [Path("docs/clusters.md")]
STARTER = re.compile(
    r"(?:omnivore_jax\.main|launch/(?:local\.sh|supervise\.sh|slurm\.sbatch)"
    r"|tpu_vm\.sh (?:run|resume))(.*)"
)
"""What the flags of the main command stand after."""


def find(program):
    """A program that may have been installed beside Python."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return shutil.which(program, path=path)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts programs of this name before all others; each notes its arguments in `called`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    called = tmp_path / "called"
    called.touch()

    def make(name, body="exit 0"):
        script = f'#!/bin/bash\necho "{name} $*" >>{called}\n{body}\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)

    make.called = lambda: called.read_text().splitlines()
    return make


def call(*command, **environment):
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_bash_reads_the_script_and_shellcheck_finds_nothing(script):
    assert call("bash", "-n", str(script)) == (0, "", "")
    shellcheck = find("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    assert call(shellcheck, str(script)) == (0, "", "")


@pytest.mark.parametrize("name", sorted(STARTS))
def test_the_comment_at_the_top_has_the_command_that_starts_swin_l(name):
    lines = (Path("launch") / name).read_text().splitlines()
    top = [line for line in lines[: lines.index("")] if line] if "" in lines else lines
    assert any("configs/swin_l.py" in line for line in top if line.startswith("#")) or (
        name == "skypilot.yaml" and "  CONFIG: configs/swin_l.py" in lines
    )
    assert max(map(len, lines)) <= 110


def commands_in(text):
    """The words after each start of the main command, lines that go on joined."""
    joined = re.sub(r"\\\n[#\s]*", " ", text)
    return [found.group(1) for found in STARTER.finditer(joined)]


def test_modules_and_flags_that_are_named_exist():
    code, out, _ = call(sys.executable, "-m", "omnivore_jax.main", "--helpfull")
    known = set(re.findall(r"^  --\[?(?:no\])?(\w+)", out, re.MULTILINE))
    assert code == 0 and {"config", "workdir", "coordinator", "json"} <= known
    named = set()
    for path in TEXTS:
        text = path.read_text()
        for module in re.findall(r"-m (omnivore_jax\.\w+)", text):
            assert Path(f"{module.replace('.', '/')}.py").is_file(), (path, module)
        for config in re.findall(r"configs/[\w/]+\.py", text):
            assert Path(config).is_file(), (path, config)
        for script in re.findall(r"launch/[\w.]+\w", text):
            assert Path(script).is_file(), (path, script)
        for command in commands_in(text):
            flags = set(re.findall(r"(?<=\s)--(\w+)", command))
            assert flags <= known, (path, command)
            named |= flags
    assert {"config", "workdir", "coordinator", "num_processes", "process_id"} <= named


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["launch/local.sh"], "--config is missing"),
        (["launch/local.sh", "--workdir=a"], "--config is missing"),
        (["launch/tpu_vm.sh"], "'' is not create, setup, run, logs, stop, resume or delete"),
        (["launch/tpu_vm.sh", "--dry-run", "start"], "'start' is not create"),
        (["launch/tpu_vm.sh", "create", "now"], "create takes no now"),
        (["launch/tpu_vm.sh", "run", "--config=a"], "run needs --config=FILE and --workdir=/mnt"),
        (["launch/tpu_vm.sh", "setup"], "SHARE= is no NFS folder; give HOST:/FOLDER"),
        (["launch/slurm.sbatch", "--config=a"], "usage: sbatch launch/slurm.sbatch --config"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_and_2_and_calls_nothing(fake, command, says):
    for program in ("gcloud", "srun", "scontrol", "python"):
        fake(program)
    code, out, err = call(*command, SHARE="", SLURM_JOB_ID="")
    assert (code, out, len(err.splitlines())) == (2, "", 1) and says in err
    assert fake.called() == []


def test_local_runs_in_the_repository_with_its_python_and_all_flags(fake, tmp_path):
    fake("python", "pwd")
    python = {"PYTHON": f"{tmp_path}/bin/python"}
    script = str(Path("launch/local.sh").resolve())
    run = subprocess.run(
        [script, "--config=c.py", "--workdir=a b"],
        env=os.environ | python,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (0, f"{Path.cwd()}\n")
    assert fake.called() == ["python -m omnivore_jax.main --config=c.py --workdir=a b"]


SLURM = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "96"}


@pytest.mark.parametrize(
    ("code", "restarts", "ends", "again"),
    [
        (0, "0", 0, False),
        (1, "0", 1, False),
        (2, "0", 2, False),
        (42, "99", 0, True),
        (137, "0", 0, True),
        (134, "19", 0, True),
        (143, "3", 0, True),
        (137, "20", 137, False),
    ],
)
def test_a_slurm_job_queues_again_after_what_a_restart_mends(fake, code, restarts, ends, again):
    fake("srun", f"exit {code}")
    fake("scontrol")
    job = SLURM | {"SLURM_RESTART_COUNT": restarts}
    got, _, err = call("launch/slurm.sbatch", "--config=c.py", "--workdir=/a b", **job)
    assert got == ends and (f"ended with {code}, queueing job 7 again" in err) == again
    srun, *after = fake.called()
    assert srun == (
        "srun --kill-on-bad-exit=0 --cpus-per-task=96 "
        "python -m omnivore_jax.main --config=c.py --workdir=/a b"
    )
    assert after == (["scontrol requeue 7"] if again else [])


def test_a_container_stands_before_python(fake):
    fake("srun")
    run = {"CONTAINER": "apptainer exec --nv o.sif", "PYTHON": "python3"}
    code, _, _ = call("launch/slurm.sbatch", "--config=c.py", **SLURM, **run)
    assert code == 0
    assert fake.called()[0].endswith(
        "=96 apptainer exec --nv o.sif python3 -m omnivore_jax.main --config=c.py"
    )
