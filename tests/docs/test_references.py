"""What code and documentation cite is in the repository: a page by its path, and the heading on it.

The form is `docs/design/rules.md, "The guard"`, or a link with an anchor.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CITED = re.compile(r'\b(docs/[\w./-]+\.md)(?:#([\w-]+)|,[\s#]+"([^"]+)")?')
"""A page, with an anchor or a heading. A citation may go on in the next line, of a comment too."""

ELSEWHERE = re.compile(r"\bDESIGN\b|\bSTATES\.md\b")
"""Documents that are no part of the repository."""


def files() -> list[Path]:
    """Every committed text file in which somebody may cite a page."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    suffixes = {"", ".py", ".md", ".toml", ".yaml", ".yml"}
    paths = [ROOT / name for name in listed.split("\0") if name and Path(name).suffix in suffixes]
    return [path for path in paths if path.is_file() and path != Path(__file__)]


def headings(page: Path) -> set[str]:
    """A page's headings as they stand there."""
    return set(re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE))


def anchor(heading: str) -> str:
    """What the site and the repository's host make of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def unresolved(text: str) -> list[str]:
    """The citations of a text that lead nowhere."""
    found = []
    for cited in CITED.finditer(text):
        page, at, heading = ROOT / cited[1], cited[2], re.sub(r"[\s#]+", " ", cited[3] or "")
        known = headings(page) if page.is_file() else None
        if known is None or (heading and heading not in known) or (at and at not in {anchor(each) for each in known}):
            found.append(cited[0])
    return found


@pytest.mark.parametrize(
    "text",
    [
        "docs/design/nothing.md",
        'docs/design/rules.md, "No such rule"',
        "docs/design/rules.md#no-such-rule",
        'docs/design/rules.md, "The\n    gourd"',
    ],
)
def test_citation_without_a_target_is_found(text: str) -> None:
    assert unresolved(f"As it is told ({text}).") == [text]


@pytest.mark.parametrize(
    "text",
    ["docs/design/rules.md", 'docs/design/rules.md, "The\n    guard"', "docs/design/rules.md#the-guard"],
)
def test_citation_with_a_target_resolves(text: str) -> None:
    assert unresolved(f"As it is told ({text}).") == []


def test_every_citation_resolves() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in files()}
    assert sum(len(CITED.findall(text)) for text in texts.values()) > 50
    assert {name: lost for name, text in texts.items() if (lost := unresolved(text))} == {}


def test_nothing_outside_of_the_repository_is_cited() -> None:
    assert [str(path.relative_to(ROOT)) for path in files() if ELSEWHERE.search(path.read_text())] == []


NAMED = re.compile(r"\| `(reconciler/[\w/]+\.py)` \| `([\w.]+)` \|")
"""A module and a function of it, in a row of a table."""


def functions(module: Path) -> set[str]:
    """A module's functions, and its classes' methods as `Class.method`."""
    tree = ast.parse(module.read_text())
    found = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    for each in tree.body:
        if isinstance(each, ast.ClassDef):
            found |= {f"{each.name}.{one.name}" for one in each.body if hasattr(one, "name")}
    return found


def test_the_life_of_a_commit_names_functions_that_exist() -> None:
    rows = NAMED.findall((ROOT / "docs/design/life-of-a-commit.md").read_text())
    assert len(rows) > 10
    assert [(path, name) for path, name in rows if name not in functions(ROOT / path)] == []
    assert len({path for path, _ in rows}) <= 20  # so many modules somebody can still follow


def test_what_the_tests_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/*.]+)`", (ROOT / "tests/README.md").read_text())
    assert len(named) > 10
    assert [path for path in named if not any(ROOT.glob(path))] == []
