"""Read the lists in config/: the policy, what may be asked for, and accounts that need no owner.

A broken file is not an empty one: a policy blocks new grants, what may be asked for is nothing, and nothing is ignored.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from reconciler.model.base import ListFile, Model
from reconciler.model.config_files import Ignore, IgnoredAccount, PolicyFile, Requestable, RequestableFile, Rule
from reconciler.model.errors import Problem, Severity
from reconciler.model.hire import Entry, Hire
from reconciler.model.text import hint
from reconciler.model.value import Frozen, replace
from reconciler.repository.documents.problems import explain, placed, validated
from reconciler.repository.documents.yaml import BrokenFile, Document, read
from reconciler.repository.git.trees import Tree

__all__ = [
    "IGNORE",
    "NO_OFFERS",
    "NO_RULES",
    "POLICY",
    "REQUESTABLE",
    "Offers",
    "Rules",
    "read_ignore",
    "read_policy",
    "read_requestable",
]

POLICY = "config/policy.yaml"
REQUESTABLE = "config/requestable.yaml"
IGNORE = "config/ignore.yaml"

M = TypeVar("M", bound=Model)


class Rules(Frozen):
    """A revision's rules, with their lines; or that they cannot be read."""

    rules: tuple[tuple[Rule, int | None], ...] = ()
    broken: Problem | None = None


NO_RULES = Rules()
"""The rules of a revision that has no policy."""


def read_policy(tree: Tree) -> tuple[Rules, list[Problem]]:
    """Return a revision's rules, none without the file; and the file's problems."""
    found = _read(tree, POLICY, PolicyFile, Rule)
    return Rules(found.with_lines, found.broken), found.problems


class Offers(Frozen):
    """What may be asked for at a revision, with lines; or that the file cannot be read."""

    entries: tuple[tuple[Requestable, int | None], ...] = ()
    broken: Problem | None = None

    def refusal(self, hire: Hire, entry: Entry, lasts: timedelta | None) -> str | None:
        """Return why a hire may not ask for an entry that lasts so long, with what it may ask for; or None."""
        if self.broken is not None:
            return f"{REQUESTABLE} cannot be read: {self.broken}"
        offers = [each for each, _ in self.entries if each.integration == entry.integration]
        objections = [each.objection(hire, entry, lasts) for each in offers]
        if None in objections:
            return None
        if offers:
            why = "; or: ".join(dict.fromkeys(filter(None, objections)))
            return f"{REQUESTABLE} does not allow it: {why}"
        return f"{REQUESTABLE} does not allow it: {entry.integration} is not in it; {self.what_for(hire)}"

    def longest(self, hire: Hire, entry: Entry) -> timedelta | None:
        """Return the longest that a hire may have an entry for, where no more than its length is objected to."""
        offers = (each for each, _ in self.entries if each.integration == entry.integration)
        fitting = (each.longest for each in offers if each.objection(hire, entry, timedelta()) is None)
        return max((each for each in fitting if each is not None), default=None)

    def lacks(self, integration: str) -> bool:
        """Whether nobody may ask for an integration; a refusal then says what may be asked for, or why nobody knows."""
        return self.broken is not None or all(each.integration != integration for each, _ in self.entries)

    def of(self, hire: Hire) -> list[Requestable]:
        """Return what a hire may ask for."""
        return [each for each, _ in self.entries if each.who is None or each.who.holds(hire)]

    def what_for(self, hire: Hire | None) -> str:
        """Say what a hire may ask for, or what anybody may; of a file that cannot be read, that it cannot."""
        if self.broken is not None:
            return f"{REQUESTABLE} cannot be read: {self.broken}"
        offers = [each for each, _ in self.entries] if hire is None else self.of(hire)
        return f"what may be asked for: {', '.join(map(str, offers))}" if offers else "nothing may be asked for"


NO_OFFERS = Offers()
"""Of a revision without the file."""


def read_requestable(tree: Tree) -> tuple[Offers, list[Problem]]:
    """Return what may be asked for at a revision, nothing without the file; and the file's problems."""
    found = _read(tree, REQUESTABLE, RequestableFile, Requestable)
    return Offers(found.with_lines, found.broken), found.problems


def read_ignore(tree: Tree, known: Collection[str]) -> tuple[tuple[IgnoredAccount, ...], list[Problem]]:
    """Return what a revision ignores, nothing without the file; and the file's problems.

    `known` are the integrations that there are: another one is a warning.
    """
    found = _read(tree, IGNORE, Ignore, IgnoredAccount)
    if found.document is None:  # only another name is wrong, or it is no YAML
        named = tree.find(IGNORE) is None
        return (), [replace(each, severity=Severity.WARNING) if named else each for each in found.problems]
    unknown = [
        placed(
            found.document,
            (index, "integration"),
            f"there is no integration {entry.integration}{hint(entry.integration, known)}",
            Severity.WARNING,
        )
        for index, entry in enumerate(found.entries)
        if entry.integration not in known
    ]
    return found.entries, [*found.problems, *unknown]


class _Read(NamedTuple, Generic[M]):
    """What a file that is a list has; nothing, and its problems, if it cannot be read."""

    problems: list[Problem]
    document: Document | None = None
    entries: tuple[M, ...] = ()

    @property
    def broken(self) -> Problem | None:
        return next(iter(self.problems), None)

    @property
    def with_lines(self) -> tuple[tuple[M, int | None], ...]:
        return tuple(
            (each, None if self.document is None else self.document.line((index,)))
            for index, each in enumerate(self.entries)
        )


def _read(tree: Tree, path: str, model: type[ListFile[M]], of: type[M]) -> _Read[M]:
    file = tree.find(path)
    if file is None:
        others = (path.replace(".yaml", ending) for ending in (".yml", ".json"))
        return _Read([Problem(each, None, f"not read: rename it to {path}") for each in others if tree.find(each)])
    try:
        document = read(tree.read(file), path)
    except BrokenFile as error:
        return _Read([error.problem])
    try:
        entries = validated(model, [] if document.data is None else document.data).root
    except ValidationError as error:
        return _Read(explain(error, list[of], document), document)  # type: ignore[valid-type]
    return _Read([], document, tuple(entries))
