"""What the devices tell each other in a step, counted in the compiled program."""

import math
import re
from typing import NamedTuple

import jax
import pytest

from omnivore_jax.train.mesh import SMALLEST_SHARDED, MeshConfig
from omnivore_jax.train.state import abstract_state
from tests.train.miniature import MODEL, batch, step_of, trainer

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"


class Collective(NamedTuple):
    kind: str
    types: frozenset[str]
    elements: int
    in_loop: bool


def computations(text: str) -> dict[str, list[str]]:
    """Lines of every computation of a compiled program, by name."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        head = re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{\s*$", line)
        if head and not line.startswith(" "):
            lines = found.setdefault(head[1], [])
        lines.append(line)
    return found


def inside_loops(parts: dict[str, list[str]]) -> set[str]:
    """Names of the computations that loops run, those that they call included."""
    text = "\n".join(line for lines in parts.values() for line in lines)
    open_, inside = re.findall(r"(?:body|condition)=%?([\w.\-]+)", text), set()
    while open_:
        name = open_.pop()
        if name not in inside:
            inside.add(name)
            own = "\n".join(parts.get(name, []))
            open_ += re.findall(r"(?:body|condition|calls|to_apply)=%?([\w.\-]+)", own)
    return inside


def collectives(text: str) -> list[Collective]:
    parts = computations(text)
    inside, result = inside_loops(parts), []
    for name, lines in parts.items():
        for line in lines:
            match = re.match(rf"\s*(?:ROOT )?%?[\w.\-]+ = (.*?) ({KINDS})(?:-start)?\(", line)
            if match:
                arrays = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
                sizes = [
                    math.prod(map(int, shape.split(","))) if shape else 1 for _, shape in arrays
                ]
                types = frozenset(kind for kind, _ in arrays)
                result.append(Collective(match[2], types, sum(sizes), name in inside))
    return result


@pytest.mark.parametrize("mesh", [MeshConfig(8, 1, 1), MeshConfig(2, 4, 1)], ids=str)
def test_gradients_meet_once_after_the_last_micro_batch_in_float32(mesh):
    ours = trainer(mesh, microbatch=1)
    state = abstract_state(MODEL, ours.heads, ours.mesh)
    step = step_of(mesh, 1)
    text = step.lower(state, {"reliefs": batch("reliefs", mesh)}).compile().as_text()
    every = collectives(text)
    assert " while(" in text
    assert [c for c in every if c.in_loop] == []
    assert {c.types for c in every} <= {frozenset({"f32"}), frozenset({"s32"})}
    params = dict(state.params, heads={"reliefs": state.params["heads"]["reliefs"]})
    trained = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    reduced, collected = (
        sum(c.elements for c in every if c.kind == kind and "f32" in c.types)
        for kind in ("all-reduce", "all-gather")
    )
    assert {c.kind for c in every} <= {"all-reduce", "all-gather"}
    assert trained <= reduced <= trained + 10  # and a few figures
    # What fsdp divides is gathered once.
    large = sum(n for leaf in jax.tree.leaves(params) if (n := leaf.size) >= SMALLEST_SHARDED)
    assert collected == (large if mesh.fsdp > 1 else 0)
