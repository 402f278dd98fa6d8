"""What devices tell each other in a compiled program, read from its text (HLO)."""

import math
import re
from typing import NamedTuple

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute"
HEAD = re.compile(r"(?:ENTRY )?%?([\w.\-]+) .*\{\s*$")
OPERATION = re.compile(rf"\s*(?:ROOT )?%?[\w.\-]+ = (.*?) ({KINDS})(-start)?\(")
ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
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
    parts = _computations(text)
    inside, found = _inside_loops(parts), []
    for name, lines in parts.items():
        for match in filter(None, map(OPERATION.match, lines)):
            arrays = [(kind, _elements(shape)) for kind, shape in ARRAY.findall(match[1])]
            if match[3]:
                arrays = _results(match[2], arrays)
            sizes = [elements for _, elements in arrays]
            found.append(
                Collective(
                    match[2],
                    frozenset(kind for kind, _ in arrays),
                    sum(sizes),
                    sum(elements * _width(kind) for kind, elements in arrays),
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


def _computations(text: str) -> dict[str, list[str]]:
    """Lines of every computation of a compiled program, by name."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        head = None if line.startswith(" ") else HEAD.match(line)
        if head:
            lines = found.setdefault(head[1], [])
        lines.append(line)
    return found


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


def _elements(shape: str) -> int:
    return math.prod(map(int, shape.split(","))) if shape else 1


def _width(kind: str) -> int:
    """Bytes of an element of a type of HLO."""
    bits = re.search(r"\d+", kind)
    return max(int(bits[0]) // 8, 1) if bits else 1
