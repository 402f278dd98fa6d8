"""Several processes as one: how they find each other and agree.

Under Slurm, on TPU VMs and on GKE, JAX detects the processes itself; elsewhere three flags tell.
"""

import json
import os
from typing import Any, cast

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from omnivore_jax.core.errors import UserError

BLOCK = 1024
"""Values are broadcast in whole blocks of bytes, so that few programs are compiled for them."""
HEARTBEAT = 100.0
"""Seconds without a sign of life after which a process counts as dead, unless a flag says more."""
MARGIN = 20
"""Seconds by which jax's own heartbeats come later than ours, which name the process."""


def define_flags() -> None:
    """Defines the flags of runs on several hosts: how they find and how they lose each other."""
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of process 0, where the environment does not tell."
    )
    flags.DEFINE_integer(
        "num_processes", None, "How many processes run this command.", lower_bound=1
    )
    flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.", lower_bound=0)
    flags.DEFINE_float(
        "heartbeat",
        HEARTBEAT,
        "Seconds without a sign of life after which a host counts as dead or frozen and the others "
        "end.",
        lower_bound=2.0,
    )


def initialize_from_flags() -> None:
    """Calls `initialize` with what the flags of `define_flags` say."""
    values = flags.FLAGS
    initialize(
        values.coordinator, values.num_processes, values.process_id, heartbeat=values.heartbeat
    )


def heartbeat_from_flags() -> float:
    """Seconds without a sign of life after which a process counts as dead."""
    return flags.FLAGS.heartbeat


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat: float = HEARTBEAT,
) -> None:
    """Joins the other processes; without arguments, those that the environment tells of, or none.

    Must run before anything asks for a device. The coordinator listens on HOST alone, not on every
    interface. Raises UserError where only some of the three are given, or where one is out of
    range.
    """
    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [flag for flag, value in given.items() if value is None]
    patience = round(heartbeat) + MARGIN
    if len(missing) == len(given):
        _initialize_from_environment(patience)
        return
    if missing:
        raise UserError(
            f"{missing[0]} is missing; give --coordinator, --num_processes and --process_id "
            "together"
        )
    host, _, port = str(coordinator).rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={coordinator}; use HOST:PORT of process 0")
    process, processes = cast(int, process_id), cast(int, num_processes)
    if not 0 <= process < processes:
        raise UserError(
            f"--process_id={process}; use 0 to {processes - 1}, --num_processes={processes}"
        )
    _leave_signals_to_us()
    jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        coordinator_bind_address=coordinator,
        heartbeat_timeout_seconds=patience,
    )


def _initialize_from_environment(patience: int) -> None:
    _leave_signals_to_us()
    try:
        jax.distributed.initialize(
            local_device_ids=_local_devices(), heartbeat_timeout_seconds=patience
        )
    except ValueError as error:
        if "coordinator_address" not in str(
            error
        ):  # what JAX says where no environment tells of other processes
            raise UserError(
                f"the environment names a coordinator but not all the rest ({error}); "
                "give --coordinator, --num_processes and --process_id"
            ) from error


def _local_devices() -> list[int] | None:
    """Which devices of its node a process takes; an empty list: all; None: what JAX decides.

    Under Slurm JAX gives a process the one GPU of its number on the node. That is right for a task
    a GPU; where every node has one task, it takes all that Slurm gave the task. JAX knows from
    JAX_LOCAL_DEVICE_IDS what a user wants instead.
    """
    tasks, nodes = os.environ.get("SLURM_NTASKS"), os.environ.get("SLURM_STEP_NUM_NODES")
    own_choice = os.environ.get("JAX_LOCAL_DEVICE_IDS")
    return [] if tasks and tasks == nodes and not own_choice else None


def _leave_signals_to_us() -> None:
    """Turns off jax's own taking of SIGTERM, which dies of a second one; core.signals does it."""
    jax.config.update("jax_enable_preemption_service", False)


def is_primary() -> bool:
    """Says whether this process is the one that decides for all and writes what is written once."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here."""
    with jax.transfer_guard("allow"):
        multihost_utils.sync_global_devices(name)


def broadcast(value: Any) -> Any:
    """Gives every process what process 0 has: any value that JSON holds."""
    if jax.process_count() == 1:
        return value
    text = json.dumps(value).encode()
    with jax.transfer_guard("allow"):
        blocks = int(multihost_utils.broadcast_one_to_all(np.int32(-(-len(text) // BLOCK))))
        padded = text.ljust(blocks * BLOCK)[
            : blocks * BLOCK
        ]  # what is not process 0's counts only by its size
        return json.loads(
            multihost_utils.broadcast_one_to_all(np.frombuffer(padded, np.uint8)).tobytes()
        )


def gather(value: Any) -> list[Any]:
    """Gives every process what all have, in their order: any values that JSON holds."""
    if jax.process_count() == 1:
        return [value]
    text = json.dumps(value).encode()
    with jax.transfer_guard("allow"):
        longest = int(np.max(multihost_utils.process_allgather(np.int32(len(text)))))
        padded = np.frombuffer(text.ljust(-(-longest // BLOCK) * BLOCK), np.uint8)
        return [json.loads(row.tobytes()) for row in multihost_utils.process_allgather(padded)]


def holds_everywhere(condition: bool) -> bool:
    """Says whether a condition holds on every process."""
    with jax.transfer_guard("allow"):
        return bool(np.all(multihost_utils.process_allgather(np.asarray(condition))))


def batch_part(sharding: jax.sharding.Sharding, shards: int) -> tuple[int, int]:
    """Finds which part of a batch this process reads, and how many parts there are: (i, n).

    `shards` is by how much the sharding divides the batch. Processes that hold the same rows, as
    with a tensor axis that spans processes, read the same part.

    Raises:
        ValueError: the processes' rows overlap without being the same.

    """
    rows: dict[int, set[int]] = {}
    for device, index in sharding.devices_indices_map((shards,)).items():
        rows.setdefault(device.process_index, set()).update(range(shards)[index[0]])
    parts = sorted({tuple(sorted(part)) for part in rows.values()})
    if sum(map(len, parts)) != shards or len({len(part) for part in parts}) != 1:
        raise ValueError(f"the batch is divided unevenly over processes: {parts}")
    return parts.index(tuple(sorted(rows[jax.process_index()]))), len(parts)
