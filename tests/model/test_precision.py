"""Gradients of parameters in bfloat16 computation, read in the program that a TPU is given."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Literal

from omnivore_jax.core.tree import flatten
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.params import abstract_model, merge
from tests.train.miniature import MODEL, trainer

HEADS = trainer().heads

SUMS = ("dot_general", "reduce_sum", "scatter-add", "pallas_call")
"""What adds up over tokens: where a gradient gets its precision.

A kernel adds up what it gives in float32 alone: the gradient of the position bias.
"""


def inlined(jaxpr: Any, names: dict, equations: list) -> list:
    """Writes a program without inner programs: equations as (primitive, inputs, outputs).

    `names` maps variables to (name, type) pairs.
    """

    def name(var: Any):
        if isinstance(var, Literal):
            return (f"literal {var.val}", jnp.result_type(var.val))
        return names.setdefault(var, (f"v{len(equations)}.{len(names)}.{id(var)}", var.aval.dtype))

    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        ins = [name(v) for v in equation.invars]
        if inner is None or equation.primitive.name == "pallas_call":
            equations.append((equation.primitive.name, ins, [name(v) for v in equation.outvars]))
            continue
        inner = getattr(inner, "jaxpr", inner)
        own = dict(zip(inner.invars, ins, strict=True))
        outs = inlined(inner, own, equations)
        names.update(zip(equation.outvars, outs, strict=True))
    return [name(v) for v in jaxpr.outvars]


def lineage(result, makers):
    """Types of all that lies between a gradient and the sums over tokens that make it."""
    types, open_ = [], [result]
    while open_:
        value = open_.pop()
        types.append(value[1])
        primitive, inputs = makers.get(value, (None, []))
        if primitive not in SUMS:
            open_ += [v for v in inputs if jnp.issubdtype(v[1], jnp.floating)]
    return types


@pytest.mark.parametrize("position_bias", ["joint", "factored"])
def test_gradients_of_parameters_are_added_up_in_float32(position_bias):
    config = replace(MODEL, position_bias=position_bias)
    compute = Compute(dtype="bfloat16")
    graph, params = abstract_model(config, HEADS)

    def loss(params, x):
        return sum(merge(graph, params)(x, head=name, compute=compute).sum() for name in HEADS)

    device = jax.sharding.AbstractDevice("TPU v5 lite", None, "tpu")
    mesh = jax.sharding.AbstractMesh((1,), ("one",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        x = jax.ShapeDtypeStruct((2, 1, 16, 16, 4), jnp.float32)
        program = jax.make_jaxpr(jax.grad(loss))(params, x)
    assert "bf16" in str(program)
    equations = []
    results = inlined(program.jaxpr, {}, equations)
    makers = {out: (primitive, ins) for primitive, ins, outs in equations for out in outs}
    for path, result in zip(flatten(params), results, strict=True):
        assert set(lineage(result, makers)) == {jnp.dtype("float32")}, path
