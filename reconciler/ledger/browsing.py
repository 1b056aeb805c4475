"""Read the ledger page by page, for the status pages, in the order in which they show it.

Each page is one or two statements, so that it takes as long with ten thousand people as with ten.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconciler.ledger.chain import END, Link
from reconciler.ledger.entries import Attempt, Event, Sent
from reconciler.ledger.reading import Backend, Reading, lowered, moment
from reconciler.ledger.rows import attempt_of, event_of, record_of, sent_of
from reconciler.model.grant import Key, Record
from reconciler.model.status import FAULTS, EventType, ReasonCode, Status
from reconciler.model.value import Frozen

__all__ = [
    "Browsing",
    "Chosen",
    "Listed",
    "Page",
    "Recent",
    "after",
    "history_conditions",
    "sent_of_attempts",
    "where_of",
]

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
"""The statuses that a page lists first; all others follow."""


class Page(Frozen):
    """One page of a list, of `size` rows; `number` counts from 1."""

    number: int = 1
    size: int = 50

    @property
    def values(self) -> dict[str, int]:
        """The values of LIMIT and OFFSET."""
        return {"size": self.size, "start": (self.number - 1) * self.size}


class Chosen(Frozen):
    """A filter of grants; empty chooses all. `text` is part of the hire's id or address, in any case."""

    text: str = ""
    hires: Collection[str] = ()
    integrations: Collection[str] = ()
    statuses: Collection[Status] = ()


@dataclass(slots=True)
class Listed:
    """One person in a list: the number of grants of each status, and when one was last checked."""

    hire: str
    email: str
    counts: Counter[Status] = field(default_factory=Counter)
    checked_at: datetime | None = None


class Recent(Frozen):
    """The newest attempts at a grant, newest first, with their requests; `earlier` counts the others."""

    attempts: tuple[tuple[Attempt, tuple[Sent, ...]], ...]
    earlier: int = 0


