"""Rules of the house that no linter holds (DESIGN, section 5)."""

import ast
from collections import Counter
from pathlib import Path

import pytest

FILES = sorted(Path("omnivore_jax").rglob("*.py"))
MAX_LINES, MAX_FUNCTION, MAX_PARAMETERS = 400, 60, 6
SAME_NAME = {"__init__", "config", "cpu", "report", "table", "omnivore", "base"}
"""Modules whose name the layout gives twice, each with one meaning in its folder."""
MORE_PARAMETERS = {"TrainLoader"}
"""Constructors that were agreed upon with more parameters."""


def functions(tree):
    """Functions with the name of the class that they are methods of."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield getattr(node, "name", ""), child


@pytest.mark.parametrize("file", FILES, ids=str)
def test_files_and_functions_are_short_and_take_few_parameters(file):
    text = file.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for owner, function in functions(ast.parse(text)):
        arguments = function.args
        names = [a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
        names = [name for name in names if name not in ("self", "cls")]
        assert len(names) <= MAX_PARAMETERS or owner in MORE_PARAMETERS, function.name
        assert function.end_lineno - function.lineno < MAX_FUNCTION, function.name


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_conditional_expression_holds_another(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.IfExp):
            inner = [child for child in ast.walk(node) if isinstance(child, ast.IfExp)]
            assert len(inner) == 1, f"line {node.lineno}"


def test_no_module_name_stands_twice_but_those_of_the_layout():
    counts = Counter(file.stem for file in FILES)
    assert {name for name, count in counts.items() if count > 1} <= SAME_NAME
