"""Errors and suggestions for names that do not exist."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from reconciler.model.errors import ReconcilerError, RepositoryError, UsageError
from reconciler.model.text import hint

if TYPE_CHECKING:
    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.grant import Key
    from reconciler.repository.desired import Desired

__all__ = ["no_such_grant", "no_such_hire", "suggest", "suggest_from_ledger"]

SHORT = 12
"""Characters of a commit's id that are shown."""


def no_such_grant(key: Key, desired: Desired, remembered: Collection[str]) -> ReconcilerError:
    """Make the error for a grant that does not exist; `remembered` are the hire's accesses in the ledger."""
    if problems := desired.broken_hires.get(key.hire):
        return RepositoryError(problems[0].clause)
    if key.hire not in desired.hires and not remembered:
        return UsageError(f"there is no hire {key.hire}{hint(key.hire, desired.hires)}")
    names = {*remembered, *(grant.key.access for grant in desired.grants(key.hire))}
    has = f"it has {', '.join(sorted(names))}" if names else "it has no access entries"
    return UsageError(f"{key.hire} has no access entry {key.access}: {has}{hint(key.access, names)}")


def no_such_hire(hire: str, desired: Desired, ledger: LedgerReader) -> ReconcilerError:
    """Make the error for a hire that git does not have, or not any more."""
    if problems := desired.broken_hires.get(hire):
        return RepositoryError(f"the file of {hire} has an error: {problems[0].clause}")
    revisions = {each.revision for each in ledger.history.removals([hire]).values() if each.revision is not None}
    if revisions:
        since = ", ".join(sorted(revision[:SHORT] for revision in revisions))
        return UsageError(
            f"{hire} is not in git any more, since {since}: `git log -- 'hires/{hire}.*'` says who removed it"
        )
    if hire in ledger.grants.hires():
        return UsageError(f"{hire} is not in git any more; `reconcile status` shows what is left of it")
    return UsageError(f"there is no hire {hire}{hint(hire, desired.hires)}")


def suggest_from_ledger(ledger: LedgerReader, *names: str | None) -> str:
    """Suggest a name (`; did you mean …?`) for the first that is no hire, access or integration of the ledger."""
    given = [name for name in names if name is not None]
    return suggest(given, ledger.grants.names()) if given else ""


def suggest(names: Sequence[str], known: Collection[str]) -> str:
    """Suggest a name (`; did you mean …?`) for the first that is not known."""
    return next((hint(name, known) for name in names if name not in known), "")
