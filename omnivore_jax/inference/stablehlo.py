"""Models as StableHLO programs: one file a head, which JAX runs anywhere without this package.

    from jax import export
    logits = export.deserialize(open("image.stablehlo", "rb").read()).call(x)

x is float32 [b, t, h, w, 3 or 4], standardised as card.json says, with any b.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from omnivore_jax.core.errors import UserError
from omnivore_jax.inference.programs import Program, Shape, check_program, sample_of
from omnivore_jax.inference.trained import TrainedModel
from omnivore_jax.model.params import abstract_model, merge


def make_program(
    trained: TrainedModel, head: str, shape: Shape, platforms: Sequence[str]
) -> Program:
    """Exports one head, for a batch of any size, and checks it against the model.

    Raises:
        UserError: the head has no modality, JAX does not know a platform, or the program differs.

    """
    kind, sample = sample_of(trained, head, shape)
    model = trained.model
    # What is not plain XLA runs on one platform alone, or for one size of batch.
    compute = replace(model.compute, attention="xla")
    graphdef = abstract_model(model.config, model.heads)[0]

    def run(x: jax.Array) -> Any:
        return merge(graphdef, model.params)(x, head, compute=compute)

    (batch,) = export.symbolic_shape("b")
    try:
        exported = export.export(jax.jit(run), platforms=tuple(platforms))(
            jax.ShapeDtypeStruct((batch, *sample), jnp.float32)
        )
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"head {head!r} cannot be exported for {platforms}: {error}") from error
    code = bytes(exported.serialize())
    program = export.deserialize(bytearray(code))
    if jax.default_backend() not in program.platforms:
        raise UserError(
            f"--platforms={','.join(program.platforms)} cannot be checked on this machine, which "
            f"has {jax.default_backend()}; add it"
        )
    difference = check_program(trained, head, sample, program.call)
    return Program(head, kind, sample, code, difference)
