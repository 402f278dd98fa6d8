"""The same run on other numbers of processes and devices, and one that is killed and moves on.

All are gloo's collectives: a process alone would add up in another order.
"""

import random
import signal
import time
from contextlib import ExitStack

import pytest

from tests.core.test_dist import free_port
from tests.elastic_config import get_config
from tests.whole_runs import assert_same_run, last_step, rows, start, training_rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("elastic")]
CONFIG = "tests/elastic_config.py"
STEPS = get_config().train.steps
LAYOUTS = ((4, 1), (2, 2), (1, 4))
"""Processes, and devices of each."""
RUNS = {
    "data, separate": {"mesh.data": 4},
    "fsdp, mixed": {"mesh.data": 2, "mesh.fsdp": 2, "train.batching": "mixed"},
    "tensor, separate": {"mesh.data": 2, "mesh.tensor": 2},
}
"""Every axis, and both kinds of batches: on one that gathers parameters and on others."""
THREADS = "4"
"""Of a process (NPROC of XLA): over them the processor divides the sums of a product of matrices.

By itself XLA takes one for every core or device, whichever are more; then the last bits differ.
"""
KILLS = {"data, separate": 4, "fsdp, mixed": 3, "tensor, separate": 3}


def begin(workdir, changes, layout, stack):
    """Starts every process of a run; those that are left at the end of the stack are ended."""
    processes, devices = layout
    flags = [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={processes}"]
    run = []
    for process in range(processes):
        which = f"--process_id={process}"
        run.append(start(CONFIG, workdir, changes, *flags, which, devices=devices))
        stack.callback(run[-1].process.kill)
    return run


def complete(workdir, changes, layout):
    with ExitStack() as stack:
        ended = [process.finish() for process in begin(workdir, changes, layout, stack)]
    assert [code for code, _, _ in ended] == [0] * layout[0], ended[-1][2][-3000:]
    # The table and the messages of the run come from one process, whatever their number.
    assert ["report.html" in out for _, out, _ in ended] == [True, *[False] * (layout[0] - 1)]
    assert ["compile cache" in err for _, _, err in ended] == [True, *[False] * (layout[0] - 1)]
    return ended[0][2]


@pytest.fixture(scope="module", autouse=True)
def threads():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPROC", THREADS)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Makes, once each, the runs of four processes that nothing happens to."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("whole") / "run"
            complete(made[name], RUNS[name], LAYOUTS[0])
        return made[name]

    return make


@pytest.mark.parametrize("name", RUNS)
def test_processes_and_devices_are_divided_as_one_likes_and_no_bit_changes(whole, name, tmp_path):
    first = whole(name)
    assert [row["step"] for row in training_rows(first)] == list(range(1, STEPS + 1))
    assert [row["step"] for row in rows(first) if "eval" in row] == [STEPS]
    for layout in LAYOUTS[1:]:
        workdir = tmp_path / "{}x{}".format(*layout)
        complete(workdir, RUNS[name], layout)
        assert_same_run(first, workdir)


def kill(run, layout):
    """Ends all processes of a run at once, as a power cut does."""
    for process in run:
        process.process.send_signal(signal.SIGKILL)
    codes = [process.finish()[0] for process in run]
    assert codes == [-signal.SIGKILL] * layout[0]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_killed_and_goes_on_elsewhere_again_and_again_ends_with_the_same_bits(
    whole, name, tmp_path
):
    draw, workdir, reached = random.Random(name), tmp_path / "run", 0
    rounds = KILLS[name]
    for number in range(rounds):
        layout = LAYOUTS[number % len(LAYOUTS)]
        # later than it has ever been, and early enough that all rounds find steps to do
        at = draw.randint(reached + 1, max(reached + 1, (number + 1) * (STEPS - 6) // rounds))
        with ExitStack() as stack:
            run = begin(workdir, RUNS[name], layout, stack)
            assert run[0].wait_for(lambda at=at: last_step(workdir) >= at), run[0].finish()[2]
            time.sleep(draw.uniform(0, 0.05))
            kill(run, layout)
        reached = last_step(workdir)
        assert at <= reached < STEPS
    said = complete(workdir, RUNS[name], LAYOUTS[rounds % len(LAYOUTS)])
    assert "resuming from step" in said
    assert_same_run(whole(name), workdir)
