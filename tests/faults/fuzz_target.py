"""What a kind of hostile input is to `tests.faults.fuzz`, and what its targets hold all answers against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis.strategies import SearchStrategy

from reconciler.model.errors import Problem


class Target(ABC):
    """Examples of one kind, and what is done with each."""

    name: str
    what: str
    examples: SearchStrategy[Any]

    @contextmanager
    def open(self) -> Iterator[None]:
        """What the examples are played on, for as long as the block runs."""
        yield

    @abstractmethod
    def play(self, example: Any) -> None:
        """Give one example to the program; raises where that does not answer as it should."""


def can_be_written(text: str, *, without: str | None = None) -> None:
    """Whatever is told can be written to a terminal, a log and a ledger; it is short, and gives nothing away."""
    assert text.strip(), "says nothing"
    assert without is None or without not in text
    text.encode()
    assert len(text) < 5_000, f"says too much: {text[:200]}"


def names_its_place(problem: Problem, file: str, raw: bytes) -> None:
    """A problem names the file, a line that it has, and what is wrong."""
    assert problem.file == file
    can_be_written(str(problem))
    if problem.line is not None:
        # libyaml counts CR, NEL and the separators of lines and paragraphs too.
        lines = raw.decode(errors="replace").replace("\r\n", "\n")
        most = 1 + sum(lines.count(end) for end in "\n\r\x85\u2028\u2029")
        assert 1 <= problem.line <= most + 1, problem
