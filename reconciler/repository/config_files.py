"""Read files that are lists: the policy, what may be asked for, accounts that need no owner, and manifests' tests.

A broken file is not an empty one: a policy blocks new grants, what may be asked for is nothing, and nothing is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Generic, TypeVar

from reconciler.model.base import ListFile, Model
from reconciler.model.config_files import Ignore, IgnoredAccount, PolicyFile, Requestable, RequestableFile, Rule
from reconciler.model.errors import Problem, Severity
from reconciler.model.hire import Entry, Hire
from reconciler.model.text import hint
from reconciler.model.value import Frozen, replace
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.problems import dotted, model_of
from reconciler.repository.documents.yaml import read
from reconciler.repository.git.trees import Tree
from reconciler.repository.naming import is_cases

if TYPE_CHECKING:
    from reconciler.model.case import Case

POLICY = "config/policy.yaml"
REQUESTABLE = "config/requestable.yaml"
IGNORE = "config/ignore.yaml"

M = TypeVar("M", bound=Model)


class Listed(Frozen, Generic[M]):
    """What a file has that is a list: each entry with its line; none, and why, where it cannot be read."""

    entries: tuple[tuple[M, int | None], ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def broken(self) -> Problem | None:
        """Return the first reason why it cannot be read; None if it can."""
        return next(iter(self.problems), None)


def read_list(content: Callable[[], bytes], file: str, model: type[ListFile[M]]) -> Listed[M]:
    """Read a file that is a list; an empty one has no entries."""
    try:
        document = read(content(), file)
        entries = model_of(document, model).root
    except BrokenFile as error:
        return Listed((), error.problems)
    return Listed(tuple((each, document.line((index,))) for index, each in enumerate(entries)))


def read_policy(tree: Tree) -> Listed[Rule]:
    """Return a revision's rules, none without the file."""
    return _read(tree, POLICY, PolicyFile)


class Offers(Listed[Requestable]):
    """What may be asked for at a revision."""

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


def read_requestable(tree: Tree) -> Offers:
    """Return what may be asked for at a revision, nothing without the file."""
    found = _read(tree, REQUESTABLE, RequestableFile)
    return Offers(found.entries, found.problems)


def read_ignore(tree: Tree, known: Collection[str]) -> tuple[tuple[IgnoredAccount, ...], list[Problem]]:
    """Return what a revision ignores, nothing without the file; and the file's problems.

    `known` are the integrations that there are: another one is a warning.
    """
    found = _read(tree, IGNORE, Ignore)
    named = tree.find(IGNORE) is None  # only another name is wrong
    problems = [replace(each, severity=Severity.WARNING) if named else each for each in found.problems]
    for index, (entry, line) in enumerate(found.entries):
        if entry.integration not in known:
            text = f"there is no integration {entry.integration}{hint(entry.integration, known)}"
            problems.append(Problem(IGNORE, line, dotted((index, "integration"), text), Severity.WARNING))
    return tuple(entry for entry, _ in found.entries), problems


def read_cases(tree: Tree, manifests: Collection[str]) -> dict[str, Listed[Case]]:
    """Read the tests of all manifests of a revision, by the manifest's stem; `manifests` are those that there are."""
    from reconciler.model.case import CaseFile  # no pass needs it

    found: dict[str, Listed[Case]] = {}
    first: dict[str, str] = {}
    for file in filter(lambda each: is_cases(each.path), tree.files("manifests")):
        stem = PurePosixPath(file.path).name.rpartition(".test.")[0]
        there = first.setdefault(stem, file.path)
        loaded = found.get(stem) or read_list(partial(tree.read, file), file.path, CaseFile)
        what = f"there is no manifest {stem} that this could test{hint(stem, manifests)}"
        if there != file.path:
            what = f"{there} has the tests of {stem} already: put them into one file"
        if there != file.path or stem not in manifests:
            loaded = replace(loaded, problems=(*loaded.problems, Problem(file.path, None, what)))
        found[stem] = loaded
    return found


def _read(tree: Tree, path: str, model: type[ListFile[M]]) -> Listed[M]:
    file = tree.find(path)
    if file is not None:
        return read_list(partial(tree.read, file), path, model)
    others = (name for ending in (".yml", ".json") if tree.find(name := path.replace(".yaml", ending)))
    return Listed((), tuple(Problem(name, None, f"not read: rename it to {path}") for name in others))
