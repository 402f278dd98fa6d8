"""Runs that are ended from outside, or whose disk fails them.

The same command again leads to the same result.
"""

import random
import shutil
import signal
import subprocess
import time

import pytest

from omnivore_jax.checkpoint import seal as digests
from tests.whole_runs import (
    DEMO,
    assert_same_run,
    complete,
    last_step,
    rows,
    start,
    state_of,
    training_rows,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]
CONFIG = "configs/demo.py"
STEPS = DEMO["train.steps"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    complete(CONFIG, workdir, DEMO)
    assert [row["step"] for row in training_rows(workdir)] == list(range(1, STEPS + 1))
    assert [row["step"] for row in rows(workdir) if "eval" in row] == [STEPS]
    return workdir


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 6 MiB, with room for two checkpoints of the demo, and what makes it larger."""
    mounted = tmp_path / "disk"
    mounted.mkdir()

    def mount(size, *options):
        command = [
            "mount",
            "-t",
            "tmpfs",
            "-o",
            ",".join([f"size={size}", *options]),
            "tmpfs",
            str(mounted),
        ]
        return subprocess.run(command, capture_output=True).returncode == 0

    if shutil.which("mount") is None or not mount("6m"):
        pytest.skip("this machine lets us mount nothing")
    yield mounted, lambda: mount("64m", "remount")
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def newest(workdir):
    steps = [
        int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()
    ]
    return workdir / "checkpoints" / str(max(steps))


def saving(workdir):
    """Whether a checkpoint is being written: begun by Orbax, or whole but not sealed yet."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        return False
    names = [path for path in folder.iterdir() if path.is_dir()]
    return any(not path.name.isdecimal() or not digests.is_sealed(path) for path in names)


def flip_a_byte(step):
    victim = max(
        (file for file in (step / "state").rglob("*") if file.is_file()),
        key=lambda f: f.stat().st_size,
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    return victim


def only_line(err):
    """The message a failed run ends with; no traceback comes before it."""
    assert "Traceback" not in err, err[-3000:]
    return err.splitlines()[-1]


def test_a_run_killed_anywhere_any_number_of_times_ends_as_if_nothing_had_happened(whole, tmp_path):
    draw, workdir = random.Random(), tmp_path / "run"
    moments = [
        ("starting", lambda: workdir.exists(), draw.uniform(0, 3)),
        ("training", lambda: last_step(workdir) >= draw.randint(1, 6), draw.uniform(0, 0.1)),
        ("saving", lambda: last_step(workdir) >= 6 and saving(workdir), 0.0),
        (
            "training again",
            lambda: last_step(workdir) >= draw.randint(10, 16),
            draw.uniform(0, 0.1),
        ),
        (
            "saving again",
            lambda: last_step(workdir) >= 18 and saving(workdir),
            draw.uniform(0, 0.03),
        ),
        (
            "training once more",
            lambda: last_step(workdir) >= draw.randint(20, 26),
            draw.uniform(0, 0.1),
        ),
        ("evaluating", lambda: last_step(workdir) == STEPS, draw.uniform(0, 0.5)),
    ]
    kills, mid_save = [], 0
    for name, moment, delay in moments:
        run = start(CONFIG, workdir, DEMO)
        reached = run.wait_for(moment)
        time.sleep(delay)
        if reached and run.running():
            kills.append((name, last_step(workdir)))
        run.process.kill()
        assert run.finish()[0] in (0, -signal.SIGKILL)
        mid_save += saving(workdir)
    assert len(kills) >= 5 and mid_save >= 1, (kills, mid_save)
    complete(CONFIG, workdir, DEMO)
    assert_same_run(whole, workdir)


def test_sigterm_saves_and_exits_42_and_the_same_command_goes_on(whole, tmp_path):
    workdir, rare = tmp_path / "run", DEMO | {"checkpoint.every": 1000}
    run = start(CONFIG, workdir, rare)
    assert run.wait_for(lambda: last_step(workdir) >= 4)
    run.process.terminate()
    code, _, err = run.finish()
    assert code == 42
    stopped = int(newest(workdir).name)
    assert 4 <= stopped < STEPS and state_of(workdir)["step"] == stopped
    assert f"stopped by SIGTERM at step {stopped}, which is saved" in only_line(err)
    _, err = complete(CONFIG, workdir, rare)
    assert f"resuming from step {stopped}" in err
    assert_same_run(whole, workdir)


def test_a_full_disk_is_one_line_and_the_last_good_checkpoint_survives(whole, small_disk):
    (mounted, enlarge), workdir = small_disk, small_disk[0] / "run"
    code, out, err = start(CONFIG, workdir, DEMO | {"checkpoint.keep_best": False}).finish()
    assert (code, out) == (2, "")
    # Orbax may have a line of its own after it, of a second array that found no room.
    assert f"could not be written to {workdir}/checkpoints: No space left on device" in err
    assert "Traceback" not in err, err[-3000:]
    step = int(newest(workdir).name)
    assert (
        f"the last good checkpoint is of step {step}" in err
        and digests.find_damage(newest(workdir)) is None
    )
    assert enlarge()
    _, err = complete(CONFIG, workdir, DEMO)
    assert f"resuming from step {step}" in err
    assert_same_run(whole, workdir)
    assert mounted.exists()


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(whole, tmp_path):
    workdir = shutil.copytree(whole, tmp_path / "run")
    victim = flip_a_byte(newest(workdir))
    _, err = complete(CONFIG, workdir, DEMO)
    assert (
        f"checkpoint of step {STEPS} in {workdir}/checkpoints is damaged: "
        f"{victim.relative_to(newest(workdir))}" in err
    )
    assert f"resuming from step {STEPS - 3}" in err
    assert_same_run(whole, workdir)


def test_without_an_undamaged_checkpoint_there_is_one_line_and_nothing_is_lost(whole, tmp_path):
    workdir = shutil.copytree(whole, tmp_path / "run")
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.is_dir())
    for step in steps:
        flip_a_byte(workdir / "checkpoints" / str(step))
    before = (workdir / "metrics.jsonl").read_bytes()
    code, out, err = start(CONFIG, workdir, DEMO).finish()
    assert (code, out) == (2, "")
    damaged = ", ".join(map(str, reversed(steps)))
    assert f"{workdir}/checkpoints has no undamaged checkpoint (damaged: {damaged})" in only_line(
        err
    )
    assert (workdir / "metrics.jsonl").read_bytes() == before
