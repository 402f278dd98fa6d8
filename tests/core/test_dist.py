import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import jax
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


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_NODES": "4"}, []),
        ({"SLURM_NTASKS": "32", "SLURM_STEP_NUM_NODES": "4"}, None),
        (
            {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_NODES": "4", "JAX_LOCAL_DEVICE_IDS": "1,3"},
            None,
        ),
        ({}, None),
    ],
    ids=["a task a node", "a task a GPU", "the user's choice", "no Slurm"],
)
def test_a_task_of_slurm_that_is_alone_on_its_node_takes_all_its_gpus(
    monkeypatch, environment, devices
):
    for name in ("SLURM_NTASKS", "SLURM_STEP_NUM_NODES", "JAX_LOCAL_DEVICE_IDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **given: calls.append(given))
    dist.initialize(heartbeat=30.0)
    patience = 30 + dist.MARGIN  # jax's own comes after the one that names the host
    assert calls == [{"local_device_ids": devices, "heartbeat_timeout_seconds": patience}]


SEES = """
import jax
from jax._src.xla_bridge import CUDA_VISIBLE_DEVICES
from omnivore_jax.core import dist
dist.initialize()
print("sees", CUDA_VISIBLE_DEVICES.value, jax.process_count())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "own_choice", "sees"), [("1", "", "all"), ("2", "", "0"), ("1", "1,3", "1,3")]
)
def test_jax_understands_that_a_task_takes_all_gpus(nodes, own_choice, sees):
    port = free_port()
    more = {
        "SLURM_NTASKS": "1",
        "SLURM_STEP_NUM_NODES": nodes,
        "JAX_LOCAL_DEVICE_IDS": own_choice,
        "JAX_COORDINATOR_PORT": str(port),
        "JAX_COORDINATOR_BIND_ADDRESS": f"127.0.0.1:{port}",
        "JAX_PLATFORMS": "cpu",
    }
    call, environment = [sys.executable, "-c", SEES], os.environ | SLURM | more
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=60)
    assert f"sees {sees} 1" in done.stdout, done.stderr


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
