"""What keeps the program readable, where a linter does not look."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "reconciler").rglob("*.py"))
    if "template" not in file.parts
}
MAX_POSITIONAL = 5
MAX_LINES = 450
MAX_ENGINE_MODULES = 27

POSITIONAL = {"_git", "git", "run", "Table", "create_table", "create_commit"}
"""Functions that take any number of alike arguments, or no keywords: pygit2's."""


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def length(module: str) -> int:
    return len(MODULES[module].read_text().splitlines())


def name_of(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def imported(module: str) -> Iterator[str]:
    """The modules of the program that one imports, wherever in it the import stands."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = [f"{node.module}.{each.name}" for each in node.names]
            yield from (name for name in inner if name in MODULES)
            if node.module in MODULES and any(name not in MODULES for name in inner):
                yield node.module


def circle(graph: dict[str, set[str]]) -> set[str]:
    """Modules that import each other; none if there is no such circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return set(error.args[1])
    return set()


@pytest.mark.parametrize("module", MODULES)
def test_no_call_has_more_than_five_positional_arguments(module: str) -> None:
    calls = [node for node in ast.walk(parsed(module)) if isinstance(node, ast.Call)]
    found = [
        f"line {call.lineno}: {name_of(call.func)}"
        for call in calls
        if len(call.args) > MAX_POSITIONAL and name_of(call.func) not in POSITIONAL
    ]
    assert found == []


def test_no_module_is_too_long() -> None:
    assert {module: length(module) for module in MODULES if length(module) > MAX_LINES} == {}


def test_the_engine_has_few_modules() -> None:
    assert len([module for module in MODULES if module.startswith("reconciler.engine.")]) <= MAX_ENGINE_MODULES


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle({module: set(imported(module)) for module in MODULES}) == set()


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert circle(graph) == {"b", "c"}
