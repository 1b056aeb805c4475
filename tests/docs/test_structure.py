"""What keeps the program readable, where a linter does not look."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta, tzinfo
from enum import Enum
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from reconciler.engine.apply.claims import ClaimSet
from reconciler.engine.apply.plan import Plan
from reconciler.engine.observe.checker import Checker
from reconciler.engine.state import OpenState
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import ReadState
from reconciler.model.grant import Key
from reconciler.model.manifest import Manifest
from reconciler.model.value import Frozen
from reconciler.requests.client import Client

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "reconciler").rglob("*.py"))
    if "template" not in file.parts
}
MAX_POSITIONAL = 5
MAX_LINES = 450

POSITIONAL = {"_git", "git", "run", "fields", "Table", "create_table", "_columns", "_add_columns", "create_commit"}
"""Functions that take any number of alike arguments, or no keywords: pygit2's."""


SENTENCES = {"reason", "detail", "last_error"}
READING = {
    *("startswith", "endswith", "removeprefix", "removesuffix", "replace", "partition", "rpartition", "split", "find"),
    *("search", "match", "fullmatch", "findall", "finditer", "sub"),
}
READS_A_SENTENCE = {
    "reconciler.workshop.testing": "who wrote a manifest's test says which words it is to find",
    "reconciler.ledger.chain": "digests cover what lines of before say, so nothing can be added to them",
}


WRITES_A_PHASE = {
    *(f"reconciler.engine.apply.{name}" for name in ("transitions", "attempts")),
    # These ask what they would decide if the record were another; no such record leaves them.
    *(f"reconciler.engine.decide.{name}" for name in ("wanted", "orphans")),
    "reconciler.workshop.stage",  # makes the record of a manifest's test
}


GIVES = re.compile(r"(\bLedger\[|Callable\[\[)Ledger(Reader|Writer)\]")
"""What is awaited, and work that is given one."""
BLOCKS = re.compile(r"\bLedger(Reader|Writer)\b")


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


def is_sentence(node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value in SENTENCES
    return name_of(node) in SENTENCES


def reads_a_sentence(node: ast.AST) -> bool:
    """Whether something is decided by the words of a reason, in Python or in SQL."""
    match node:
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=args) if name in READING:
            return any(map(is_sentence, [value, *args]))
        case ast.Compare(left=left, ops=ops, comparators=others):
            inside = any(isinstance(op, ast.In | ast.NotIn) for op in ops) and any(map(is_sentence, others))
            literal = any(isinstance(each, ast.Constant) and each.value not in ("", None) for each in [left, *others])
            return inside or (literal and any(map(is_sentence, [left, *others])))
        case ast.Constant(value=str(text)):
            return (
                re.search(r"\b(reason|detail)\b *(NOT )?(I?LIKE|=|<>|~)|(substr|instr)\((reason|detail)", text)
                is not None
            )
        case _:
            return False


@pytest.mark.parametrize(
    ("code", "reads"),
    [
        ("record.reason.startswith('drift')", True),
        ("'drift' in line.detail", True),
        ("decision.reason == 'kept'", True),
        ("PATTERN.search(row['detail'])", True),
        ("'SELECT 1 FROM grants WHERE reason LIKE :policy'", True),
        ("'SELECT 1 FROM grants WHERE substr(reason, 1, 4) = :held'", True),
        ("replace(decision, reason=f'{decision.reason}; kept')", False),
        ("record.code is ReasonCode.DRIFT", False),
        ("record.reason == other.reason", False),
    ],
)
def test_what_reads_a_sentence(code: str, *, reads: bool) -> None:
    assert any(map(reads_a_sentence, ast.walk(ast.parse(code)))) == reads


def test_no_code_reads_a_sentence() -> None:
    found = {
        f"{module}:{getattr(node, 'lineno', 0)}"
        for module in MODULES.keys() - READS_A_SENTENCE
        for node in ast.walk(parsed(module))
        if reads_a_sentence(node)
    }
    assert found == set()


def writes_a_phase(node: ast.AST) -> bool:
    """Whether a record gets a phase, or the status that is shown of it."""
    match node:
        case ast.Call(func=func, args=args, keywords=keywords):
            named = {each.arg for each in keywords}
            shown = "status" in named and any("record" in name_of(each) for each in args)
            return name_of(func) == "stated" or "phase" in named or shown
        case ast.Dict(keys=keys, values=values):
            members = {name_of(each.value) for each in values if isinstance(each, ast.Attribute)}
            return "Phase" in members and any(isinstance(key, ast.Constant) and key.value == "phase" for key in keys)
        case _:
            return False


