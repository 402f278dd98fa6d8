import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from omnivore_jax.core import dist
from omnivore_jax.core.errors import UserError


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ("host:1234", None, 0),
            "--num_processes is missing; give --coordinator, --num_processes and --process_id",
        ),
        ((None, 2, 0), "--coordinator is missing"),
        (("host", 2, 0), "--coordinator=host; use HOST:PORT of process 0"),
        (("host:port", 2, 0), "--coordinator=host:port; use HOST:PORT"),
        (("host:1234", 2, 2), "--process_id=2; use 0 to 1, --num_processes=2"),
    ],
)
def test_flags_that_do_not_fit_together_are_the_users_mistake(given, says):
    with pytest.raises(UserError, match=says):
        dist.initialize(*given)


def test_a_process_alone_is_primary_and_agrees_with_itself():
    assert dist.is_primary() and dist.broadcast({"step": 3}) == {"step": 3}
    dist.barrier("alone")


TWO = """
import sys, time, jax
from omnivore_jax.core import dist
port, process = sys.argv[1], int(sys.argv[2])
dist.initialize(f"127.0.0.1:{port}", 2, process)
assert dist.broadcast({"from": process, "text": "ä" * 300}) == {"from": 0, "text": "ä" * 300}
assert dist.is_primary() == (process == 0)
tables = []
for name in ("tcp", "tcp6"):
    tables += [line.split() for line in open(f"/proc/net/{name}").readlines()[1:]]
listening = [row[1] for row in tables if row[3] == "0A" and row[1].endswith(f":{int(port):04X}")]
assert len(listening) == 1 and listening[0].endswith("0100007F" + f":{int(port):04X}"), listening
mesh = jax.make_mesh((2, 1), ("data", "tensor"))
Spec = jax.sharding.PartitionSpec
along = [jax.sharding.NamedSharding(mesh, Spec(axis)) for axis in ("data", "tensor")]
assert dist.batch_part(along[0], 2) == (process, 2)
assert dist.batch_part(along[1], 1) == (0, 1)
dist.barrier("end")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def words_after(first: str, process: subprocess.Popen) -> list[str]:
    """Reads what a process says until a line begins with `first`; Gloo prints lines of its own."""
    lines = iter(process.stdout.readline, "")
    return next(line for line in lines if line.startswith(first)).split()


@pytest.mark.slow
def test_two_processes_have_what_the_first_one_has_and_share_the_rows_of_a_batch():
    port = str(free_port())
    with ExitStack() as stack:
        both = []
        for process in range(2):
            call = [sys.executable, "-c", TWO, port, str(process)]
            both.append(stack.enter_context(subprocess.Popen(call)))
            stack.callback(both[-1].kill)
        assert [process.wait(60) for process in both] == [0, 0]


ALONE = """
import jax
from omnivore_jax.core import dist
dist.initialize()
print(jax.process_count(), jax.distributed.is_initialized())
"""


@pytest.mark.slow
def test_without_flags_and_without_a_cluster_a_process_is_alone():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
