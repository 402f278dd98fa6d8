"""How much memory a large state takes while it is made, in processes that each hold a part."""

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.core.test_dist import free_port
from tests.whole_runs import compiling

MAX_GB = 1.5
"""Of the whole process, the compiler and its first programs too."""
BIRTH = """
import sys
from pathlib import Path
import jax
from omnivore_jax.core import dist
from omnivore_jax.model.variants import model_config
from omnivore_jax.train.mesh import MeshConfig, make_mesh
from omnivore_jax.train.state import init_state

port, process = sys.argv[1], int(sys.argv[2])
dist.initialize(f"127.0.0.1:{port}", 4, process)
heads = {"image": 1000, "image21k": 21841, "video": 400, "rgbd": 19}
mesh = make_mesh(MeshConfig(data=1, fsdp=4))
state = jax.block_until_ready(init_state(model_config("omnivore_swin_l"), heads, 0, mesh))
leaves = jax.tree.leaves(state)
own = sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards)
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) * 1024
print("bytes", sum(leaf.nbytes for leaf in leaves), own, peak)
dist.barrier("end")
"""


@pytest.mark.slow
def test_swin_l_is_born_divided_over_four_processes_and_none_takes_more_than_its_share():
    port, said = str(free_port()), []
    with ExitStack() as stack:
        run = []
        for process in range(4):
            call = [sys.executable, "-c", BIRTH, port, str(process)]
            environment = os.environ | compiling()
            run.append(subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=environment))
            stack.callback(run[-1].kill)
        for process in run:
            out, _ = process.communicate(timeout=300)
            assert process.returncode == 0, out
            lines = [line.split() for line in out.splitlines() if line.startswith("bytes")]
            said.append([int(word) / 1e9 for word in lines[0][1:]])
    for whole, own, peak in said:
        assert own < 0.27 * whole and peak < MAX_GB, said
