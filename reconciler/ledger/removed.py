"""When access that git no longer wants became so, and when it was gone, from the history and the attempts."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from reconciler.ledger.reading import Reading, moment
from reconciler.model.grant import Key
from reconciler.model.value import Frozen

__all__ = ["Removed", "removed_in"]

_EVENTS = (
    "SELECT hire, access, event, revision, at FROM events WHERE event IN ('orphaned', 'expired', 'revoked')"
    " AND hire IN :hires ORDER BY id"
)
_ANSWERED = (
    "SELECT a.hire, a.access, MAX(r.answered_at) AS at FROM attempts a JOIN requests r ON r.attempt = a.id "
    "WHERE a.kind IN ('revoke', 'withdraw') AND a.error IS NULL AND r.answered_at IS NOT NULL AND a.hire IN :hires "
    "GROUP BY a.hire, a.access"
)


class Removed(Frozen):
    """Since which revision, and when, git does not want a grant; `gone_at` is None until its account is gone.

    That is when the last request of its removal was answered, or when a check found it gone.
    """

    orphaned_at: datetime | None = None
    revision: str | None = None
    gone_at: datetime | None = None


def removed_in(reading: Reading, hires: Collection[str]) -> dict[Key, Removed]:
    """Return the removals of some hires, the last one of each grant."""
    found: dict[Key, Removed] = {}
    names = sorted(hires)
    for row in reading.rows(_EVENTS, hires=names):
        key, at = Key(row["hire"], row["access"]), moment(row["at"])
        before = found.get(key, Removed())
        if row["event"] == "orphaned" or (row["event"] == "expired" and before.gone_at is not None):
            found[key] = Removed(at, row["revision"])
        elif row["event"] == "expired":
            found[key] = Removed(before.orphaned_at or at, before.revision or row["revision"])
        else:
            found[key] = Removed(before.orphaned_at, before.revision or row["revision"], at)
    for row in reading.rows(_ANSWERED, hires=names):
        key = Key(row["hire"], row["access"])
        before, at = found.get(key, Removed()), moment(row["at"])
        if before.gone_at is None:
            continue
        if before.orphaned_at is None or at >= before.orphaned_at:
            found[key] = Removed(before.orphaned_at, before.revision, at)
    return found
