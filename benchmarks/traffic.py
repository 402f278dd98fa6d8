"""Bytes that the operations of a compiled program read and write, where its compiler counts none.

That of GPUs does not. Every operation reads its operands once and writes its results once, whatever
it does in between; rounds of a loop count each where their number is known.
"""

import re

from omnivore_jax.core import hlo

OPERATION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)")
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}
"""They move nothing."""
NAME = re.compile(r"%([\w.\-]+)")
BODY = re.compile(r"body=%?([\w.\-]+)")
CALLED = re.compile(r"(?:to_apply|calls)=%?([\w.\-]+)")
ROUNDS = re.compile(r'known_trip_count":?\{"?n"?:"?(\d+)')


def moved(text: str) -> int:
    """Counts the bytes of a program (`compiled.as_text()`)."""
    parts = hlo.computations(text)
    entry = next(name for name, lines in parts.items() if lines[0].startswith("ENTRY"))
    return _moved(parts, entry)


def _moved(parts: dict[str, list[str]], name: str) -> int:
    sizes, total = {}, 0
    for match in filter(None, map(OPERATION.match, parts[name][1:])):
        result, kind, operation, rest = match.groups()
        sizes[result] = hlo.size(kind)
        if operation == "while":
            rounds = ROUNDS.search(rest)
            body = BODY.search(rest)
            total += (int(rounds[1]) if rounds else 1) * (_moved(parts, body[1]) if body else 0)
        elif operation in ("call", "async-start"):
            called = CALLED.search(rest)
            total += _moved(parts, called[1]) if called else 0
        elif operation not in FREE and not operation.endswith("-done"):
            operands = NAME.findall(_arguments(rest))
            total += sizes[result] + sum(sizes.get(operand, 0) for operand in operands)
    return total


def _arguments(rest: str) -> str:
    """What stands before the bracket that closes the operands."""
    depth = 1
    for at, sign in enumerate(rest):
        depth += (sign == "(") - (sign == ")")
        if not depth:
            return rest[:at]
    return rest
