"""Read the ledger page by page, for the status pages, in the order in which they show it.

Each page is one or two statements, so that it takes as long with ten thousand people as with ten.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.ledger.reading import LedgerPart, among, lowered, moment, where_of
from reconciler.ledger.rows import record_of
from reconciler.model.grant import Record
from reconciler.model.status import FAULTS, ReasonCode, Status
from reconciler.model.value import Frozen

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


class Pages(LedgerPart):
    """What status pages show of grants."""

    def count_people(self, chosen: Chosen) -> int:
        """Count the people who have a chosen grant."""
        where, values = _of(chosen)
        return int(self._value(f"SELECT count(DISTINCT hire) FROM grants{where}", **values) or 0)

    def people(self, chosen: Chosen, page: Page) -> list[Listed]:
        """Read a page of the people who have a chosen grant, by id, with all of their grants counted."""
        where, values = _of(chosen)
        query = (
            "SELECT hire, status, min(email), count(*), max(checked_at) FROM grants"
            f" WHERE hire IN (SELECT DISTINCT hire FROM grants{where} ORDER BY hire{PAGED})"
            " GROUP BY hire, status ORDER BY hire"
        )
        found: dict[str, Listed] = {}
        for hire, status, email, count, checked_at in self._cells(query, **values, **page.values):
            listed = found.setdefault(hire, Listed(hire, email))
            listed.counts[Status(status)] = count
            checked = [at for at in (listed.checked_at, moment(checked_at)) if at is not None]
            listed.checked_at = max(checked, default=None)
        return list(found.values())

    def count_grants(self, chosen: Chosen) -> int:
        """Count the chosen grants."""
        where, values = _of(chosen)
        return int(self._value(f"SELECT count(*) FROM grants{where}", **values) or 0)

    def grants(self, chosen: Chosen, page: Page) -> list[Record]:
        """Read a page of the chosen grants, faults first, without the steps of their runs."""
        where, values = _of(chosen)
        query = f"SELECT * FROM grants{where} ORDER BY {_RANKED}, hire, access{PAGED}"
        return [record_of(row, ()) for row in self._rows(query, **values, **page.values)]

    def waiting(self, shown: int) -> list[tuple[int, Record]]:
        """Read the grants that wait for a person: `shown` of each status of an integration, with their number."""
        inner = (
            'SELECT *, row_number() OVER (PARTITION BY integration, status ORDER BY hire, access) AS "number",'
            f' count(*) OVER (PARTITION BY integration, status) AS "of" FROM grants WHERE {_WAITS}'
        )
        query = (
            f'SELECT * FROM ({inner}) AS waiting WHERE "number" <= :shown ORDER BY integration, status, hire, access'
        )
        return [(row["of"], record_of(row, ())) for row in self._rows(query, shown=shown, faults=sorted(FAULTS))]

    def ending(self, now: datetime, until: datetime, shown: int) -> tuple[int, list[Record]]:
        """Count the grants that end after `now` and up to `until`, and read the first of them, the soonest first."""
        query = (
            'SELECT *, count(*) OVER () AS "of" FROM grants WHERE expire_at > :now AND expire_at <= :until'
            " AND ends_at > :now ORDER BY ends_at, hire, access LIMIT :shown"
        )
        rows = self._rows(query, now=now, until=until, shown=shown)
        return rows[0]["of"] if rows else 0, [record_of(row, ()) for row in rows]

    def holding(self, integration: str, texts: Collection[str], shown: int) -> list[Record]:
        """Read the grants of accounts among whose values one of these texts stands: `shown` at most, by hire.

        What a service has instead of a value counts, too. They are found in any case, and with blanks at the ends. A
        text that stands in another value than it is meant for is among them, too.
        """
        spelled = {json.dumps(each)[1:-1].lower() for text in texts for each in (text, text.lower(), text.upper())}
        bounded = (f"{begin}{text}{end}" for text in sorted(spelled) for begin in '" ' for end in '" ')
        likes = {f"text{place}": f"%{_escaped(text)}%" for place, text in enumerate(bounded)}
        query = (
            "SELECT * FROM grants WHERE integration = :integration AND status <> :revoked"
            " AND (executed_at IS NOT NULL OR confirmed_at IS NOT NULL)"
            f" AND ({' OR '.join(f'{_VALUES} LIKE :{name} ESCAPE {_SLASH}' for name in likes)})"
            " ORDER BY hire, access LIMIT :shown"
        )
        rows = self._rows(query, integration=integration, revoked=Status.REVOKED, shown=shown, **likes)
        return [record_of(row, ()) for row in rows]

    def last_checked(self) -> dict[str, datetime]:
        """Return when a grant of each integration was last checked."""
        query = "SELECT integration, max(checked_at) FROM grants GROUP BY integration"
        return {name: moment(at) for name, at in self._cells(query) if at is not None}

    def held_by_policy(self) -> dict[str, int]:
        """Count the grants of each integration that a rule of the policy blocks."""
        query = (
            "SELECT integration, count(*) FROM grants WHERE status = :blocked AND code = :policy GROUP BY integration"
        )
        return dict(self._cells(query, blocked=Status.BLOCKED, policy=ReasonCode.POLICY))


PAGED = " LIMIT :size OFFSET :start"

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


def _of(chosen: Chosen) -> tuple[str, dict[str, object]]:
    """Make the conditions of a filter of grants, and their values."""
    values: dict[str, object] = {}
    where = list(among(values, hire=chosen.hires, integration=chosen.integrations, status=chosen.statuses))
    if chosen.text:
        texts = lowered(chosen.text)
        values |= {f"text{place}": f"%{_escaped(text)}%" for place, text in enumerate(sorted(texts))}
        like = (f"lower({of}) LIKE :text{place} ESCAPE '/'" for of in ("hire", "email") for place in range(len(texts)))
        where.append(f"({' OR '.join(like)})")
    return where_of(where), values


_VALUES = "lower(CAST(snapshot AS text) || CAST(differs AS text) || CAST(accepted AS text))"
"""What is remembered of an account's values, and how it differs from what git wants, or is accepted."""

_SLASH = "'/'"


def _escaped(text: str) -> str:
    """Escape text for LIKE."""
    for sign in "/%_":
        text = text.replace(sign, f"/{sign}")
    return text
