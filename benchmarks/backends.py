"""Attention backends beside each other on this machine: the same model, call by call in turns.

    python -m benchmarks.backends --backends=cpu,chunked [--model=omnivore_swin_t] [--frames=32]
        [--samples=1] [--train] [--rounds=9]

Prints the time of a call beside that of the first backend, and the temporaries of its program.
Weights are drawn; `--train` computes gradients too.
"""

import statistics
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.machine import command_line, describe, words
from benchmarks.spread import spread
from omnivore_jax.core import command
from omnivore_jax.core.memory import in_order
from omnivore_jax.model.compiled import CompiledModel, create_model
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.params import Params, abstract_model, merge

BACKENDS = flags.DEFINE_list("backends", ["cpu", "chunked"], "Names that `attention.backend` has.")
MODEL = flags.DEFINE_string("model", "omnivore_swin_t", "Variant.")
FRAMES = flags.DEFINE_integer("frames", 32, "1: pictures.", lower_bound=1)
SAMPLES = flags.DEFINE_integer("samples", 1, "In a call.", lower_bound=1)
TRAIN = flags.DEFINE_boolean("train", False, "Gradients too.")
ROUNDS = flags.DEFINE_integer("rounds", 9, "Calls of every backend.", lower_bound=3)


def main(argv: Sequence[str]) -> int:
    model = create_model(MODEL.value, {"image": 1000})
    shape = (SAMPLES.value, FRAMES.value, 224, 224, 3)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))
    programs = {name: compiled(model, x, name) for name in BACKENDS.value}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(ROUNDS.value + 1):  # the first is not counted
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(model.params, x))
            if number:
                times[name].append(time.perf_counter() - began)
    print(command_line("backends"), f"\n{words(describe())}, load {describe()['load']}")
    first = times[BACKENDS.value[0]]
    for name, program in programs.items():
        ratios = [a / b for a, b in zip(times[name], first, strict=True)]
        memory = program.memory_analysis()
        temporaries = 0 if memory is None else memory.temp_size_in_bytes >> 20
        print(
            f"{name}: {statistics.median(times[name]):.2f} s, {statistics.median(ratios):.2f} x "
            f"(quartiles {spread(ratios):.0%} apart), temporaries {temporaries} MiB"
        )
    return 0


def compiled(model: CompiledModel, x: jax.Array, backend: str) -> jax.stages.Compiled:
    """Compiles (parameters, samples) -> scores, or gradients of their squares."""
    graphdef = abstract_model(model.config, model.heads)[0]

    def score(params: Params, x: jax.Array):
        return merge(graphdef, params)(x, "image", compute=Compute(attention=backend))

    def loss(params: Params, x: jax.Array):
        return jnp.square(score(params, x)).sum()

    order = dict(in_order(jax.default_backend()))  # as the product's own programs
    program = jax.jit(jax.grad(loss) if TRAIN.value else score, compiler_options=order)
    return program.lower(model.params, x).compile()


if __name__ == "__main__":
    command.run(main)