class Browsing:
    """The part of a ledger's reader that serves pages."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def count_people(self, chosen: Chosen) -> int:
        """Count the people who have a chosen grant."""
        where, values = _of(chosen)
        return self._number(f"SELECT count(DISTINCT hire) FROM grants{where}", values)

    def people(self, chosen: Chosen, page: Page) -> list[Listed]:
        """Read a page of the people who have a chosen grant, by id, with all of their grants counted."""
        where, values = _of(chosen)
        query = (
            "SELECT hire, status, min(email) AS email, count(*) AS count, max(checked_at) AS checked_at FROM grants"
            f" WHERE hire IN (SELECT DISTINCT hire FROM grants{where} ORDER BY hire{_PAGE})"
            " GROUP BY hire, status ORDER BY hire"
        )
        found: dict[str, Listed] = {}
        with self.backend.reading() as reading:
            for row in reading.rows(query, **values, **page.values):
                listed = found.setdefault(row["hire"], Listed(row["hire"], row["email"]))
                listed.counts[Status(row["status"])] = row["count"]
                checked = [at for at in (listed.checked_at, moment(row["checked_at"])) if at is not None]
                listed.checked_at = max(checked, default=None)
        return list(found.values())

    def count_grants(self, chosen: Chosen) -> int:
        """Count the chosen grants."""
        where, values = _of(chosen)
        return self._number(f"SELECT count(*) FROM grants{where}", values)

    def grants(self, chosen: Chosen, page: Page) -> list[Record]:
        """Read a page of the chosen grants, faults first, without the steps of their runs."""
        where, values = _of(chosen)
        query = f"SELECT * FROM grants{where} ORDER BY {_RANKED}, hire, access{_PAGE}"
        with self.backend.reading() as reading:
            return [record_of(row, ()) for row in reading.rows(query, **values, **page.values)]

    def waiting(self, shown: int) -> list[tuple[int, Record]]:
        """Read the grants that wait for a person: `shown` of each status of an integration, with their number."""
        inner = (
            'SELECT *, row_number() OVER (PARTITION BY integration, status ORDER BY hire, access) AS "number",'
            f' count(*) OVER (PARTITION BY integration, status) AS "of" FROM grants WHERE {_WAITS}'
        )
        query = (
            f'SELECT * FROM ({inner}) AS waiting WHERE "number" <= :shown ORDER BY integration, status, hire, access'
        )
        with self.backend.reading() as reading:
            rows = reading.rows(query, shown=shown, faults=sorted(FAULTS))
            return [(row["of"], record_of(row, ())) for row in rows]

    def ending(self, now: datetime, until: datetime, shown: int) -> tuple[int, list[Record]]:
        """Count the grants that end after `now` and up to `until`, and read the first of them, the soonest first."""
        query = (
            'SELECT *, count(*) OVER () AS "of" FROM grants WHERE expire_at > :now AND expire_at <= :until'
            " AND ends_at > :now ORDER BY ends_at, hire, access LIMIT :shown"
        )
        with self.backend.reading() as reading:
            rows = list(reading.rows(query, now=now, until=until, shown=shown))
        return rows[0]["of"] if rows else 0, [record_of(row, ()) for row in rows]

    def holding(self, integration: str, texts: Collection[str], shown: int) -> list[Record]:
        """Read the grants of accounts among whose values one of these texts stands: `shown` at most, by hire.

        A text that stands in another value than it is meant for is among them, too.
        """
        likes = {f"text{place}": f"%{_escaped(json.dumps(text))}%" for place, text in enumerate(sorted(texts))}
        query = (
            "SELECT * FROM grants WHERE integration = :integration AND status <> :revoked"
            " AND (executed_at IS NOT NULL OR confirmed_at IS NOT NULL)"
            f" AND ({' OR '.join(f'CAST(snapshot AS text) LIKE :{name} ESCAPE {_SLASH}' for name in likes)})"
            " ORDER BY hire, access LIMIT :shown"
        )
        with self.backend.reading() as reading:
            rows = reading.rows(query, integration=integration, revoked=Status.REVOKED, shown=shown, **likes)
            return [record_of(row, ()) for row in rows]

    def last_checked(self) -> dict[str, datetime]:
        """Return when a grant of each integration was last checked."""
        query = "SELECT integration, max(checked_at) AS at FROM grants GROUP BY integration"
        with self.backend.reading() as reading:
            rows = reading.rows(query)
            return {row["integration"]: moment(row["at"]) for row in rows if row["at"] is not None}

    def held_by_policy(self) -> dict[str, int]:
        """Count the grants of each integration that a rule of the policy blocks."""
        query = (
            "SELECT integration, count(*) AS count FROM grants WHERE status = :blocked AND code = :policy"
            " GROUP BY integration"
        )
        with self.backend.reading() as reading:
            rows = reading.rows(query, blocked=Status.BLOCKED, policy=ReasonCode.POLICY)
            return {row["integration"]: row["count"] for row in rows}

    def recent_attempts(self, hire: str, each: int) -> dict[Key, Recent]:
        """Read the newest attempts at each grant of a hire, at most `each`."""
        query = (
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY access ORDER BY id DESC) AS number_back,"
            " count(*) OVER (PARTITION BY access) AS of_all FROM attempts WHERE hire = :hire) AS numbered"
            " WHERE number_back <= :each ORDER BY id DESC"
        )
        found: dict[Key, list[Attempt]] = {}
        totals: dict[Key, int] = {}
        with self.backend.reading() as reading:
            for row in reading.rows(query, hire=hire, each=each):
                attempt = attempt_of(row)
                found.setdefault(attempt.key, []).append(attempt)
                totals[attempt.key] = row["of_all"]
            sent = sent_of_attempts(reading, [attempt for some in found.values() for attempt in some])
        return {
            key: Recent(
                tuple((attempt, tuple(sent.get(attempt.id, ()))) for attempt in some),
                totals[key] - len(some),
            )
            for key, some in found.items()
        }

    def count_events(self, **filters: Any) -> int:
        """Count the lines of the history that `history_page` reads."""
        where, values = history_conditions(**filters)
        return self._number(f"SELECT count(*) FROM events{where_of(where)}", values)

    def history_page(self, page: Page, **filters: Any) -> list[Event]:
        """Read a page of the history, newest first; the filters are those of `LedgerReader.history`."""
        where, values = history_conditions(**filters)
        query = f"SELECT * FROM events{where_of(where)} ORDER BY id DESC{_PAGE}"
        with self.backend.reading() as reading:
            return [event_of(row) for row in reading.rows(query, **values, **page.values)]

    def history_begin(self) -> tuple[datetime | None, int]:
        """Return when the first line was written, of those that are not erased, and how many are."""
        query = (
            "SELECT MIN(CASE WHEN salt IS NOT NULL THEN at END) AS first,"
            " COUNT(CASE WHEN salt IS NULL THEN 1 END) AS erased FROM events"
        )
        with self.backend.reading() as reading:
            row = reading.row(query)
        return (None, 0) if row is None else (moment(row["first"]), row["erased"])

    def history_end(self) -> Link:
        """Return the length of the history and its last digest. Raises LedgerError if the note is damaged."""
        with self.backend.reading() as reading:
            return Link.of(reading.value("SELECT value FROM meta WHERE name = :name", name=END))

    def notes(self, prefix: str) -> dict[str, bytes]:
        """Read the notes whose names begin with a prefix, by the rest of the name."""
        query = "SELECT name, value FROM meta WHERE name >= :first AND name < :end ORDER BY name"
        with self.backend.reading() as reading:
            rows = reading.rows(query, first=prefix, end=after(prefix))
            return {row["name"].removeprefix(prefix): bytes(row["value"]) for row in rows}

    def _number(self, query: str, values: Mapping[str, object]) -> int:
        with self.backend.reading() as reading:
            return int(reading.value(query, **values) or 0)


def after(prefix: str) -> str:
    """Return the first text after all that begin with a prefix, as the databases sort: an index finds those between."""
    return f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"


_PAGE = " LIMIT :size OFFSET :start"

_RANKED = "CASE status {} ELSE {} END".format(
    " ".join(f"WHEN '{status}' THEN {place}" for place, status in enumerate(RANK)), len(RANK)
)

_WAITS = (
    "(status IN :faults AND NOT (status = 'unknown' AND coalesce(cause, '') = 'busy')"
    " OR guarded IS TRUE OR (action = 'none' AND ("
    "status = 'missing' AND lost IS TRUE"
    " OR status = 'differs' AND NOT (updated_at IS NOT NULL AND as_wanted_at IS NULL)"
    " OR status = 'orphaned' AND keep IS FALSE)))"
)
"""The condition that a grant needs a person (`Report.wrong`) or is an orphan."""


def where_of(conditions: Collection[str]) -> str:
    """Join the conditions of a statement with AND."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def sent_of_attempts(reading: Reading, attempts: Collection[Attempt]) -> dict[int, list[Sent]]:
    """Read the requests of attempts, by the attempt's number."""
    found: dict[int, list[Sent]] = {}
    ids = [attempt.id for attempt in attempts]
    for row in reading.rows("SELECT * FROM requests WHERE attempt IN :attempts ORDER BY id", attempts=ids):
        found.setdefault(row["attempt"], []).append(sent_of(row))
    return found


