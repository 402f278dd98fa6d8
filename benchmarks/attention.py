"""What window attention moves through the memory of a device, fused and plain, by its compiler.

    python -m benchmarks.attention [--topology=v5e:2x2] [--samples=8]
    python -m benchmarks.attention --topology=h100:1

Compiles for a machine that need not be there (`pip install -r requirements-tpu.txt`, or -gpu):
forward and backward pass on one device, in bfloat16, in the shifted windows of every stage of the
paper's models at 224 x 224. Prints the tables of docs/performance.md. The compiler of GPUs counts
no bytes: `benchmarks/traffic.py` does.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks import traffic
from omnivore_jax.experiment.topology import Machine, open_machine
from omnivore_jax.model import cost
from omnivore_jax.model.attention.table import window_attention
from omnivore_jax.model.cost import StageLayout
from omnivore_jax.model.variants import model_config
from omnivore_jax.model.window import shift_masks, window_grid
from omnivore_jax.train.mesh import MeshConfig, make_mesh

FUSED = {"tpu": "pallas_tpu", "gpu": "cudnn"}
FRAMES = (1, 32)
CUDNN = 91900
"""The version that is taken for granted, 9.19."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:2x2", help="as `--mode=compile` has it")
    parser.add_argument("--samples", type=int, default=8, help="pictures or clips")
    options = parser.parse_args()
    machine = open_machine(options.topology)
    trust_cudnn()
    print(
        "| stage: tokens x heads | windows | plain GB | fused GB | plain temporaries GiB | fused |"
    )
    print("|---|---|---|---|---|---|")
    for name, stage in paper_stages().items():
        fused = FUSED[machine.device.platform]
        figures = [measure(machine, stage, options.samples, kind) for kind in ("xla", fused)]
        moved, temporaries = zip(*figures, strict=True)
        cells = [f"{x / 1e9:.2f}" for x in moved] + [f"{x / 2**30:.2f}" for x in temporaries]
        shape = f"{stage.window_tokens} x {stage.heads}"
        print(f"| {name}: {shape} | {options.samples * stage.windows} | {' | '.join(cells)} |")


def paper_stages() -> dict[str, StageLayout]:
    """All different stages of the paper's models, by a name."""
    found: dict[StageLayout, str] = {}
    for model in ("T", "S", "B", "L"):
        for frames in FRAMES:
            stages = cost.layout(model_config(f"omnivore_swin_{model.lower()}"), (frames, 224, 224))
            kind = "picture" if frames == 1 else "clip"
            for number, stage in enumerate(stages, 1):
                found.setdefault(stage._replace(blocks=0), f"{model} {kind} {number}")
    return {name: stage for stage, name in found.items()}


def trust_cudnn() -> None:
    """Lets JAX lower to cuDNN for a GPU that is not there, whose version it would ask for."""
    fused_attention_stablehlo.check_cudnn_version = lambda: CUDNN
    fused_attention_stablehlo.check_compute_capability = lambda _: True


def measure(
    machine: Machine, stage: StageLayout, samples: int, backend: str
) -> tuple[float, float]:
    """Bytes that are read and written, and bytes of temporaries."""
    program = compiled(machine, stage, samples, backend=backend)
    memory: Any = program.memory_analysis()
    if machine.device.platform == "tpu":
        costs: Any = program.cost_analysis()
        return costs["bytes accessed"], memory.temp_size_in_bytes
    return traffic.moved(program.as_text() or ""), memory.temp_size_in_bytes


def compiled(
    machine: Machine,
    stage: StageLayout,
    samples: int,
    *,
    shifted: bool = True,
    backend: str = "auto",
) -> jax.stages.Compiled:
    """Compiles forward and backward pass of a stage's attention for one device, in bfloat16."""
    mesh = make_mesh(MeshConfig(), machine.devices[:1])
    masks = shift_masks(window_grid(stage.size, stage.window, shifted))
    n, rows = stage.window_tokens, (samples * stage.windows, stage.window_tokens)

    def array(*shape: int, dtype=jnp.bfloat16) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P()))

    def both(qkv, bias, dout):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):

            def attend(qkv, bias):
                return window_attention(qkv, bias, masks, backend=backend)

            out, back = jax.vjp(attend, qkv, bias)
            return out, *back(dout)

    lowered = jax.jit(both).lower(
        array(*rows, 3 * stage.channels),
        array(stage.heads, n, n, dtype=jnp.float32),
        array(*rows, stage.channels),
    )
    return lowered.compile(compiler_options=dict(machine.compiler))


if __name__ == "__main__":
    main()
