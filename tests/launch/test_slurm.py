"""launch/slurm.sbatch under a real Slurm on this machine."""

import os
import signal
import sys
import time

import pytest

from tests.launch.slurm_cluster import Unavailable, cluster
from tests.whole_runs import (
    SMALL,
    assert_same_run,
    compiling,
    flags_of,
    last_step,
    training_rows,
)

pytestmark = pytest.mark.slow
STEPS = SMALL["train.steps"]
NODE = ["--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1"]
PYTHON = """#!/bin/sh
# JAX's coordinator listens on every interface unless told; this is the port that it chooses
export JAX_COORDINATOR_BIND_ADDRESS=127.0.0.1:$((SLURM_JOB_ID % 4096 + 61440))
echo $$ > "$PIDS/$SLURM_JOB_ID.${{SLURM_RESTART_COUNT:-0}}.$SLURM_PROCID"
exec {python} "$@"
"""
"""Notes the process of a task, and is it from then on."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    try:
        with cluster(folder) as running:
            python = folder / "python"
            python.write_text(PYTHON.format(python=sys.executable))
            python.chmod(0o755)
            yield running
    except Unavailable as reason:
        pytest.skip(f"no Slurm here: {reason}")


STAND_IN = """#!/bin/bash
# Saves when it is asked to stop; a second start finds nothing left to do.
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0
trap 'sleep 1; exit 42' TERM
touch "$0.$SLURM_JOB_ID.$SLURM_PROCID"
while true; do sleep 0.1; done
"""
"""What a run does with signals, without the run."""


def submit_stand_in(slurm, *options):
    """Submits a job of two tasks and waits until they run."""
    python = slurm.folder / "stand_in"
    if not python.exists():
        python.write_text(STAND_IN)
        python.chmod(0o755)
    output = f"--output={slurm.folder}/%j.log"
    script = ["launch/slurm.sbatch", "--config=configs/swin_l.py"]
    job = slurm.submit(*NODE, output, *options, *script, environment={"PYTHON": str(python)})
    ready = [slurm.folder / f"stand_in.{job}.{task}" for task in range(2)]
    wait_for(slurm, job, lambda: all(path.exists() for path in ready))
    return job


def test_a_job_is_told_before_its_time_limit_and_queues_again(slurm):
    job = submit_stand_in(slurm, "--time=2", "--signal=TERM@110")
    wait_for(slurm, job, lambda: state(slurm, job) == ("COMPLETED", 1, "0:0"))


def test_scancel_ends_a_job_for_good(slurm):
    job = submit_stand_in(slurm)
    slurm.call("scancel", job)
    wait_for(slurm, job, lambda: slurm.job(job)["JobState"] == "CANCELLED")
    time.sleep(3)  # a job that was wrongly queued again would be pending by now
    assert state(slurm, job)[:2] == ("CANCELLED", 0)


def test_a_job_that_may_not_queue_again_saves_and_ends(slurm):
    job = submit_stand_in(slurm)
    slurm.call("scontrol", "update", f"JobId={job}", "Requeue=0")
    slurm.call("scancel", "--signal=TERM", job)
    wait_for(slurm, job, lambda: state(slurm, job) == ("FAILED", 0, "42:0"))


def submit(slurm, workdir, *options):
    """Submits the script with two tasks on the one node; gives the job's number."""
    programs = {"PIDS": str(slurm.folder), "PYTHON": str(slurm.folder / "python")}
    return slurm.submit(
        *NODE,
        f"--output={workdir}.log",
        *options,
        "launch/slurm.sbatch",
        *flags_of("configs/demo.py", workdir, SMALL),
        environment=programs | compiling(),
    )


def wait_for(slurm, job, condition, seconds=240):
    """Waits until `condition()` holds; fails with the job's state and log where it does not."""
    end = time.monotonic() + seconds
    while not condition():
        facts = slurm.job(job)
        over = facts["JobState"] in ("COMPLETED", "FAILED", "CANCELLED")
        if (over and not condition()) or time.monotonic() > end:
            log = open(facts["StdOut"]).read() if os.path.exists(facts["StdOut"]) else ""
            pytest.fail(f"{facts}\n{log[-4000:]}")
        time.sleep(0.05)


def state(slurm, job):
    facts = slurm.job(job)
    return facts["JobState"], int(facts["Restarts"]), facts["ExitCode"]


def pid(slurm, job, restart, task):
    return int((slurm.folder / f"{job}.{restart}.{task}").read_text())


def test_a_job_that_lost_a_task_and_was_preempted_queues_again_and_ends_with_the_same_bits(
    slurm, tmp_path
):
    whole, workdir = tmp_path / "whole", tmp_path / "run"
    job = submit(slurm, whole)
    wait_for(slurm, job, lambda: slurm.job(job)["JobState"] == "COMPLETED")
    assert [row["step"] for row in training_rows(whole)] == list(range(1, STEPS + 1))
    assert "Rank 1 is connected to 1 peer" in (tmp_path / "whole.log").read_text()

    job = submit(slurm, workdir)
    wait_for(slurm, job, lambda: last_step(workdir) >= 8)
    # task 0, without which jax ends the other at once; without another it takes 100 s
    os.kill(pid(slurm, job, 0, 0), signal.SIGKILL)
    wait_for(slurm, job, lambda: slurm.job(job)["Restarts"] == "1")
    killed = last_step(workdir)
    assert 8 <= killed < STEPS

    wait_for(slurm, job, lambda: last_step(workdir) > killed)
    slurm.call("scancel", "--signal=TERM", job)
    wait_for(slurm, job, lambda: slurm.job(job)["Restarts"] == "2")
    assert killed < last_step(workdir) < STEPS

    wait_for(slurm, job, lambda: state(slurm, job) == ("COMPLETED", 2, "0:0"))
    log = (tmp_path / "run.log").read_text()
    assert "the run ended with 137" in log and "the run ended with 42" in log
    assert_same_run(whole, workdir)
