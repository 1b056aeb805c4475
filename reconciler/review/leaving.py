"""When access had to be gone, by which commit, and when it was: what an audit of leavers asks.

`Leaving` reads git and the ledger for some rows; the `Dates` that it returns need neither, so that a dry run can keep
them until its rows are shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from reconciler.ledger.history import Removed
from reconciler.ledger.reader import LedgerReader
from reconciler.model.grant import Grant, Key
from reconciler.model.report import Row
from reconciler.model.status import Status
from reconciler.model.value import Frozen, replace
from reconciler.repository.attribution.origins import changed_in
from reconciler.repository.git.checkout import WORKTREE, Checkout

if TYPE_CHECKING:  # `status` shows rows of the ledger alone, and has none
    from reconciler.repository.desired import Desired

__all__ = ["Dates", "Leaving"]


class Dates(Frozen):
    """The last days of some hires, and what of a row that leaves is known beside the ledger's record."""

    ends: Mapping[str, date] = {}
    left: Mapping[Key, Mapping[str, Any]] = {}

    def of(self, row: Row) -> Row:
        """Return the row with its dates."""
        end = self.ends.get(row.hire)
        known = self.left.get(Key(row.hire, row.access), {}) if row.leaves else {}
        return row if end is None and not known else replace(row, ends=end, **known)


class Leaving:
    """Dates access by the files in force, where they have the entry still, and else by the history.

    `desired` is what the files want on any day, entries that are over too. Where it cannot be read, `over` says when
    entries end.
    """

    def __init__(self, checkout: Checkout, desired: Desired | None, over: Mapping[Key, datetime] = {}) -> None:
        self._checkout = checkout
        self._desired = desired
        self._over = over
        self._commit = lru_cache(maxsize=1024)(checkout.commit_if_there)
        self._changed_in = lru_cache(maxsize=1024)(changed_in)

    def grants(self, hires: Iterable[str]) -> dict[Key, Grant]:
        """Return the entries that the files have of some hires."""
        desired = self._desired
        if desired is None:
            return {}
        return {grant.key: grant for hire in hires for grant in desired.grants(hire)}

    def dates(
        self,
        ledger: LedgerReader,
        hires: Collection[str],
        rows: Iterable[Row],
        known: Mapping[Key, Grant] | None = None,
    ) -> Dates:
        """Return the dates of some hires and of their rows that leave; `known` are all their entries, if read."""
        leaving = [row for row in rows if row.leaves]
        whose = {row.hire for row in leaving}
        removed, grants = ledger.history.removals(whose), self.grants(whose) if known is None else known
        over = {**self._over, **{key: grant.over_at for key, grant in grants.items()}}
        left = {}
        for row in leaving:
            key = Key(row.hire, row.access)
            left[key] = self._left(row, removed.get(key), over.get(key))
        if known is not None:
            return Dates({key.hire: each.ends for key, each in known.items() if each.ends is not None}, left)
        loaded = ((hire, self._desired.files.hires.get(hire)) for hire in hires) if self._desired is not None else ()
        ends = {hire: each.model.end for hire, each in loaded if each is not None and each.model.end is not None}
        return Dates(ends, left)

    def dated(
        self, ledger: LedgerReader, rows: Iterable[Row], known: Mapping[Key, Grant] | None = None
    ) -> Iterator[Row]:
        """Yield rows with their dates."""
        shown = list(rows)
        yield from map(self.dates(ledger, {row.hire for row in shown}, shown, known).of, shown)

    def _left(self, row: Row, removed: Removed | None, over: datetime | None) -> dict[str, object]:
        """Return when a row that leaves had to be gone, and was, and by which commit.

        What the history says counts if it is about this leaving: access may have left once before.
        """
        since, due = row.due_at, row.due_at if row.over else None
        if removed is not None and not row.over and removed.orphaned_at != since:
            removed = None
        gone = removed.gone_at if removed is not None and row.status is Status.REVOKED else row.done_at
        if due is None and over is not None and (since is None or over <= since):
            due = over
        revision = row.revision if removed is None else removed.revision
        if row.over or revision in (None, WORKTREE):
            return {"due_at": due or since, "done_at": gone}
        paths = (row.source.rpartition(":")[0] or row.source, f"hires/{row.hire}.yaml")
        commit = self._changed_in(self._checkout, revision, paths)
        made = self._commit(commit)
        return {"due_at": due or (None if made is None else made.at) or since, "done_at": gone, "removed_in": commit}
