"""Tie a server's state to one repository: its first commit is noted in the state.

A SQLite file lies within its repository. A URL is easily copied to the settings of another repository, for which all
grants of the first would be orphans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from reconciler.ledger.reader import LedgerReader
from reconciler.model.errors import LedgerError

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["NOTE", "Repository", "claim", "refuse_another"]

NOTE = "repository"


class Repository(Protocol):
    """A repository, identified by its commits."""

    def first_commit(self) -> str | None:
        """Return the id of its first commit; None if it has none or it is unknown."""

    def may_have(self, commit: str) -> bool:
        """Whether it has a commit, or may have it."""


def claim(ledger: LedgerWriter, repository: Repository) -> None:
    """Note the repository in a state without such a note. Raises LedgerError if the state is another repository's."""
    refuse_another(ledger, repository)
    if ledger.notes.get(NOTE) is None and (first := repository.first_commit()) is not None:
        ledger.notes.put(NOTE, lambda there: there or first.encode())


def refuse_another(ledger: LedgerReader, repository: Repository) -> None:
    """Raise LedgerError if the state is another repository's."""
    noted = ledger.notes.get(NOTE)
    if noted is not None and not repository.may_have(noted.decode()):
        raise LedgerError(
            f"the state is another repository's: that one's first commit is {noted.decode()[:12]}, which this checkout "
            "does not have. Each repository has a database of its own: mend `state`. Where the whole history was "
            "rewritten on purpose, docs/how-to/from-one-to-a-fleet.md says how to go on"
        )
