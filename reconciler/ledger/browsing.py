"""Reading the ledger page by page: what the status pages show of very many people, in the order in which they show it.

Each page is one or two statements over what it shows, so that it takes as long with ten thousand people as with ten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.backend import Backend
from reconciler.ledger.chain import END, Link
from reconciler.ledger.entries import Attempt, Event, Sent
from reconciler.ledger.rows import attempt_of, event_of, record_of, sent_of
from reconciler.model.grant import Key, Record
from reconciler.model.status import FAULTS, Action, EventType, Status

__all__ = ["Browsing", "Chosen", "Listed", "Page", "Recent", "told"]

RANK = (
    Status.FAILED,
    Status.UNKNOWN,
    Status.BLOCKED,
    Status.INVALID,
    Status.DIFFERS,
    Status.ORPHANED,
    Status.RETRYING,
    Status.MISSING,
    Status.SUSPENDED,
    Status.UNCONFIRMED,
    Status.SCHEDULED,
)
"""What a page lists first; the other statuses follow, all alike."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a list: `size` of them, from the page of this `number`, which counts from 1."""

    number: int = 1
    size: int = 50


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which grants are meant: all where nothing is given. `text` stands in the hire's id or address, without case."""

    text: str = ""
    hires: Collection[str] = ()
    integrations: Collection[str] = ()
    statuses: Collection[Status] = ()


@dataclass(slots=True)
class Listed:
    """One person in a list: how many grants there are of each status, and when one was last checked."""

    hire: str
    email: str
    counts: Counter[Status] = field(default_factory=Counter)
    checked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest attempts at a grant, newest first, with their requests; `earlier` are not among them."""

    attempts: tuple[tuple[Attempt, tuple[Sent, ...]], ...]
    earlier: int = 0


class Browsing:
    """The part of a ledger's reader that pages are made of."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def count_people(self, chosen: Chosen) -> int:
        """How many people have a grant that is meant."""
        query = sa.select(sa.func.count(sa.distinct(schema.grants.c.hire))).where(*_of(chosen))
        return self._number(query)

    def people(self, chosen: Chosen, page: Page) -> list[Listed]:
        """A page of the people who have a grant that is meant, by their ids, with all of their grants counted."""
        table = schema.grants
        hires = sa.select(table.c.hire).where(*_of(chosen)).distinct().order_by(table.c.hire)
        query = (
            sa.select(
                table.c.hire,
                table.c.status,
                sa.func.min(table.c.email),
                sa.func.count(),
                sa.func.max(table.c.checked_at),
            )
            .where(table.c.hire.in_(_page(hires, page)))
            .group_by(table.c.hire, table.c.status)
            .order_by(table.c.hire)
        )
        found: dict[str, Listed] = {}
        with self.backend.reading() as connection:
            for hire, status, email, count, checked_at in connection.execute(query):
                listed = found.setdefault(hire, Listed(hire, email))
                listed.counts[Status(status)] = count
                if listed.checked_at is None or (checked_at is not None and checked_at > listed.checked_at):
                    listed.checked_at = checked_at
        return list(found.values())

    def count_grants(self, chosen: Chosen) -> int:
        """How many grants are meant."""
        return self._number(sa.select(sa.func.count()).select_from(schema.grants).where(*_of(chosen)))

    def grants(self, chosen: Chosen, page: Page) -> list[Record]:
        """A page of the grants that are meant, those with something wrong first; without the steps of their runs."""
        table = schema.grants
        rank = sa.case({str(status): place for place, status in enumerate(RANK)}, value=table.c.status, else_=len(RANK))
        query = sa.select(table).where(*_of(chosen)).order_by(rank, table.c.hire, table.c.access)
        with self.backend.reading() as connection:
            return [record_of(row, ()) for row in connection.execute(_page(query, page)).mappings()]

    def waiting(self, shown: int) -> list[tuple[int, Record]]:
        """The grants that wait for a person: `shown` of each status of an integration, with how many there are."""
        table = schema.grants
        group = table.c.integration, table.c.status
        number = sa.func.row_number().over(partition_by=group, order_by=(table.c.hire, table.c.access))
        count = sa.func.count().over(partition_by=group)
        inner = sa.select(table, number.label("number"), count.label("of")).where(_waits(table)).subquery()
        query = sa.select(inner).where(inner.c.number <= shown).order_by(*(inner.c[name] for name in _GROUPED))
        with self.backend.reading() as connection:
            return [(row["of"], record_of(row, ())) for row in connection.execute(query).mappings()]

    def last_checked(self) -> dict[str, datetime]:
        """When a grant of each integration was last checked."""
        table = schema.grants
        query = sa.select(table.c.integration, sa.func.max(table.c.checked_at)).group_by(table.c.integration)
        with self.backend.reading() as connection:
            return {name: moment for name, moment in connection.execute(query) if moment is not None}

    def held_by_policy(self) -> dict[str, int]:
        """How many grants of each integration a rule of the policy holds."""
        table = schema.grants
        query = (
            sa.select(table.c.integration, sa.func.count())
            .where(table.c.status == Status.BLOCKED, table.c.reason.startswith("policy "))
            .group_by(table.c.integration)
        )
        with self.backend.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def recent_attempts(self, hire: str, each: int) -> dict[Key, Recent]:
        """The newest attempts at each grant of a hire, `each` of them at most."""
        table, sent = schema.attempts, schema.requests
        number = sa.func.row_number().over(partition_by=table.c.access, order_by=table.c.id.desc())
        inner = sa.select(table, number.label("number_back")).where(table.c.hire == hire).subquery()
        query = sa.select(inner).where(inner.c.number_back <= each).order_by(inner.c.id.desc())
        counts = sa.select(table.c.access, sa.func.count()).where(table.c.hire == hire).group_by(table.c.access)
        with self.backend.reading() as connection:
            attempts = [attempt_of(row) for row in connection.execute(query)]
            requests: dict[int, list[Sent]] = {}
            ids = [attempt.id for attempt in attempts]
            for row in connection.execute(sa.select(sent).where(sent.c.attempt.in_(ids)).order_by(sent.c.id)):
                requests.setdefault(row.attempt, []).append(sent_of(row))
            totals = {row[0]: row[1] for row in connection.execute(counts)}
        found: dict[Key, list[Attempt]] = {}
        for attempt in attempts:
            found.setdefault(attempt.key, []).append(attempt)
        return {
            key: Recent(
                tuple((attempt, tuple(requests.get(attempt.id, ()))) for attempt in some),
                totals[key.access] - len(some),
            )
            for key, some in found.items()
        }

    def count_events(self, **filters: Any) -> int:
        """How many lines of the history `history_page` has."""
        return self._number(sa.select(sa.func.count()).select_from(schema.events).where(*told(**filters)))

    def history_page(self, page: Page, **filters: Any) -> list[Event]:
        """A page of the history, newest first; the filters are those of `LedgerReader.history`."""
        table = schema.events
        query = sa.select(table).where(*told(**filters)).order_by(table.c.id.desc())
        with self.backend.reading() as connection:
            return [event_of(row) for row in connection.execute(_page(query, page)).mappings()]

    def history_end(self) -> Link:
        """How many lines the history has, and the digest of the last. Raises LedgerError where the note is damaged."""
        table = schema.meta
        with self.backend.reading() as connection:
            return Link.of(connection.execute(sa.select(table.c.value).where(table.c.name == END)).scalar())

    def notes(self, prefix: str) -> dict[str, bytes]:
        """The notes whose names begin with a prefix, by what follows it."""
        table = schema.meta
        query = sa.select(table).where(table.c.name.startswith(prefix, autoescape=True)).order_by(table.c.name)
        with self.backend.reading() as connection:
            return {row.name.removeprefix(prefix): bytes(row.value) for row in connection.execute(query)}

    def _number(self, query: sa.Select[Any]) -> int:
        with self.backend.reading() as connection:
            return int(connection.execute(query).scalar() or 0)


