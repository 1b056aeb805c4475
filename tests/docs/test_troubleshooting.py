"""Every message that the page about troubleshooting quotes is one that the program has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from reconciler.model.status import Status

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"


def literals(tree: ast.AST) -> Iterator[str]:
    """Every text of a module, with `…` where a value is filled in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w+\}", "…", node.value)


@cache
def messages() -> str:
    """Every text of the program, one a line."""
    files = [file for file in (ROOT / "reconciler").rglob("*.py") if "demo" not in file.parts]
    return "\n".join(" ".join(text.split("\n")) for file in files for text in literals(ast.parse(file.read_text())))


def has(quoted: str) -> bool:
    """Whether the program has a text that contains this one; a `…` stands for anything within one text."""
    pattern = "[^\n]*".join(map(re.escape, quoted.split("…")))
    return re.search(pattern, messages()) is not None


def quotes() -> list[str]:
    """What the first cells of the page's tables quote, but for the statuses."""
    text = PAGE.read_text().partition("\n## Checks\n")[2]
    return [
        quoted for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for quoted in re.findall("`([^`]+)`", row)
    ]


@pytest.mark.parametrize("quoted", quotes())
def test_quoted_message_is_the_programs(quoted: str) -> None:
    assert has(quoted)


def test_a_message_that_the_program_has_not_is_noticed() -> None:
    assert not has("the state … is sleeping")
    assert has("the state … is held by …")


def test_every_status_that_needs_a_person_is_documented() -> None:
    told = PAGE.read_text().partition("## A status that you did not expect")[2].partition("\n## ")[0]
    good = {Status.PRESENT, Status.DONE, Status.REVOKED, Status.RETRYING}
    assert {str(status) for status in Status if status not in good} <= set(
        re.findall("^\\| `(\\w+)`", told, re.MULTILINE)
    )
