"""What devices tell each other in a compiled program, read from its text (HLO)."""

import re
from typing import NamedTuple

from omnivore_jax.core import hlo

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute"
OPERATION = re.compile(rf"\s*(?:ROOT )?%?[\w.\-]+ = (.*?) ({KINDS})(-start)?\(")
LOOPS = re.compile(r"(?:body|condition)=%?([\w.\-]+)")
CALLS = re.compile(r"(?:body|condition|calls|to_apply)=%?([\w.\-]+)")


class Collective(NamedTuple):
    """One operation in which devices exchange arrays."""

    kind: str
    types: frozenset[str]
    """Of its arrays, as HLO names them (f32, bf16, s32)."""
    elements: int
    """That it leaves on each device."""
    bytes: int
    largest: int
    """Elements of its largest array."""
    in_loop: bool
    """Whether it runs in every round of a loop."""


def collectives(text: str) -> list[Collective]:
    """Lists the collectives of a compiled program (`compiled.as_text()`)."""
    parts = hlo.computations(text)
    inside, found = _inside_loops(parts), []
    for name, lines in parts.items():
        for match in filter(None, map(OPERATION.match, lines)):
            arrays = [(kind, hlo.elements(shape)) for kind, shape in hlo.ARRAY.findall(match[1])]
            if match[3]:
                arrays = _results(match[2], arrays)
            sizes = [elements for _, elements in arrays]
            found.append(
                Collective(
                    match[2],
                    frozenset(kind for kind, _ in arrays),
                    sum(sizes),
                    sum(elements * hlo.width(kind) for kind, elements in arrays),
                    max(sizes, default=0),
                    name in inside,
                )
            )
    return found


def _results(kind: str, arrays: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The results of an operation that only begins; all but an all-reduce name operands first."""
    if kind == "all-reduce":
        return arrays
    if kind == "collective-permute":
        return arrays[1:2]
    return arrays[len(arrays) // 2 :]


def _inside_loops(parts: dict[str, list[str]]) -> set[str]:
    """Names of the computations that loops run, those that they call included."""
    waiting = [name for lines in parts.values() for line in lines for name in LOOPS.findall(line)]
    inside: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in inside:
            inside.add(name)
            waiting += [call for line in parts.get(name, []) for call in CALLS.findall(line)]
    return inside
