"""What window attention moves through the memory of a TPU, fused and plain, by its compiler.

    python -m benchmarks.attention [--topology=v5e:2x2] [--samples=8]

Compiles for a machine that need not be there (`pip install -r requirements-tpu.txt`): forward and
backward pass on one device, in bfloat16, in the shifted windows of every stage of the paper's
models at 224 x 224. Prints the table of docs/performance.md.
"""

import argparse

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from omnivore_jax.experiment.topology import open_machine
from omnivore_jax.model import cost
from omnivore_jax.model.attention.table import window_attention
from omnivore_jax.model.cost import StageLayout
from omnivore_jax.model.variants import model_config
from omnivore_jax.model.window import shift_masks, window_grid
from omnivore_jax.train.mesh import MeshConfig, make_mesh

BACKENDS = ("xla", "pallas_tpu")
FRAMES = (1, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:2x2", help="as `--mode=compile` has it")
    parser.add_argument("--samples", type=int, default=8, help="pictures or clips")
    options = parser.parse_args()
    print(
        "| stage: tokens x heads | windows | plain GB | fused GB | plain temporaries GiB | fused |"
    )
    print("|---|---|---|---|---|---|")
    for name, stage in paper_stages().items():
        figures = [
            measure(options.topology, stage, options.samples, backend) for backend in BACKENDS
        ]
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


def measure(topology: str, stage: StageLayout, samples: int, backend: str) -> tuple[float, float]:
    """Bytes that are read and written, and bytes of temporaries."""
    program = compiled(topology, stage, samples, backend=backend)
    memory, costs = program.memory_analysis(), program.cost_analysis()
    if memory is None or costs is None:
        raise RuntimeError(f"the compiler of {topology} gives no figures")
    return costs["bytes accessed"], memory.temp_size_in_bytes


def compiled(
    topology: str,
    stage: StageLayout,
    samples: int,
    *,
    shifted: bool = True,
    backend: str = "auto",
) -> jax.stages.Compiled:
    """Compiles forward and backward pass of a stage's attention for one device, in bfloat16."""
    mesh = make_mesh(MeshConfig(), open_machine(topology).devices[:1])
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
    return lowered.compile()


if __name__ == "__main__":
    main()