def _of(chosen: Chosen) -> tuple[str, dict[str, object]]:
    """Make the conditions of a filter of grants, and their values."""
    values: dict[str, object] = {}
    where = list(_among(values, hire=chosen.hires, integration=chosen.integrations, status=chosen.statuses))
    if chosen.text:
        texts = lowered(chosen.text)
        values |= {f"text{place}": f"%{_escaped(text)}%" for place, text in enumerate(sorted(texts))}
        like = (f"lower({of}) LIKE :text{place} ESCAPE '/'" for of in ("hire", "email") for place in range(len(texts)))
        where.append(f"({' OR '.join(like)})")
    return where_of(where), values


def _among(values: dict[str, object], **wanted: Collection[str]) -> Iterator[str]:
    """Make a condition for each column with values to choose from; add the values."""
    for column, several in wanted.items():
        if several:
            values[column] = sorted(several)
            yield f"{column} IN :{column}"


_SLASH = "'/'"


def _escaped(text: str) -> str:
    """Escape text for LIKE."""
    for sign in "/%_":
        text = text.replace(sign, f"/{sign}")
    return text


def history_conditions(
    *,
    hires: Collection[str] = (),
    integrations: Collection[str] = (),
    events: Collection[EventType] = (),
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[str], dict[str, object]]:
    """Make the conditions on lines of the history: from `since` on and before `until`, without forgotten people."""
    values: dict[str, object] = {}
    where = ["salt IS NOT NULL", *_among(values, hire=hires, integration=integrations, event=events)]
    if since is not None:
        where.append("at >= :since")
        values["since"] = since
    if until is not None:
        where.append("at < :until")
        values["until"] = until
    return where, values
