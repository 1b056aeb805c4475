"""Read the history of a ledger, and verify it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import TypedDict, Unpack

from reconciler.ledger.browsing import PAGED, Page
from reconciler.ledger.chain import END, Chain, Link
from reconciler.ledger.entries import Event
from reconciler.ledger.reading import PAGE, LedgerPart, among, in_batches, moment, where_of
from reconciler.ledger.rows import entry_of
from reconciler.ledger.verifying import disagreement, tree_of, untold, verified
from reconciler.model.grant import Key, Record
from reconciler.model.status import EventType
from reconciler.model.value import Frozen

__all__ = ["History", "LineFilters", "Removed"]

_REMOVED = (
    "SELECT hire, access, event, revision, at FROM events WHERE event IN ('orphaned', 'expired', 'revoked')"
    " AND hire IN :hires ORDER BY id"
)
_ANSWERED = (
    "SELECT a.hire, a.access, MAX(r.answered_at) FROM attempts a JOIN requests r ON r.attempt = a.id"
    " WHERE a.kind IN ('revoke', 'withdraw') AND a.error IS NULL AND r.answered_at IS NOT NULL AND a.hire IN :hires"
    " GROUP BY a.hire, a.access"
)


class Removed(Frozen):
    """Since which revision, and when, git does not want a grant; `gone_at` is None until its account is gone.

    That is when the last request of its removal was answered, or when a check found it gone.
    """

    orphaned_at: datetime | None = None
    revision: str | None = None
    gone_at: datetime | None = None


class LineFilters(TypedDict, total=False):
    """Which lines of the history: of some, from `since` on and before `until`."""

    hires: Collection[str]
    integrations: Collection[str]
    events: Collection[EventType]
    since: datetime | None
    until: datetime | None


class History(LedgerPart):
    """The lines of the history, without those of forgotten people, and their chain."""

    def lines(self, **filters: Unpack[LineFilters]) -> Iterator[Event]:
        """Read the history, oldest first."""
        where, values = _conditions(**filters)
        query, newest = f"SELECT * FROM events{where} AND id > :newest ORDER BY id LIMIT {PAGE}", 0
        while True:
            rows = self._rows(query, newest=newest, **values)
            yield from (entry_of(Event, row) for row in rows)
            if len(rows) < PAGE:
                return
            newest = rows[-1]["id"]

    def page(self, page: Page, **filters: Unpack[LineFilters]) -> list[Event]:
        """Read a page of the history, newest first; the filters are those of `lines`."""
        where, values = _conditions(**filters)
        query = f"SELECT * FROM events{where} ORDER BY id DESC{PAGED}"
        return [entry_of(Event, row) for row in self._rows(query, **values, **page.values)]

    def count(self, **filters: Unpack[LineFilters]) -> int:
        """Count the lines that `page` reads."""
        where, values = _conditions(**filters)
        return int(self._value(f"SELECT count(*) FROM events{where}", **values) or 0)

    def begin(self) -> tuple[datetime | None, int]:
        """Return when the first line was written, of those that are not erased, and how many are."""
        query = (
            "SELECT MIN(CASE WHEN salt IS NOT NULL THEN at END), COUNT(CASE WHEN salt IS NULL THEN 1 END) FROM events"
        )
        for first, erased in self._cells(query):
            return moment(first), erased
        return None, 0

    def end(self) -> Link:
        """Return the length of the history and its last digest. Raises LedgerError if the note is damaged."""
        return Link.of(self._note(END))

    def has_line(self, digest: str) -> bool:
        """Whether the history has a line of this digest, also of a person who was forgotten."""
        return self._value("SELECT id FROM events WHERE digest = :digest LIMIT 1", digest=digest) is not None

    def verify(self) -> Chain:
        """Verify the chain of the whole history."""
        with self._backend.snapshot() as reading:
            return verified(reading)

    def verify_agreement(self) -> tuple[Chain, str | None]:
        """Verify the chain, and return with it where the ledger and the history disagree first."""
        with self._backend.snapshot() as reading:
            return verified(reading), disagreement(reading)

    def tree(self, at_most: int | None = None) -> tuple[int, bytes]:
        """Return the number of lines of the history, `at_most` these, and the root of the Merkle tree over them."""
        with self._backend.snapshot() as reading:
            return tree_of(reading, at_most)

    def untold(self, records: Iterable[Record]) -> set[Key]:
        """Return whose rows the history does not know."""
        with self._backend.reading() as reading:
            return untold(reading, records)

    def removals(self, hires: Collection[str]) -> dict[Key, Removed]:
        """Return when access of some hires was no longer wanted, and was gone: the last time of each grant."""
        found: dict[Key, Removed] = {}
        for names in in_batches(hires):
            for hire, access, event, revision, at in self._cells(_REMOVED, hires=names):
                key, when = Key(hire, access), moment(at)
                before = found.get(key, Removed())
                if event == EventType.ORPHANED or (event == EventType.EXPIRED and before.gone_at is not None):
                    found[key] = Removed(when, revision)
                elif event == EventType.EXPIRED:
                    found[key] = Removed(before.orphaned_at or when, before.revision or revision)
                else:
                    found[key] = Removed(before.orphaned_at, before.revision or revision, when)
            for hire, access, at in self._cells(_ANSWERED, hires=names):
                before, when = found.get(Key(hire, access), Removed()), moment(at)
                if before.gone_at is not None and (before.orphaned_at is None or when >= before.orphaned_at):
                    found[Key(hire, access)] = Removed(before.orphaned_at, before.revision, when)
        return found


def _conditions(**filters: Unpack[LineFilters]) -> tuple[str, dict[str, object]]:
    values: dict[str, object] = {}
    columns = {"hire": filters.get("hires", ()), "integration": filters.get("integrations", ())}
    where = ["salt IS NOT NULL", *among(values, **columns, event=filters.get("events", ()))]
    if (since := filters.get("since")) is not None:
        where.append("at >= :since")
        values["since"] = since
    if (until := filters.get("until")) is not None:
        where.append("at < :until")
        values["until"] = until
    return where_of(where), values
