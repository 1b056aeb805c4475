"""Read `config/requestable.yaml`. A broken one allows nothing: what was given by a request runs to its end."""

from __future__ import annotations

from datetime import timedelta

from pydantic import ValidationError

from reconciler.model.errors import Problem
from reconciler.model.hire import Entry, Hire
from reconciler.model.requestable import Requestable, RequestableFile
from reconciler.model.value import Frozen
from reconciler.repository.documents.empty_keys import validated
from reconciler.repository.documents.problems import explain
from reconciler.repository.documents.yaml import BrokenFile, read
from reconciler.repository.git.trees import Tree

__all__ = ["NO_OFFERS", "REQUESTABLE", "Offers", "read_requestable"]

REQUESTABLE = "config/requestable.yaml"


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
    file = tree.find(REQUESTABLE)
    if file is None:
        others = [path for path in ("config/requestable.yml", "config/requestable.json") if tree.find(path) is not None]
        problems = [Problem(path, None, f"not read: rename it to {REQUESTABLE}") for path in others]
        return Offers(broken=problems[0] if problems else None), problems
    try:
        document = read(tree.read(file), file.path)
    except BrokenFile as error:
        return Offers(broken=error.problem), [error.problem]
    try:
        offers = validated(RequestableFile, [] if document.data is None else document.data).root
    except ValidationError as error:
        problems = explain(error, list[Requestable], document)
        return Offers(broken=problems[0]), problems
    return Offers(tuple((each, document.line((index,))) for index, each in enumerate(offers))), []
