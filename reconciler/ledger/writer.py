"""Write the ledger. Every write is one transaction, durable before the call returns.

The caller decides what to write.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.backend import WritableBackend, within
from reconciler.ledger.chain import END, ERASED, Link, erased_lines, linked
from reconciler.ledger.entries import Attempt, Change, Command, Event, Kept
from reconciler.ledger.lease import EVERYTHING, Lease
from reconciler.ledger.reader import GIVEN, LISTED, RESYNC, LedgerReader, given_in, newest_attempt
from reconciler.ledger.rows import attempt_row, changed_and_checked, event_row, given_row, grant_row, request_row
from reconciler.model.failpoints import Failpoint, Reached, unwatched
from reconciler.model.given import Given
from reconciler.model.grant import Key, Outcome, Record, Step
from reconciler.model.status import EventType

__all__ = ["LedgerWriter"]

_CHECKED = (
    sa.update(schema.grants)
    .where(schema.grants.c.hire == sa.bindparam("whose"), schema.grants.c.access == sa.bindparam("which"))
    .values(checked_at=sa.bindparam("moment"))
)

_LAST = sa.select(schema.meta.c.value).where(schema.meta.c.name == END).with_for_update()
"""The end of the history. Appending locks it until the commit; SQLite has one writer anyway."""


class LedgerWriter(LedgerReader):
    """The ledger of one state, for reading and writing under a lease."""

    def __init__(self, backend: WritableBackend, reached: Reached = unwatched, lease: Lease | None = None) -> None:
        super().__init__(backend)
        self.backend: WritableBackend = backend
        self._reached = reached
        self.lease = lease

    def under(self, lease: Lease) -> LedgerWriter:
        """Return the same ledger, to be written to under this lease."""
        return LedgerWriter(self.backend, self._reached, lease)

    def close(self) -> None:
        """Close the database."""
        self.backend.close()

    @contextmanager
    def _writing(self, point: Failpoint) -> Iterator[sa.Connection]:
        self._reached(point, done=False)
        with self.backend.writing() as connection:
            if self.lease is not None:
                self.lease.lock(within(connection))
            yield connection
        self._reached(point, done=True)

    def take_everything(self) -> LedgerWriter:
        """Return the same ledger under a lease of everything. The caller has the state locked: no other has a lease.

        Whoever had it before, and does not know that it ended, writes nothing more.
        """
        table = schema.shards
        with self._writing(Failpoint.LEASE) as connection:
            taken = sa.update(table).where(table.c.service == EVERYTHING).values(epoch=table.c.epoch + 1)
            if not connection.execute(taken).rowcount:
                connection.execute(sa.insert(table).values(service=EVERYTHING, epoch=1))
            epoch = connection.execute(sa.select(table.c.epoch).where(table.c.service == EVERYTHING)).scalar_one()
        return self.under(Lease({EVERYTHING: epoch}))

    # Grants

    def save(
        self,
        records: Iterable[Record],
        events: Iterable[Event] = (),
        point: Failpoint = Failpoint.CHECKED,
        *,
        before: Mapping[Key, Record] | None = None,
        kept: Kept | None = None,
        noted: Kept | None = None,
        answered: Iterable[Command] = (),
    ) -> None:
        """Write records and events; with them sealed values and notes, and delete answered commands.

        Where a record is as the ledger had it `before`, but for the time of the check, only that is written.
        """
        changed, checked = changed_and_checked(records, before or {})
        with self._writing(point) as connection:
            if checked:
                connection.execute(_CHECKED, checked)
            self._put_all(connection, schema.meta, noted or {})
            self._save(connection, changed, events, kept, answered)

    def drop(self, keys: Collection[Key], events: Iterable[Event] = (), *, kept: Kept | None = None) -> None:
        """Delete grants that were neither executed nor confirmed."""
        with self._writing(Failpoint.DROPPED) as connection:
            for key in keys:
                connection.execute(sa.delete(schema.grants).where(_is_of(schema.grants, key)))
            self._save(connection, (), events, kept)
            for key in keys:
                connection.execute(sa.delete(schema.given).where(_is_of(schema.given, key)))

    def rename(self, moves: Mapping[Key, Key], kept: Kept | None = None) -> None:
        """Rename rows and their history; two grants may swap names."""
        tables = (schema.grants, schema.attempts, schema.events, schema.given)
        between = {old: Key(f"/{new.hire}", new.access) for old, new in moves.items()}  # no file can have this name
        steps = [*between.items(), *((between[old], new) for old, new in moves.items())]
        with self._writing(Failpoint.RENAMED) as connection:
            # If the revision was taken over before its rows could be renamed, `given` has their new names already.
            known = given_in(within(connection), {new.hire for new in moves.values()})
            for old in (old for old, new in moves.items() if new in known and new not in moves):
                connection.execute(sa.delete(schema.given).where(_is_of(schema.given, old)))
            for (here, there), table in itertools.product(steps, tables):
                values: dict[str, Any] = {"hire": there.hire, "access": there.access}
                if table is schema.events:
                    values["was"] = sa.func.coalesce(table.c.was, table.c.hire + "/" + table.c.access)
                connection.execute(sa.update(table).where(_is_of(table, here)).values(values))
            self._save(connection, (), (), kept)

    def give(self, given: Mapping[Key, Given], revision: str) -> None:
        """Save who gave grants, as of a revision."""
        rows = [given_row(key, each) for key, each in given.items()]
        with self._writing(Failpoint.NOTE) as connection:
            if rows:
                self.backend.upsert(connection, schema.given, ("hire", "access"), rows)
            self._put(connection, schema.meta, GIVEN, revision.encode())

    # Attempts

    def begin(
        self,
        record: Record,
        attempt: Attempt,
        events: Iterable[Event],
        *,
        kept: Kept | None = None,
        answered: Iterable[Command] = (),
    ) -> Attempt:
        """Write an attempt before its first request is sent, with its sealed memory.

        A `run` of 0 starts a run of its own. The commands that asked for it have been heard with that.
        """
        if self.lease is not None:
            service, epoch = self.lease.of(record.service)
            attempt = replace(attempt, service=service, epoch=epoch)
        with self._writing(Failpoint.INTENT) as connection:
            values = attempt_row(attempt)
            new = connection.execute(sa.insert(schema.attempts).values(values)).inserted_primary_key
            assert new is not None
            run = attempt.run or new[0]
            connection.execute(sa.update(schema.attempts).where(schema.attempts.c.id == new[0]).values(run=run))
            self._save(connection, [replace(record, open=replace(record.run, id=run))], events, kept, answered)
        return replace(attempt, id=new[0], run=run)

    def sending(self, attempt: Attempt, step: Step, method: str, url: str, now: datetime) -> None:
        """Write that a request is about to be sent, or sent again."""
        with self._writing(Failpoint.LEAVING) as connection:
            row = request_row(attempt, step, method, url, now)
            self.backend.upsert(connection, schema.requests, ("attempt", "place"), [row])
            self._alive(connection, attempt, now)

    def answered(
        self,
        attempt: Attempt,
        place: int,
        outcome: Outcome,
        now: datetime,
        *,
        status_code: int | None = None,
        error: str | None = None,
        kept: Kept | None = None,
    ) -> None:
        """Write the outcome of a request, with the run's sealed memory."""
        table = schema.requests
        with self._writing(Failpoint.ANSWER) as connection:
            connection.execute(
                sa.update(table)
                .where(table.c.attempt == attempt.id, table.c.place == place)
                .values(answered_at=now, outcome=outcome, status_code=status_code, error=error)
            )
            self._alive(connection, attempt, now)
            self._save(connection, (), (), kept)

    @staticmethod
    def _alive(connection: sa.Connection, attempt: Attempt, now: datetime) -> None:
        table = schema.attempts
        connection.execute(sa.update(table).where(table.c.id == attempt.id).values(alive_at=now))

    def settle(
        self,
        attempt: Attempt,
        record: Record,
        events: Iterable[Event],
        *,
        now: datetime,
        error: str | None,
        kept: Kept | None = None,
    ) -> None:
        """Write how an attempt ended, and erase memory that is no longer needed."""
        with self._writing(Failpoint.OUTCOME) as connection:
            table = schema.attempts
            connection.execute(sa.update(table).where(table.c.id == attempt.id).values(ended_at=now, error=error))
            self._save(connection, [record], events, kept)

    def begin_resync(self) -> None:
        """Begin a full resync: the guard counts anew, from the next attempt on.

        They are counted in the order in which they were written down, which no clock that jumps moves.
        """
        self.put_note(RESYNC, str(self.newest_attempt()).encode())

    def forget(self, hire: str, now: datetime) -> int:
        """Erase a person, except for the history's digests and the event that somebody was forgotten.

        Returns how many grants that were.
        """
        resync = self.resync()
        with self._writing(Failpoint.FORGOTTEN) as connection:
            runs = sa.select(schema.attempts.c.id).where(schema.attempts.c.hire == hire)
            connection.execute(sa.delete(schema.requests).where(schema.requests.c.attempt.in_(runs)))
            name = schema.sealed.c.name
            for kind in ("run", "notice", "stored"):
                theirs = sa.or_(name == f"{kind}/{hire}", name.startswith(f"{kind}/{hire}/", autoescape=True))
                connection.execute(sa.delete(schema.sealed).where(theirs))
            connection.execute(sa.delete(schema.commands).where(schema.commands.c.hire == hire))
            count = 0
            said = sa.update(schema.events).where(schema.events.c.hire == hire)
            lines = connection.execute(said.values(ERASED)).rowcount
            for table in (schema.attempts, schema.given, schema.grants):
                count = connection.execute(sa.delete(table).where(table.c.hire == hire)).rowcount
            if (newest := newest_attempt(within(connection))) < resync:  # higher numbers are used again
                self._put(connection, schema.meta, RESYNC, str(newest).encode())
            gone = Event(
                now, Key("", ""), "", EventType.FORGOTTEN, f"a person with {count} grants; {erased_lines(lines)}"
            )
            self._save(connection, (), [gone])
        self._reached(Failpoint.WIPED, done=False)
        self.backend.scrub()
        self._reached(Failpoint.WIPED, done=True)
        return count

    # Accounts

    def saw(self, integration: str, accounts: AbstractSet[str], now: datetime) -> None:
        """Save since when a complete listing shows these accounts, by digest; delete those that it no longer shows."""
        known, table = self.first_seen(integration).keys(), schema.accounts
        new = [{"integration": integration, "account": each, "first_seen": now} for each in sorted(accounts - known)]
        gone = [{"whose": each} for each in sorted(known - accounts)]
        with self._writing(Failpoint.NOTE) as connection:
            self._put(connection, schema.meta, f"{LISTED}{integration}", now.isoformat().encode())
            if new:
                connection.execute(sa.insert(table), new)
            if gone:
                theirs = table.c.integration == integration, table.c.account == sa.bindparam("whose")
                connection.execute(sa.delete(table).where(*theirs), gone)

    # What is sealed, what is noted, what is asked for

    def put_sealed(self, name: str, value: bytes | Change, point: Failpoint = Failpoint.SEALED) -> None:
        """Save or change a sealed value."""
        with self._writing(point) as connection:
            self._put(connection, schema.sealed, name, value)

    def erase(self, name: str) -> None:
        """Erase a sealed value."""
        with self._writing(Failpoint.SEALED) as connection:
            connection.execute(sa.delete(schema.sealed).where(schema.sealed.c.name == name))

    def put_note(self, name: str, value: bytes | Change, point: Failpoint = Failpoint.NOTE) -> None:
        """Save or change a note."""
        with self._writing(point) as connection:
            self._put(connection, schema.meta, name, value)

    def enqueue(
        self,
        kind: str,
        *,
        now: datetime,
        by: str,
        hire: str | None = None,
        access: str | None = None,
        integration: str | None = None,
    ) -> None:
        """Enqueue a command for the process that has the state."""
        values = {"at": now, "kind": kind, "hire": hire, "access": access, "integration": integration, "by": by}
        with self._writing(Failpoint.COMMAND) as connection:
            connection.execute(sa.insert(schema.commands).values(values))

    def split(self, command: Command, parts: Iterable[Collection[str]]) -> None:
        """Replace a command by one for each integration of these parts."""
        with self._writing(Failpoint.TAKEN_UP) as connection:
            self._save(connection, (), (), answered=[command])
            said = {name: value for name, value in asdict(command).items() if name != "id"}
            rows = [{**said, "integration": name} for part in parts for name in part]
            connection.execute(sa.insert(schema.commands), rows)

    def _save(
        self,
        connection: sa.Connection,
        records: Iterable[Record],
        events: Iterable[Event],
        kept: Kept | None = None,
        answered: Iterable[Command] = (),
    ) -> None:
        rows = [grant_row(record) for record in records]
        if rows:
            self.backend.upsert(connection, schema.grants, ("hire", "access"), rows)
        self._put_all(connection, schema.sealed, kept or {})
        for command in answered:  # by now another command may have its number
            connection.execute(
                sa.delete(schema.commands).where(schema.commands.c.id == command.id, schema.commands.c.at == command.at)
            )
        # Last, because from here on other writers wait for the commit.
        self._tell(connection, [event_row(item) for item in events])

    def _tell(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append lines to the history, with who gave their grants; nothing else writes lines."""
        if not rows:
            return
        given = given_in(within(connection), {row["hire"] for row in rows}, {row["access"] for row in rows})
        told = ((row, given.get(Key(row["hire"], row["access"]))) for row in rows)
        rows = [row if by is None else {**row, **_evidence(by)} for row, by in told]
        note = connection.execute(_LAST).scalar()
        lines, end = linked(rows, Link.of(note))
        connection.execute(sa.insert(schema.events), lines)
        self._put(connection, schema.meta, END, end.as_note())

    def _put_all(self, connection: sa.Connection, table: sa.Table, values: Kept) -> None:
        # In one order, so that no two writers wait for each other.
        for name, value in sorted(values.items(), key=itemgetter(0)):
            self._put(connection, table, name, value)

    def _put(self, connection: sa.Connection, table: sa.Table, name: str, value: bytes | Change | None) -> None:
        if callable(value):
            self.backend.alone(connection, f"{table.name}/{name}")
            before = connection.execute(sa.select(table.c.value).where(table.c.name == name)).scalar()
            value = value(None if before is None else bytes(before))
        if value is None:
            connection.execute(sa.delete(table).where(table.c.name == name))
        else:
            self.backend.upsert(connection, table, ("name",), [{"name": name, "value": value}])


def _is_of(table: sa.Table, key: Key) -> sa.ColumnElement[bool]:
    """Make the condition that a row is of this grant."""
    return sa.and_(table.c.hire == key.hire, table.c.access == key.access)


def _evidence(given: Given) -> dict[str, Any]:
    """Return the columns of a line that say who gave the grant."""
    return {"granted_in": given.granted_in, "author": given.author, "approved_by": list(given.approved_by) or None}
