"""Read `config/reviews/<period>/[<manager>/]<integration>.yaml`, and separate decisions from the population.

A file with an error is read as far as possible: an error in one line does not hide the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from reconciler.model.base import as_text
from reconciler.model.config_files import ANSWERED, KEEP, REMOVE, Review
from reconciler.model.errors import Problem, Severity
from reconciler.model.value import Frozen
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.problems import explain
from reconciler.repository.documents.yaml import Document, read
from reconciler.repository.git.parts import FileVersion
from reconciler.repository.git.trees import File, Tree
from reconciler.repository.naming import shown

REVIEWS = "config/reviews"
_PARTS = ("config", "reviews", "PERIOD", "INTEGRATION")
"""The parts of a review's path; one that is about a manager's people has one more."""

LARGEST = 32 * 1024 * 1024
"""Bytes of a review, which has a line for each person: a hundred thousand of them."""

PERIOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a period is called; it names a folder."""


class Line(Frozen):
    """A line of the file; its `population` is all but what a reviewer fills in, in canonical form.

    By its `key` it is known from one version of the file to the next.
    """

    index: int
    data: Mapping[str, Any]
    population: str
    key: str

    @property
    def decision(self) -> str | None:
        """Return `keep`, `remove`, or None for anything else."""
        said = self.data.get("decision")
        return said if said in (KEEP, REMOVE) else None

    @property
    def reason(self) -> str:
        """Return the reviewer's reason; empty if there is none."""
        said = as_text(self.data.get("reason"))
        return said if isinstance(said, str) else ""

    @property
    def who(self) -> str:
        """Return a hire's id, or an account's name."""
        return str(as_text(self.data.get("who")))

    @property
    def access(self) -> str | None:
        """Return the access entry's name; None for an unmanaged account."""
        said = self.data.get("access")
        return None if said is None else str(as_text(said))

    def __str__(self) -> str:
        return self.who if self.access is None else f"{self.who}/{self.access}"


class ReviewFile(Frozen):
    """One integration's review of one period. `header` is what is above the lines."""

    path: str
    header: Mapping[str, Any]
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...] = ()
    document: Document | None = None

    @property
    def period(self) -> str:
        """Return the folder of its period."""
        return PurePosixPath(self.path).parts[2]

    @property
    def manager(self) -> str | None:
        """Return whose people it is about; None if it is about everybody."""
        folder = PurePosixPath(self.path).parent.name
        return None if len(PurePosixPath(self.path).parts) == len(_PARTS) else folder

    @property
    def due(self) -> str | None:
        """Return the day by which it has to be decided, if there is one."""
        return self.text("due")

    def overdue(self, today: date) -> bool:
        """Whether that day is over, and lines are undecided."""
        return self.due is not None and self.due < today.isoformat() and any(not line.decision for line in self.lines)

    @property
    def integration(self) -> str:
        """Return its stem."""
        return PurePosixPath(self.path).stem

    @property
    def digest(self) -> str:
        """Return the digest of the population as it is, whatever the file says."""
        return _digest_of(self.header, self.lines)

    def doubts(self) -> list[Problem]:
        """Return the problems that the file itself shows: errors, or else a digest that does not match."""
        if self.problems or self.header.get("digest") == self.digest:
            return list(self.problems)
        return [Problem(self.path, self.place("digest"), "the population was edited: the digest is not that of it")]

    def not_whole(self) -> list[Problem]:
        """Report that the listing was not read completely, if there is one."""
        if self.header.get("complete") is not False or self.header.get("listed") is None:
            return []
        return [Problem(self.path, self.place("complete"), "the listing was not read whole: start it anew")]

    def place(self, *path: str | int) -> int | None:
        """Return the line in the file of a key, or of what is at a path."""
        return None if self.document is None else self.document.line(path)

    def text(self, key: str) -> str | None:
        """Return a text of the header; None if there is none."""
        said = as_text(self.header.get(key))
        return said if isinstance(said, str) and said else None


def decisions_in(raw: bytes, path: str) -> FileVersion | None:
    """Parse the decisions of one version of a review, by the keys of its lines; None if it cannot be read."""
    try:
        data = read(raw, path, LARGEST).data
    except BrokenFile:
        return None
    lines = _lines(data) if isinstance(data, dict) else ()
    return FileVersion(entries={line.key: line.decision for line in lines if line.decision})


def _digest_of(header: Mapping[str, Any], lines: tuple[Line, ...]) -> str:
    """Return the digest of a population (docs/design/rules.md, "Access reviews")."""
    kept = {key: value for key, value in header.items() if key != "digest"}
    population = f"{canonical(kept)}\n" + "".join(f"{text}\n" for text in sorted(line.population for line in lines))
    return hashlib.sha256(population.encode(errors="surrogateescape")).hexdigest()


def read_review(tree: Tree, file: File) -> ReviewFile:
    """Read a revision's review."""
    try:
        return review_in(tree.read(file, LARGEST), file.path)
    except BrokenFile as error:
        return ReviewFile(file.path, {}, (), (error.problem,))


def review_in(raw: bytes, path: str) -> ReviewFile:
    """Parse one version of a review, with its problems."""
    try:
        document = read(raw, path, LARGEST)
    except BrokenFile as error:
        return ReviewFile(path, {}, (), (error.problem,))
    data = document.data
    if not isinstance(data, dict):
        problem = Problem(path, 1, "must be a map: restore what `reconcile review start` wrote")
        return ReviewFile(path, {}, (), (problem,), document)
    try:
        Review.model_validate(data)
        problems: tuple[Problem, ...] = ()
    except ValidationError as error:
        problems = tuple(explain(error, Review, document))
    header = {key: value for key, value in data.items() if key != "lines"}
    return ReviewFile(path, header, _lines(data), problems, document)


def is_review(path: str) -> bool:
    """Whether a path is a review's."""
    parts = PurePosixPath(path).parts
    deep = len(parts) - len(_PARTS)
    return deep in (0, 1) and path.endswith(".yaml") and PERIOD.fullmatch(parts[2]) is not None


def review_problems(tree: Tree, file: File) -> Sequence[Problem]:
    """Report problems of a file under `config/reviews/`, without comparing it with earlier versions."""
    if is_review(file.path):
        return read_review(tree, file).doubts()
    if PurePosixPath(file.path).name.startswith("README"):
        return ()
    what = "not read: a review is config/reviews/<period>/<integration>.yaml, or in a folder for each manager there"
    return (Problem(shown(file.path), None, what, Severity.WARNING),)


def _lines(data: Mapping[str, Any]) -> tuple[Line, ...]:
    """Return the lines; a key is a digest of the population, numbered, because several may be equal."""
    items, often, found = data.get("lines"), Counter[str](), []
    for index, item in enumerate(items if isinstance(items, list) else ()):
        said = item if isinstance(item, dict) else {"who": item}
        population = canonical({key: value for key, value in said.items() if key not in ANSWERED})
        digest = hashlib.sha256(population.encode(errors="surrogateescape")).hexdigest()
        found.append(Line(index, said, population, f"{digest} {often[digest]}"))
        often[digest] += 1
    return tuple(found)


def canonical(data: Any) -> str:
    """Encode data unambiguously: only equal data has the same text, and `0` differs from `false`."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=as_text)
