"""Read the grants of a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime
from functools import partial

from reconciler.ledger.entries import GrantFilter
from reconciler.ledger.reading import PAGE, LedgerPart, in_pages, lowered, where_of
from reconciler.ledger.rows import RECORD_COLUMNS, record_by_place
from reconciler.model.grant import Key, Outcome, Record, Step
from reconciler.model.lock import LockState
from reconciler.model.status import Action, Status

__all__ = ["Grants"]

_RUN = RECORD_COLUMNS.index("run")


class Grants(LedgerPart):
    """The records of grants, and whose they are."""

    def records(
        self, hires: Collection[str] | None = None, emails: Collection[str] = (), only: GrantFilter | None = None
    ) -> Iterator[Record]:
        """Read every record, or those of some hires and addresses; unsettled ones with the steps of their run."""
        where, values = list[str](), dict[str, object]()
        if hires is not None:
            where.append("(hire IN :hires OR lower(email) IN :emails)")
            spellings = {spelling for email in emails for spelling in lowered(email)}
            values |= {"hires": sorted(hires), "emails": sorted(spellings)}
        if only is not None:
            # As expressions, which no index matches: hires have far fewer rows than an integration.
            where.append("(coalesce(integration, '') IN :integrations OR coalesce(access, '') IN :names)")
            values |= {"integrations": sorted(only.integrations), "names": sorted(only.names)}
        query = f"SELECT {', '.join(RECORD_COLUMNS)} FROM grants"
        if hires is None:
            where.append("(hire, access) > (:last_hire, :last_access)")
            page = f"{query}{where_of(where)} ORDER BY hire, access LIMIT :size"
            found = in_pages(partial(self._cells, page, **values), last_hire="", last_access="")
        else:
            found = iter([self._cells(f"{query}{where_of(where)} ORDER BY hire, access", **values)])
        for rows in found:
            steps = self._steps([row[_RUN] for row in rows if row[_RUN] is not None])
            for row in rows:
                yield record_by_place(row, steps.get(row[_RUN], ()))

    def _steps(self, runs: list[int]) -> dict[int | None, tuple[Step, ...]]:
        if not runs:
            return {}
        latest: dict[int | None, dict[int, Step]] = {}
        for row in self._rows("SELECT * FROM requests WHERE run IN :runs ORDER BY id", runs=runs):
            step = Step(row["place"], row["text"], bool(row["mutates"]), Outcome(row["outcome"]))
            latest.setdefault(row["run"], {})[row["place"]] = step
        return {run: tuple(steps[place] for place in sorted(steps)) for run, steps in latest.items()}

    def record(self, key: Key) -> Record | None:
        """Read one grant's record."""
        return next((record for record in self.records([key.hire]) if record.key == key), None)

    def origins_after(self, key: Key) -> tuple[list[tuple[str, str, str | None]], Key | None]:
        """Read whose the next grants are, with the address and the sequence that gave each, and the last one's key.

        None where there are no more.
        """
        query = (
            "SELECT hire, access, email, origin FROM grants WHERE (hire, access) > (:hire, :access)"
            " ORDER BY hire, access LIMIT :at_most"
        )
        rows = self._cells(query, hire=key.hire, access=key.access, at_most=PAGE)
        last = Key(*rows[-1][:2]) if len(rows) == PAGE else None
        return [(hire, email, origin) for hire, _, email, origin in rows], last

    def due(self, now: datetime) -> list[Key]:
        """List the grants whose retry is due and that were not checked since.

        A check that failed then is not repeated before its turn comes.
        """
        query = (
            "SELECT hire, access FROM grants WHERE retry_at <= :now"
            " AND (status = :retrying OR (locked = :pending AND action = :waits))"
            " AND (checked_at IS NULL OR checked_at < retry_at)"
        )
        pending = {"pending": LockState.PENDING, "waits": Action.WAIT}
        return [Key(*cells) for cells in self._cells(query, now=now, retrying=Status.RETRYING, **pending)]

    def expiring(self, now: datetime) -> list[Key]:
        """List the grants whose time is over, and those of them that are to be asked for again."""
        return [
            Key(*cells) for cells in self._cells("SELECT hire, access FROM grants WHERE expire_at <= :now", now=now)
        ]

    def not_locked_yet(self) -> list[Key]:
        """List the grants of people who are locked that wait for their check to be answered."""
        query = "SELECT hire, access FROM grants WHERE locked = :pending AND action = :none"
        return [Key(*cells) for cells in self._cells(query, pending=LockState.PENDING, none=Action.NONE)]

    def counts(self) -> Counter[tuple[str, Status]]:
        """Count the grants of each integration and status."""
        query = "SELECT integration, status, count(*) FROM grants GROUP BY integration, status"
        return Counter({(name, Status(status)): count for name, status, count in self._cells(query)})

    def hires(self) -> set[str]:
        """List every hire in the ledger."""
        return set(self._column("SELECT DISTINCT hire FROM grants"))

    def hires_after(self, hire: str, at_most: int) -> list[str]:
        """List the hires in the ledger from the first one after this on, in their order."""
        query = "SELECT DISTINCT hire FROM grants WHERE hire > :hire ORDER BY hire LIMIT :at_most"
        return self._column(query, hire=hire, at_most=at_most)

    def names(self) -> set[str]:
        """List every hire, access and integration in the ledger."""
        query = "SELECT hire FROM grants UNION SELECT access FROM grants UNION SELECT integration FROM grants"
        return set(self._column(query))

    def integrations(self, hires: Collection[str]) -> list[tuple[str, str]]:
        """List pairs of a hire and an integration of which it has grants, among these hires."""
        query = "SELECT DISTINCT hire, integration FROM grants WHERE hire IN :hires"
        return [(hire, name) for hire, name in self._cells(query, hires=sorted(hires))]
