import shutil

import psutil
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.loader import LoaderConfig, TrainLoader
from omnivore_jax.data.workers import explain
from tests.data.test_loader import Broken, alone

GRAIN = "Worker process was terminated unexpectedly with exit code {}. Search the logs above."


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (-7, "/dev/shm is too small (64 MiB, 1 of them free) for the batches of data.workers=3"),
        (-9, "data.workers=3 was killed, by the system if memory ran out; use fewer data.workers"),
        (1, "data.workers=3 ended with exit code 1; start the run again"),
    ],
)
def test_the_end_of_a_worker_is_one_line_with_its_cause_and_remedy(monkeypatch, code, says):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**26, 0, 2**20))
    message = str(explain(RuntimeError(GRAIN.format(code)), 3))
    assert says in message and "\n" not in message


def test_other_faults_are_left_alone():
    assert explain(RuntimeError("step 4 is missing"), 2) is None


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_and_no_step_goes_missing():
    plan = alone(steps=10_000)
    config = LoaderConfig(workers=2, threads=1)
    before = set(psutil.Process().children())
    with TrainLoader(plan, {"broken": Broken(seconds=0.01)}, config) as loader:
        steps = [next(loader).step]
        workers = [
            child
            for child in set(psutil.Process().children()) - before
            if "spawn_main" in " ".join(child.cmdline())
        ]
        workers[0].kill()
        with pytest.raises(UserError, match="a worker process of data.workers=2 was killed"):
            steps += [step.step for step in loader]
    assert steps == list(range(len(steps)))