@pytest.mark.parametrize(
    ("code", "writes"),
    [
        ("replace(record, phase=Phase.DONE)", True),
        ("replace(item.record, status=Status.DONE)", True),
        ("replace(record, **stated(Status.DONE, Action.NONE, 'it ran'))", True),
        ("{'phase': Phase.DONE}", True),
        ("replace(decision, status=Status.DONE)", False),
        ("{'phase': _reads(Phase)}", False),
    ],
)
def test_what_writes_a_phase(code: str, *, writes: bool) -> None:
    assert any(map(writes_a_phase, ast.walk(ast.parse(code)))) == writes


def test_statuses_and_phases_of_records_are_written_in_one_place() -> None:
    assert {module for module in MODULES if any(map(writes_a_phase, ast.walk(parsed(module))))} == WRITES_A_PHASE


def given_what_blocks(tree: ast.AST) -> Iterator[int]:
    """The lines of coroutines, and of the makers of objects that have some, that are given a reader or a writer."""
    for node in ast.walk(tree):
        takes: list[ast.AsyncFunctionDef | ast.FunctionDef] = [node] if isinstance(node, ast.AsyncFunctionDef) else []
        if isinstance(node, ast.ClassDef) and any(isinstance(each, ast.AsyncFunctionDef) for each in node.body):
            takes = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        for function in takes:
            arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
            given = [ast.unparse(each.annotation) for each in arguments if each.annotation is not None]
            if any(BLOCKS.search(GIVES.sub("", each)) for each in given):
                yield function.lineno


@pytest.mark.parametrize(
    ("code", "blocks"),
    [
        ("async def f(ledger: LedgerWriter): ...", True),
        ("class A:\n def __init__(self, ledger: LedgerReader | None): ...\n async def f(self): ...", True),
        ("class A:\n def __init__(self, ledger: Ledger[LedgerReader]): ...\n async def f(self): ...", False),
        ("def f(ledger: LedgerWriter): ...", False),
    ],
)
def test_what_may_block(code: str, *, blocks: bool) -> None:
    assert bool([*given_what_blocks(ast.parse(code))]) is blocks


def test_no_coroutine_is_given_a_ledger_that_blocks() -> None:
    assert {name: [*given_what_blocks(parsed(name))] for name in MODULES if [*given_what_blocks(parsed(name))]} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle({module: set(imported(module)) for module in MODULES}) == set()


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert circle(graph) == {"b", "c"}


PLAIN = (str, bytes, int, float, NoneType, date, timedelta, tzinfo, Enum)
CONTAINERS = (Mapping, Sequence, dict, list, tuple, frozenset)
IMPORTED_FOR_TYPES: dict[str, Any] = {"Key": Key, "Manifest": Manifest, "Mapping": Mapping}


def parts_of(kind: Any) -> dict[str, Any] | None:
    """What a value of a type is made of; None if it is no value, but something alive."""
    if get_origin(kind) is Literal or kind is Any:
        return {}
    if arguments := get_args(kind):  # a union has no origin that is a container
        origin = get_origin(kind)
        known = not isinstance(origin, type) or origin in CONTAINERS or origin is type(int | str)
        return {str(place): each for place, each in enumerate(arguments) if each is not ...} if known else None
    if issubclass(kind, PLAIN):
        return {}
    if not issubclass(kind, Frozen | BaseModel | tuple):
        return None
    hints = get_type_hints(kind, localns=IMPORTED_FOR_TYPES)
    return {name: hints[name] for name in getattr(kind, "__struct_fields__", getattr(kind, "model_fields", hints))}


def alive_under(kind: Any) -> set[str]:
    """Where a value of a type holds something that is none, by the annotations of fields."""
    found, seen, queue = set[str](), set[Any](), [(kind.__name__, kind)]
    for place, each in queue:
        if (parts := parts_of(each)) is None:
            found.add(place)
        elif each not in seen:
            seen.add(each)
            queue += [(f"{place}.{name}", part) for name, part in parts.items()]
    return found


@pytest.mark.parametrize("kind", [Checker, Client, ClaimSet, LedgerReader, OpenState, ReadState, Callable[[], int]])
def test_what_is_alive_is_found_within_a_value(kind: Any) -> None:
    class Inner(Frozen):
        it: Any

    class Outer(Frozen):
        name: str
        inner: Any

    Inner.__annotations__["it"] = kind
    Outer.__annotations__ |= {"name": str, "inner": Mapping[str, tuple[Inner, ...] | None]}
    assert alive_under(Outer) != set()


def test_nothing_that_is_alive_hangs_on_a_plan() -> None:
    """No client, checker, claim, ledger or state: a plan only says what is to be done."""
    assert alive_under(Plan) == set()
