"""When access had to be gone, and when it was: what an audit of leavers asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from reconciler.ledger.reader import LedgerReader
from reconciler.model.grant import Grant, Key
from reconciler.model.report import Row
from reconciler.model.status import Status
from reconciler.model.value import changed
from reconciler.repository.git.checkout import Checkout

if TYPE_CHECKING:  # `status` shows rows of the ledger alone, and has none
    from reconciler.repository.desired import Desired

__all__ = ["Leaving"]


class Leaving:
    """Dates rows by the files in force, where they have the entry still, and else by the history.

    `desired` is what the files want on any day, entries that are over too.
    """

    def __init__(self, checkout: Checkout, desired: Desired | None, ledger: LedgerReader) -> None:
        self._desired = desired
        self._ledger = ledger
        self._committed_at = lru_cache(maxsize=1024)(checkout.committed_at)

    def grants(self, hires: Iterable[str]) -> dict[Key, Grant]:
        """Return the entries that the files have of some hires."""
        desired = self._desired
        if desired is None:
            return {}
        return {grant.key: grant for hire in hires for grant in desired.grants(hire)}

    def dated(self, rows: Iterable[Row], grants: Mapping[Key, Grant]) -> Iterator[Row]:
        """Yield the rows, each with the hire's end; those that leave with the moment that they had to, and did."""
        shown = list(rows)
        removed = self._ledger.removed({row.hire for row in shown if row.leaves})
        ends = {key.hire: grant.ends for key, grant in grants.items()}
        for row in shown:
            key, end = Key(row.hire, row.access), ends.get(row.hire)
            if not row.leaves:
                yield changed(row, {"ends": end}) if end is not None else row
                continue
            found = removed.get(key)
            due = row.due_at if row.over else self._over(grants.get(key), row.due_at)
            if due is None and found is not None and found.revision is not None:
                due = self._committed_at(found.revision)
            gone = None if found is None or row.status is not Status.REVOKED else found.gone_at
            yield changed(row, {"ends": end, "due_at": due or row.due_at, "done_at": gone or row.done_at})

    @staticmethod
    def _over(grant: Grant | None, orphaned_at: datetime | None) -> datetime | None:
        """Return the moment at which an entry's time was over, if that is why it leaves."""
        over = None if grant is None else grant.over_at
        return over if over is not None and (orphaned_at is None or over <= orphaned_at) else None
