"""Compiled programs as text (HLO): their computations, and the sizes of arrays in them."""

import math
import re

ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
"""Type and shape of an array."""
HEAD = re.compile(r"(?:ENTRY )?%?([\w.\-]+) .*\{\s*$")


def computations(text: str) -> dict[str, list[str]]:
    """Lines of every computation of a compiled program, by name."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        head = None if line.startswith(" ") else HEAD.match(line)
        if head:
            lines = found.setdefault(head[1], [])
        lines.append(line)
    return found


def elements(shape: str) -> int:
    """Counts the elements of a shape, 8,49,96 for example."""
    return math.prod(map(int, shape.split(","))) if shape else 1


def width(kind: str) -> int:
    """Bytes of an element of a type (f32, bf16, pred)."""
    bits = re.search(r"\d+", kind)
    return max(int(bits[0]) // 8, 1) if bits else 1


def size(kind: str) -> int:
    """Bytes of all arrays that a type names, one or a tuple of them."""
    return sum(elements(shape) * width(name) for name, shape in ARRAY.findall(kind))
