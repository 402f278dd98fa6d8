"""What the TPU compiler reserves for a training step, beside what the dry run estimates.

    JAX_PLATFORMS=cpu python -m benchmarks.memory --config=configs/swin_b.py --dataset=kinetics400
        [--topology=v5e:2x2] [--chips=1] [--depths=2,1,1,1] [--microbatch=2] [--remat=block]
        [--rounds=2] [--json]

Compiles for a machine that need not be there, on this one's CPU: minutes for a whole model, so give
shallow depths; fewer depths than the model has stages leave the last ones out. A device's batch is
`rounds` micro-batches. Two compilers at once need ALLOW_MULTIPLE_LIBTPU_LOAD=true.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from jax.experimental import topologies
from ml_collections import config_flags

from omnivore_jax.core import command
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.loader import BATCHES_ON_DEVICE
from omnivore_jax.experiment import dry
from omnivore_jax.experiment.settings import Settings, resolve
from omnivore_jax.model.params import abstract_model
from omnivore_jax.train import estimate
from omnivore_jax.train.mesh import batch_sharding, batch_shards, make_mesh
from omnivore_jax.train.microbatch import Split, split_batch
from omnivore_jax.train.state import abstract_state
from omnivore_jax.train.step import make_train_step

MIB = 2**20
INSTALL = (
    "pip install --target DIR --no-deps 'libtpu==0.0.42.*' and set "
    "TPU_LIBRARY_PATH=DIR/libtpu/libtpu.so"
)

CONFIG = config_flags.DEFINE_config_file("config", None, "Config of the run.")
DATASET = flags.DEFINE_string("dataset", None, "Dataset of the step.", required=True)
TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "Machine to compile for.")
CHIPS = flags.DEFINE_integer("chips", 0, "Chips of it that the mesh has; 0: all.", 0)
DEPTHS = flags.DEFINE_list("depths", None, "Blocks of every stage; the model's by default.")
MICROBATCH = flags.DEFINE_integer("microbatch", None, "Samples at once; the config's by default.")
REMAT = flags.DEFINE_string("remat", None, "none, attention or block; the config's by default.")
ROUNDS = flags.DEFINE_integer("rounds", 2, "Micro-batches of a step.", 1)
JSON = flags.DEFINE_boolean("json", False, "Print the figures as JSON.")
DUMP = flags.DEFINE_string("dump", None, "File for the compiled program.")


def main(argv: Sequence[str]) -> int:
    if CONFIG.value is None:
        raise UserError("--config is missing; name one, --config=configs/swin_b.py for example")
    settings, name = changed(resolve(CONFIG.value.to_dict())), DATASET.value
    mesh = make_mesh(settings.mesh, devices())
    micro = settings.training[name].recipe.microbatch
    shards = batch_shards(mesh.shape)
    split = split_batch(ROUNDS.value * micro * shards, shards, settings.training[name])
    compiled = compile_step(settings, name, split, mesh)
    if DUMP.value:
        Path(DUMP.value).write_text(compiled.as_text())
    figures = compared(compiled.memory_analysis(), estimated(settings, name, split, mesh))
    told = {"model": settings.model.name, "depths": settings.model.depths, "dataset": name}
    told |= {"remat": settings.training[name].recipe.remat, "microbatch": split.micro}
    told |= {"topology": TOPOLOGY.value, "chips": mesh.size, "bytes": figures}
    print(json.dumps(told, indent=1) if JSON.value else text(told))
    return 0


def estimated(
    settings: Settings, name: str, split: Split, mesh: jax.sharding.Mesh
) -> estimate.Memory:
    """What the dry run says of this step."""
    _, params = abstract_model(settings.model, settings.heads)
    elements = estimate.elements_per_device(params, mesh.shape)
    return dry.device_memory(settings, name, split, elements)


def compared(stats: Any, memory: estimate.Memory) -> dict[str, dict[str, int]]:
    """Bytes of a device by the compiler and by the estimate.

    The compiler sees one batch, those that wait are none of its business; outputs that take the
    place of arguments count once.
    """
    batch = memory.batch // BATCHES_ON_DEVICE
    state = memory.moments + memory.moments // 2 + memory.average  # parameters are as large
    arguments, temporaries = stats.argument_size_in_bytes, stats.temp_size_in_bytes
    output = stats.output_size_in_bytes - stats.alias_size_in_bytes
    total = memory.total - memory.batch + batch
    return {
        "arguments": {"compiler": arguments, "estimate": batch + state},
        "temporaries": {"compiler": temporaries, "estimate": total - batch - state},
        "output": {"compiler": output, "estimate": 0},
        "total": {"compiler": arguments + temporaries + output, "estimate": total},
    }


def text(told: dict[str, Any]) -> str:
    lines = [
        f"{told['model']} {told['depths']}, {told['dataset']}, remat {told['remat']}, micro-batch "
        f"{told['microbatch']}, {told['chips']} of {told['topology']}: MiB of a device",
        f"  {'':<12} {'compiler':>10} {'estimate':>10}",
    ]
    for name, row in told["bytes"].items():
        sides = " ".join(f"{size / MIB:>10,.0f}" for size in row.values())
        lines.append(f"  {name:<12} {sides}")
    total = told["bytes"]["total"]
    return "\n".join([*lines, f"  estimate / compiler {total['estimate'] / total['compiler']:.3f}"])


def devices() -> list[Any]:
    """Devices of the topology.

    Raises:
        UserError: there is no compiler for it.

    """
    if not os.environ.get("TPU_LIBRARY_PATH") and find_spec("libtpu") is None:
        raise UserError(f"the TPU compiler, libtpu, is missing; {INSTALL}")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    topology = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY.value)
    return topology.devices[: CHIPS.value or None]


def changed(settings: Settings) -> Settings:
    """The settings with what the flags change."""
    name = DATASET.value
    if name not in settings.training:
        raise UserError(f"--dataset={name}; use one of {', '.join(settings.training)}")
    dataset = settings.training[name]
    recipe = dataset.recipe
    if MICROBATCH.value is not None:
        recipe = replace(recipe, microbatch=MICROBATCH.value)
    if REMAT.value is not None:
        recipe = replace(recipe, remat=REMAT.value)
    model = settings.model
    if DEPTHS.value is not None:
        depths = tuple(map(int, DEPTHS.value))
        model = replace(model, depths=depths, num_heads=model.num_heads[: len(depths)])
    training = settings.training | {name: dataset._replace(recipe=recipe)}
    return replace(settings, model=model, training=training)


def compile_step(settings: Settings, name: str, split: Split, mesh: jax.sharding.Mesh):
    """Compiles the training step of a run for a batch of one dataset."""
    trainer = settings.trainer(mesh, total_steps=1000)
    state = abstract_state(settings.model, settings.heads, mesh, settings.optimizer.rule)
    batch = abstract_batch(settings.datasets[name], split, mesh)
    return make_train_step(trainer).lower(state, {name: batch}).compile()


def abstract_batch(dataset: DatasetConfig, split: Split, mesh: jax.sharding.Mesh) -> Batch:
    """Shapes, types and shardings of a batch."""
    place = batch_sharding(mesh)

    def array(dtype, *shape: int):
        return jax.ShapeDtypeStruct((split.slots, *shape), dtype, sharding=place)

    pixels = (dataset.frames, dataset.size, dataset.size)
    disparity = array(jnp.float32, *pixels, 1) if dataset.kind == "rgbd" else None
    return Batch(array(jnp.uint8, *pixels, 3), disparity, array(jnp.int32), array(jnp.bool_))


if __name__ == "__main__":
    command.run(main)
