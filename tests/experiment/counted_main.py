"""The main command, which notes what XLA compiled and whether the transfer guard was on.

What is counted are events /jax/core/compile/backend_compile_duration, one for every program,
whether or not the cache on the disk has it, by the name of the jitted function.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, os.getcwd())

import jax
import jax.numpy as jnp
import numpy as np

from omnivore_jax import main
from omnivore_jax.core import command
from omnivore_jax.experiment.training import RunCallback

compiled, guarded = Counter(), Counter()
record = RunCallback.record


def listen(event, _, **details):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled[str(details.get("fun_name"))] += 1


def record_with_a_look_at_the_guard(watch, step, metrics):
    try:
        jnp.sin(np.ones(3))  # an implicit transfer to the device
        guarded["open"] += 1
    except jax.errors.JaxRuntimeError as error:
        guarded["closed"] += "Disallowed host-to-device transfer" in str(error)
    record(watch, step, metrics)


if __name__ == "__main__":
    jax.monitoring.register_event_duration_secs_listener(listen)
    RunCallback.record = record_with_a_look_at_the_guard
    try:
        command.run(main.main)
    finally:
        workdir = Path(main.WORKDIR.value)
        (workdir / "counts.json").write_text(json.dumps({"compiled": compiled, "guarded": guarded}))
