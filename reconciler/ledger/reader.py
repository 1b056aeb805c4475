"""Reading the ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.browsing import Browsing, told
from reconciler.ledger.chain import END, Chain, Link, verify
from reconciler.ledger.entries import Attempt, Command, Event, Member, Part, Sent
from reconciler.ledger.lease import NOW, OURS
from reconciler.ledger.rows import attempt_of, command_of, event_of, given_of, is_of, record_of, sent_of
from reconciler.model.given import Given
from reconciler.model.grant import Key, Outcome, Phase, Record, Step
from reconciler.model.status import EventType, Status

__all__ = ["GIVEN", "LISTED", "RESYNC", "LedgerReader"]

T = TypeVar("T")

PAGE = 1000
"""The most rows that are read with one statement, where there may be any number."""

MANY = 500
"""The most hires that are asked for with one statement."""

GIVEN = "given_up_to"
"""The note that has the revision up to which it is known who gave what."""

LISTED = "listed_at/"
"""Before an integration's name, the note that has when its listing was last read whole."""

RESYNC = "resync_attempt"
"""The note that has the newest attempt when the last full resync began."""


class LedgerReader(Browsing):
    """The ledger of one state, to be read. Nothing of it can be written through this."""

    @property
    def remote(self) -> bool:
        """Whether it is read and written over the network."""
        return self.backend.remote

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Read or write, in a thread where that goes over the network: other tasks run meanwhile."""
        return await asyncio.to_thread(work) if self.remote else work()

    @property
    def unattended(self) -> bool:
        """Whether it is read while nobody holds it: then an attempt without an end was cut off by a crash."""
        return self.backend.unattended

    # Grants

    def records(
        self, hires: Collection[str] | None = None, emails: Collection[str] = (), part: Part | None = None
    ) -> Iterator[Record]:
        """Every record, or those of some hires and addresses; the unsettled ones with the steps of their run."""
        table = schema.grants
        query = sa.select(table)
        if hires is not None:
            addresses = sorted(email.lower() for email in emails)
            query = query.where(table.c.hire.in_(sorted(hires)) | sa.func.lower(table.c.email).in_(addresses))
        if part is not None:
            # As expressions, for which there is no index: the hires' own rows are far fewer than an integration's.
            integration, access = (sa.func.coalesce(column, "") for column in (table.c.integration, table.c.access))
            query = query.where(integration.in_(sorted(part.integrations)) | access.in_(sorted(part.names)))
        for rows in self._pages(query, table.c.hire, table.c.access, size=PAGE if hires is None else None):
            steps = self._steps([row["run"] for row in rows if row["run"] is not None])
            for row in rows:
                yield record_of(row, steps.get(row["run"], ()))

    def record(self, key: Key) -> Record | None:
        """One grant's record."""
        return next((record for record in self.records([key.hire]) if record.key == key), None)

    def due(self, now: datetime) -> list[Key]:
        """The grants whose retry is due and that were not looked at since.

        A check that failed then is not repeated before its turn comes.
        """
        table = schema.grants
        query = sa.select(table.c.hire, table.c.access).where(
            table.c.retry_at <= now,
            table.c.status == Status.RETRYING,
            sa.or_(table.c.checked_at.is_(None), table.c.checked_at < table.c.retry_at),
        )
        with self.backend.reading() as connection:
            return [Key(row.hire, row.access) for row in connection.execute(query)]

    def counts(self) -> Counter[tuple[str, Status]]:
        """How many grants each integration has of each status."""
        table = schema.grants
        query = sa.select(table.c.integration, table.c.status, sa.func.count()).group_by(
            table.c.integration, table.c.status
        )
        with self.backend.reading() as connection:
            return Counter({(name, Status(status)): count for name, status, count in connection.execute(query)})

    def hires(self) -> set[str]:
        """Everybody that the ledger knows."""
        with self.backend.reading() as connection:
            return set(connection.execute(sa.select(schema.grants.c.hire).distinct()).scalars())

    def integrations(self, hires: Collection[str]) -> Iterator[tuple[str, str]]:
        """Which hire has grants of which integration, among these hires."""
        table = schema.grants
        query = sa.select(table.c.hire, table.c.integration).where(table.c.hire.in_(sorted(hires))).distinct()
        with self.backend.reading() as connection:
            rows = connection.execute(query).all()
        yield from ((row.hire, row.integration) for row in rows)

    def _steps(self, runs: list[int]) -> dict[int | None, tuple[Step, ...]]:
        if not runs:
            return {}
        table = schema.requests
        latest: dict[int | None, dict[int, Step]] = {}
        query = sa.select(table).where(table.c.run.in_(runs)).order_by(table.c.id)
        with self.backend.reading() as connection:
            for row in connection.execute(query):
                step = Step(row.place, row.text, row.mutates, Outcome(row.outcome))
                latest.setdefault(row.run, {})[row.place] = step
        return {run: tuple(steps[place] for place in sorted(steps)) for run, steps in latest.items()}

    # Attempts

    def open_attempts(self) -> list[Attempt]:
        """The attempts that have no end: they run now, or a crash cut them off."""
        return self._attempts(schema.attempts.c.ended_at.is_(None))

    def attempts(self, key: Key) -> list[tuple[Attempt, list[Sent]]]:
        """The attempts at one grant, oldest first, with their requests."""
        attempts = self._attempts(is_of(schema.attempts, key))
        table = schema.requests
        query = sa.select(table).where(table.c.attempt.in_([attempt.id for attempt in attempts])).order_by(table.c.id)
        sent: dict[int, list[Sent]] = {}
        with self.backend.reading() as connection:
            for row in connection.execute(query):
                sent.setdefault(row.attempt, []).append(sent_of(row))
        return [(attempt, sent.get(attempt.id, [])) for attempt in attempts]

    def _attempts(self, where: sa.ColumnElement[bool]) -> list[Attempt]:
        query = sa.select(schema.attempts).where(where).order_by(schema.attempts.c.id)
        with self.backend.reading() as connection:
            return [attempt_of(row) for row in connection.execute(query)]

    # The guard

    def resync(self) -> int:
        """The newest attempt when the last full resync began; 0 where there was none."""
        return int(self.note(RESYNC) or 0)

    def newest_attempt(self) -> int:
        """The number of the attempt that was written down last; 0 where there was none."""
        with self.backend.reading() as connection:
            return self._newest(connection)

    @staticmethod
    def _newest(connection: sa.Connection) -> int:
        return int(connection.execute(sa.select(sa.func.max(schema.attempts.c.id))).scalar() or 0)

    def confirmed(self, attempt: int) -> dict[str, int]:
        """How many grants of each integration were confirmed and not revoked at that attempt, or have been since."""
        table, attempts = schema.grants, schema.attempts
        since = sa.exists().where(
            attempts.c.hire == table.c.hire,
            attempts.c.access == table.c.access,
            attempts.c.kind.in_(("revoke", "withdraw")),
            attempts.c.id > attempt,
        )
        query = (
            sa.select(table.c.integration, sa.func.count())
            .where(table.c.confirmed_at.is_not(None), sa.or_(table.c.phase != Phase.REVOKED, since))
            .group_by(table.c.integration)
        )
        with self.backend.reading() as connection:
            return {row.integration: row[1] for row in connection.execute(query)}

    def guarded(self) -> dict[str, set[Key]]:
        """The grants of each integration that the guard keeps from being revoked or healed."""
        lost = sa.or_(schema.grants.c.lost, schema.grants.c.orphaned_at.is_not(None))
        return self._by_integration(schema.grants, schema.grants.c.guarded.is_(True), lost)

    def guarded_new(self) -> dict[str, set[Key]]:
        """The grants of each integration that the guard keeps from being made or updated."""
        table = schema.grants
        kept = table.c.lost.is_(False), table.c.orphaned_at.is_(None)
        return self._by_integration(table, table.c.guarded.is_(True), *kept)

    def changes_since(self, attempt: int) -> dict[str, set[Key]]:
        """The grants of each integration that were healed or revoked after that attempt."""
        table = schema.attempts
        return self._by_integration(
            table, table.c.kind.in_(("heal", "mend", "revoke", "withdraw")), table.c.id > attempt
        )

    def made_since(self, attempt: int) -> dict[str, set[Key]]:
        """The grants of each integration that were made or updated after that attempt, their retries not counted."""
        table = schema.attempts
        first = table.c.kind.in_(("execute", "reinvite", "update")), table.c.number == 1
        return self._by_integration(table, *first, table.c.id > attempt)

    def _by_integration(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> dict[str, set[Key]]:
        query = sa.select(table.c.integration, table.c.hire, table.c.access).where(*where)
        found: dict[str, set[Key]] = {}
        with self.backend.reading() as connection:
            for row in connection.execute(query):
                found.setdefault(row.integration, set()).add(Key(row.hire, row.access))
        return found

    # History

    def history(
        self,
        *,
        hires: Collection[str] = (),
        integrations: Collection[str] = (),
        events: Collection[EventType] = (),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Event]:
        """What happened, oldest first, from `since` on and before `until`; nothing of who was forgotten."""
        where = told(hires=hires, integrations=integrations, events=events, since=since, until=until)
        for rows in self._pages(sa.select(schema.events).where(*where), schema.events.c.id):
            yield from (event_of(row) for row in rows)

    def verify_history(self) -> Chain:
        """Whether the history is as it was written, but for who was forgotten."""
        pages = self._pages(sa.select(schema.events), schema.events.c.id)
        return verify((dict(row) for rows in pages for row in rows), lambda: Link.of(self.note(END)))

    def _pages(
        self, query: sa.Select[Any], *key: sa.Column[Any], size: int | None = PAGE
    ) -> Iterator[Sequence[sa.RowMapping]]:
        """Rows in the order of a key, some at a time: nothing stays open in the database while a caller reads them."""
        page = query = query.order_by(*key).limit(size)
        while True:
            with self.backend.reading() as connection:
                rows = connection.execute(page).mappings().all()
            yield rows
            if size is None or len(rows) < size:
                return
            page = query.where(sa.tuple_(*key) > tuple(rows[-1][column.name] for column in key))

    def has_line(self, digest: str) -> bool:
        """Whether the history has a line of this digest, or had it before its person was forgotten."""
        query = sa.select(schema.events.c.id).where(schema.events.c.digest == digest).limit(1)
        with self.backend.reading() as connection:
            return connection.execute(query).first() is not None

    # Accounts

    def listed_at(self, integration: str) -> datetime | None:
        """When a listing of the integration was last read whole by who holds the state; None where none was."""
        note = self.note(f"{LISTED}{integration}")
        return None if note is None else datetime.fromisoformat(note.decode())

    def first_seen(self, integration: str) -> dict[str, datetime]:
        """When each account of a listing was first read, by the digest of what it is known by."""
        table = schema.accounts
        query = sa.select(table.c.account, table.c.first_seen).where(table.c.integration == integration)
        with self.backend.reading() as connection:
            return {row.account: row.first_seen for row in connection.execute(query)}

    # Who gave it

    def given(self, hires: Collection[str] | None = None) -> dict[Key, Given]:
        """Who gave each grant of some hires, or of all, as far as that is known."""
        with self.backend.reading() as connection:
            return self._given(connection, hires)

    @staticmethod
    def _given(connection: sa.Connection, hires: Collection[str] | None) -> dict[Key, Given]:
        table = schema.given
        query = sa.select(table)
        several: list[list[str] | None] = [None]
        if hires is not None:
            names = sorted(hires)
            several = [names[start : start + MANY] for start in range(0, len(names), MANY)]
        found: dict[Key, Given] = {}
        for some in several:
            rows = connection.execute(query if some is None else query.where(table.c.hire.in_(some)))
            found |= {Key(row.hire, row.access): given_of(row) for row in rows}
        return found

    def given_up_to(self) -> str | None:
        """The revision up to which it is known who gave what."""
        note = self.note(GIVEN)
        return None if note is None else note.decode()

    # Members

    def members(self) -> list[Member]:
        """The processes that share the work, by name; none where the state is a file, which is one process's."""
        shards, members = schema.shards, schema.members
        with self.backend.reading() as connection:
            known = connection.execute(sa.select(members).order_by(members.c.name)).all()
            if not known:
                return []
            held: dict[str, list[str]] = {}
            rows = connection.execute(sa.select(shards.c.owner, shards.c.service).where(shards.c.until > NOW))
            for row in rows:
                held.setdefault(row.owner, []).append(row.service)
        return [
            Member(row.name, row.since, row.seen, tuple(_services(held[row.owner])), row.daemon)
            for row in known
            if row.owner in held
        ]

    # What is sealed, what is noted, what was asked for

    def sealed(self, name: str) -> bytes | None:
        """A sealed value."""
        return self._get(schema.sealed, name)

    def sealed_names(self) -> list[str]:
        """The names of everything that is kept sealed."""
        with self.backend.reading() as connection:
            return list(connection.execute(sa.select(schema.sealed.c.name)).scalars())

    def note(self, name: str) -> bytes | None:
        """A note that the program made for itself."""
        return self._get(schema.meta, name)

    def _get(self, table: sa.Table, name: str) -> bytes | None:
        with self.backend.reading() as connection:
            found = connection.execute(sa.select(table.c.value).where(table.c.name == name)).scalar()
        return None if found is None else bytes(found)

    def commands(self) -> list[Command]:
        """What was asked and not yet answered, oldest first."""
        with self.backend.reading() as connection:
            rows = connection.execute(sa.select(schema.commands).order_by(schema.commands.c.id))
            return [command_of(row) for row in rows]


def _services(shards: Iterable[str]) -> list[str]:
    return sorted(name for name in shards if not name.startswith(OURS))