_GROUPED = ("integration", "status", "hire", "access")


def _page(query: sa.Select[Any], page: Page) -> sa.Select[Any]:
    return query.limit(page.size).offset((page.number - 1) * page.size)


def _of(chosen: Chosen) -> Iterable[sa.ColumnElement[bool]]:
    """The conditions on a grant."""
    table = schema.grants
    if chosen.text:
        # SQLite's `lower` leaves letters alone that are not ASCII.
        texts = {chosen.text.lower(), "".join(each.lower() if each.isascii() else each for each in chosen.text)}
        columns = sa.func.lower(table.c.hire), sa.func.lower(table.c.email)
        yield sa.or_(*(column.contains(text, autoescape=True) for column in columns for text in sorted(texts)))
    for column, wanted in (
        (table.c.hire, chosen.hires),
        (table.c.integration, chosen.integrations),
        (table.c.status, chosen.statuses),
    ):
        if wanted:
            yield column.in_(sorted(wanted))


def _waits(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether nothing more happens to a grant before a person does something (`Report.wrong`), or it is an orphan."""
    c = table.c
    left = c.action == Action.NONE
    unseen = c.updated_at.is_not(None) & c.as_wanted_at.is_(None)
    return sa.or_(
        c.status.in_(sorted(FAULTS)),
        c.guarded.is_(True),
        left & (c.status == Status.MISSING) & c.lost.is_(True),
        left & (c.status == Status.DIFFERS) & ~unseen,
        left & (c.status == Status.ORPHANED) & c.keep.is_(False),
    )


def told(
    *,
    hires: Collection[str] = (),
    integrations: Collection[str] = (),
    events: Collection[EventType] = (),
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterable[sa.ColumnElement[bool]]:
    """The conditions on a line of the history: from `since` on and before `until`; nothing of who was forgotten."""
    table = schema.events
    yield table.c.salt.is_not(None)
    for column, wanted in ((table.c.hire, hires), (table.c.integration, integrations), (table.c.event, events)):
        if wanted:
            yield column.in_(sorted(wanted))
    if since is not None:
        yield table.c.at >= since
    if until is not None:
        yield table.c.at < until
