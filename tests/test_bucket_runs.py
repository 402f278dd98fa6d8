"""Runs whose folder is in a bucket, here a server of this machine whose objects are files.

Killed and started again, alone and as several processes, they end with the bits of a run on a disk.
"""

import signal
from contextlib import ExitStack

import pytest

from omnivore_jax.checkpoint import seal as digests
from omnivore_jax.core.buckets import files_below
from tests import test_elastic as elastic
from tests.elastic_config import get_config
from tests.fake_store import BUCKET, google
from tests.whole_runs import assert_same_run, complete, last_step, start

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("buckets")]
CONFIG = "tests/elastic_config.py"
STEPS = get_config().train.steps
WORKDIR = f"gs://{BUCKET}/runs/a"


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The folder of the objects of `WORKDIR`, and the variables that lead commands there."""
    with google(tmp_path / "store") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("NPROC", elastic.THREADS)
        yield tmp_path / "store" / BUCKET / "runs" / "a"


def sealed(folder):
    """The newest step that is sealed, 0 where none is."""
    steps = (path for path in folder.glob("checkpoints/*") if path.name.isdecimal())
    return max((int(path.name) for path in steps if digests.is_sealed(path)), default=0)


def test_a_run_that_is_killed_in_a_bucket_again_and_again_has_the_bits_of_one_on_a_disk(
    bucket, tmp_path
):
    complete(CONFIG, tmp_path / "whole", {})
    for at in (2, 8, 14):
        run = start(CONFIG, WORKDIR, {})
        # in the midst of a save of a later step, or just after it
        assert run.wait_for(lambda at=at: sealed(bucket) >= at), run.finish()[2]
        run.wait_for(lambda at=at: (bucket / "checkpoints" / str(at + 2)).exists())
        run.process.kill()
        assert run.finish()[0] in (0, -signal.SIGKILL)
    out, err = complete(CONFIG, WORKDIR, {})
    assert f"{WORKDIR}/report.html" in out and "resuming from step" in err
    assert_same_run(tmp_path / "whole", bucket)
    there = {path.name for path in bucket.iterdir()}
    assert there == {path.name for path in (tmp_path / "whole").iterdir()}
    assert digests.find_damage(bucket / "checkpoints" / str(STEPS)) is None


def test_processes_that_are_killed_in_a_bucket_go_on_as_others_with_the_same_bits(bucket, tmp_path):
    name = "fsdp, mixed"
    elastic.complete(tmp_path / "whole", elastic.RUNS[name], (4, 1))
    with ExitStack() as stack:
        run = elastic.begin(WORKDIR, elastic.RUNS[name], (2, 2), stack)
        assert run[0].wait_for(lambda: sealed(bucket) >= 10), run[0].finish()[2]
        elastic.kill(run, (2, 2))
    said = elastic.complete(WORKDIR, elastic.RUNS[name], (4, 1))
    assert "resuming from step" in said
    assert_same_run(tmp_path / "whole", bucket)


def test_a_damaged_checkpoint_in_a_bucket_is_named_and_the_one_before_is_used(bucket, tmp_path):
    complete(CONFIG, WORKDIR, {})
    rows = (bucket / "metrics.jsonl").read_bytes()
    victim = max(
        files_below(bucket / "checkpoints" / str(STEPS) / "state"), key=lambda f: f.stat().st_size
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    _, err = complete(CONFIG, WORKDIR, {})
    assert f"checkpoint of step {STEPS} in {WORKDIR}/checkpoints is damaged" in err
    assert f"resuming from step {STEPS - 2}" in err
    assert (bucket / "metrics.jsonl").read_bytes() == rows


def test_a_stopped_run_is_saved_in_the_bucket(bucket):
    run = start(CONFIG, WORKDIR, {})
    assert run.wait_for(lambda: sealed(bucket) >= 2), run.finish()[2]
    run.process.terminate()
    code, _, err = run.finish()
    assert code == 42, err
    stopped = sealed(bucket)
    assert 0 < stopped < STEPS and last_step(bucket) == stopped
    assert f"stopped by SIGTERM at step {stopped}, which is saved" in err
