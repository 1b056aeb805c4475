"""Write the ledger. Every write is one transaction, durable before the call returns.

The caller decides what to write.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.approvals import ApprovalWriter, untraced_row
from reconciler.ledger.backend import WritableBackend, within
from reconciler.ledger.chain import ERASED, erased_lines
from reconciler.ledger.entries import Attempt, Change, Command, Event, Kept
from reconciler.ledger.guard_counts import RESYNC, RESYNC_BEFORE, newest_attempt
from reconciler.ledger.lease import EVERYTHING, Lease
from reconciler.ledger.reader import LISTED, UNTRACED, given_in
from reconciler.ledger.rows import (
    Redact,
    attempt_row,
    changed_and_checked,
    event_row,
    event_rows,
    grant_row,
    request_row,
)
from reconciler.ledger.transaction import Transaction, Transactions
from reconciler.ledger.verifying import TREE, whole_blocks
from reconciler.model.failpoints import Failpoint, Reached, unwatched
from reconciler.model.grant import Key, Outcome, Record, Step
from reconciler.model.status import EventType
from reconciler.model.value import replace

__all__ = ["LedgerWriter"]

_CHECKED = (
    sa.update(schema.grants)
    .where(schema.grants.c.hire == sa.bindparam("whose"), schema.grants.c.access == sa.bindparam("which"))
    .values(checked_at=sa.bindparam("moment"))
)
_DROPPED = [
    sa.delete(table).where(table.c.hire == sa.bindparam("whose"), table.c.access == sa.bindparam("which"))
    for table in (schema.grants, schema.given)
]

_OF_ATTEMPT = schema.attempts.c.id == sa.bindparam("which")
_BEGUN = sa.insert(schema.attempts).returning(schema.attempts.c.id)
_NEW_RUN = sa.update(schema.attempts).where(_OF_ATTEMPT).values(run=sa.bindparam("which"))
_ALIVE = sa.update(schema.attempts).where(_OF_ATTEMPT).values(alive_at=sa.bindparam("moment"))
_ENDED = (
    sa.update(schema.attempts).where(_OF_ATTEMPT).values(ended_at=sa.bindparam("moment"), error=sa.bindparam("why"))
)
_ANSWERED = (
    sa.update(schema.requests)
    .where(schema.requests.c.attempt == sa.bindparam("which"), schema.requests.c.place == sa.bindparam("where"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("answered_at", "outcome", "status_code", "error")})
)
BLOCKS_AT_A_TIME = 20
"""So many blocks of the tree over the history are hashed in one go: some 50 ms."""

T = TypeVar("T")


class LedgerWriter(ApprovalWriter):
    """The ledger of one state, for reading and writing under a lease."""

    def __init__(self, backend: WritableBackend, reached: Reached = unwatched) -> None:
        super().__init__(backend)
        self.backend: WritableBackend = backend
        self._reached = reached
        self._transactions = Transactions(backend)
        self.lease: Lease | None = None
        self.redact: Redact | None = None
        """Masks the values of the history's lines; as long as it is not there, lines are written without values."""

    def under(self, lease: Lease) -> LedgerWriter:
        """Return the same ledger, to be written to under this lease."""
        found = copy.copy(self)
        found.lease = lease
        return found

    def close(self) -> None:
        """Close the database."""
        self._transactions.flush()
        self.backend.close()

    def gather(self, work: Callable[[], T]) -> Awaitable[T]:
        """Write in one transaction with what other tasks of the event loop write at the same time."""
        return self._transactions.gather(work)

    @contextmanager
    def _writing(self, point: Failpoint) -> Iterator[Transaction]:
        """Open a transaction of its own."""
        self._reached(point, done=False)
        with self._transactions.one(self.lease) as transaction:
            yield transaction
        self._transactions.after(partial(self._reached, point, done=True))

    def _write(self, point: Failpoint, work: Callable[[Transaction], T]) -> T:
        """Write in a transaction that other threads may share."""
        self._reached(point, done=False)
        found = self._transactions.share(self.lease, work)
        self._transactions.after(partial(self._reached, point, done=True))
        return found

    def take_everything(self) -> LedgerWriter:
        """Return the same ledger under a lease of everything. The caller has the state locked: no other has a lease.

        A process that had it before and does not know that its lease ended writes nothing more.
        """
        table = schema.shards
        with self._writing(Failpoint.LEASE) as transaction:
            connection = transaction.connection
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
        lines, commands = event_rows(events, self.redact), list(answered)

        def write(transaction: Transaction) -> None:
            transaction.then(_CHECKED, checked)
            self._put_all(transaction, schema.meta, noted or {})
            self._save(transaction, changed, lines, kept, commands)

        if any(map(callable, [*(noted or {}).values(), *(kept or {}).values()])):
            with self._writing(point) as transaction:
                write(transaction)
        else:
            self._write(point, write)

    def drop(self, keys: Collection[Key], events: Iterable[Event] = (), *, kept: Kept | None = None) -> None:
        """Delete grants that were neither executed nor confirmed."""
        rows = [{"whose": key.hire, "which": key.access} for key in keys]
        with self._writing(Failpoint.DROPPED) as transaction:
            for statement in _DROPPED:
                transaction.then(statement, rows)
            self._save(transaction, (), event_rows(events, self.redact), kept)

    def rename(self, moves: Mapping[Key, Key], events: Iterable[Event], kept: Kept | None = None) -> None:
        """Rename rows and their history; two grants may swap names. Each move has its event, under the new name.

        Up to which revision it is known who gave them is unknown then: it has to be found out from all commits.
        """
        tables = (schema.grants, schema.attempts, schema.events, schema.given)
        between = {old: Key(f"/{new.hire}", new.access) for old, new in moves.items()}  # no file can have this name
        steps = [*between.items(), *((between[old], new) for old, new in moves.items())]
        lines = [
            {**line, "data": {"was": str(old), "place": place}}
            for place, (old, line) in enumerate(zip(moves, event_rows(events, self.redact), strict=True))
        ]
        untraced = self.untraced({new.hire for old, new in moves.items() if old.hire != new.hire})
        with self._writing(Failpoint.RENAMED) as transaction:
            connection = transaction.connection
            # If the revision was taken over before its rows could be renamed, `given` has their new names already.
            known = given_in(within(connection), {new.hire for new in moves.values()})
            for old in (old for old, new in moves.items() if new in known and new not in moves):
                connection.execute(sa.delete(schema.given).where(_is_of(schema.given, old)))
            for (here, there), table in itertools.product(steps, tables):
                values: dict[str, Any] = {"hire": there.hire, "access": there.access}
                if table is schema.events:
                    values["was"] = sa.func.coalesce(table.c.was, table.c.hire + "/" + table.c.access)
                connection.execute(sa.update(table).where(_is_of(table, here)).values(values))
            anew = (untraced_row(hire, each._replace(since=None)) for hire, each in sorted(untraced.items()))
            transaction.upsert(schema.meta, ("name",), anew)
            self._save(transaction, (), lines, kept)

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

        A `run` of 0 starts a run of its own. The commands that requested it are answered with it.
        """
        if self.lease is not None:
            service, epoch = self.lease.of(record.service)
            attempt = replace(attempt, service=service, epoch=epoch)
        row, lines, commands = attempt_row(attempt), event_rows(events, self.redact), list(answered)

        def write(transaction: Transaction) -> Attempt:
            new: int = transaction.connection.execute(_BEGUN, row).scalar_one()
            run = attempt.run or new
            if run == new:
                transaction.then(_NEW_RUN, [{"which": new}])
            self._save(transaction, [replace(record, open=replace(record.run, id=run))], lines, kept, commands)
            return replace(attempt, id=new, run=run)

        return self._write(Failpoint.INTENT, write)

    def sending(
        self, attempt: Attempt, step: Step, method: str, url: str, now: datetime, *, kept: Kept | None = None
    ) -> None:
        """Write that a request is about to be sent, or sent again, with what its effect does to sealed values."""
        row = request_row(attempt, step, method, url, now)

        def write(transaction: Transaction) -> None:
            transaction.upsert(schema.requests, ("attempt", "place"), [row])
            transaction.then(_ALIVE, [{"which": attempt.id, "moment": now}])
            self._save(transaction, (), (), kept)

        self._write(Failpoint.LEAVING, write)

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
        new = {"answered_at": now, "outcome": outcome, "status_code": status_code, "error": error}
        row = {"which": attempt.id, "where": place, **{f"new_{name}": value for name, value in new.items()}}

        def write(transaction: Transaction) -> None:
            transaction.then(_ANSWERED, [row])
            transaction.then(_ALIVE, [{"which": attempt.id, "moment": now}])
            self._save(transaction, (), (), kept)

        self._write(Failpoint.ANSWER, write)

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
        lines = event_rows(events, self.redact)

        def write(transaction: Transaction) -> None:
            transaction.then(_ENDED, [{"which": attempt.id, "moment": now, "why": error}])
            self._save(transaction, [record], lines, kept)

        self._write(Failpoint.OUTCOME, write)

    def begin_resync(self) -> None:
        """Begin a full resync: the guard restarts its counts, of what is taken away once another one has begun.

        Attempts are counted in the order in which they were written down, which no clock that jumps moves.
        """
        self.put_note(RESYNC_BEFORE, str(self.counted_since().began).encode())
        self.put_note(RESYNC, str(self.newest_attempt()).encode())

    def restart_counts(self) -> None:
        """Let nothing that was done so far count for the guard."""
        for name in (RESYNC, RESYNC_BEFORE):
            self.put_note(name, str(self.newest_attempt()).encode())

    def keep_tree(self) -> None:
        """Keep the roots of some more whole blocks of the tree over the history, so that a checkpoint is quick."""
        with self.backend.snapshot() as reading:
            note = whole_blocks(reading, BLOCKS_AT_A_TIME)
        if note is not None:
            self.put_note(TREE, note)

    def forget(self, hire: str, now: datetime) -> int:
        """Erase a person, except for the history's digests and the event that somebody was forgotten.

        Returns how many grants that were.
        """
        since = self.counted_since()
        with self._writing(Failpoint.FORGOTTEN) as transaction:
            connection = transaction.connection
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
            transaction.put(schema.meta, f"{UNTRACED}{hire}", None)
            newest = newest_attempt(within(connection))
            for note, attempt in ((RESYNC, since.began), (RESYNC_BEFORE, since.ended)):
                if newest < attempt:  # higher numbers are used again
                    transaction.put(schema.meta, note, str(newest).encode())
            gone = Event(
                now, Key("", ""), "", EventType.FORGOTTEN, f"a person with {count} grants; {erased_lines(lines)}"
            )
            transaction.append_events([event_row(gone)])
        self._reached(Failpoint.WIPED, done=False)
        self.backend.scrub()
        self._reached(Failpoint.WIPED, done=True)
        return count

    # Accounts

    def save_seen(self, integration: str, accounts: AbstractSet[str], now: datetime) -> None:
        """Save since when a complete listing shows these accounts, by digest; delete those that it no longer shows."""
        known = self.seen(integration)
        self.change_seen(integration, now, added=sorted(accounts - known), gone=sorted(known - accounts), ended=True)

    def change_seen(
        self,
        integration: str,
        now: datetime,
        *,
        added: Iterable[str] = (),
        gone: Iterable[str] = (),
        ended: bool = False,
    ) -> None:
        """Save some accounts that a complete listing shows and were not known, and delete some that it does not show.

        With `ended` these are the last ones.
        """
        table = schema.accounts
        theirs = table.c.integration == integration, table.c.account == sa.bindparam("whose")
        with self._writing(Failpoint.NOTE) as transaction:
            if ended:
                transaction.put(schema.meta, f"{LISTED}{integration}", now.isoformat().encode())
            transaction.then(sa.insert(table), _seen(integration, added, now))
            transaction.then(sa.delete(table).where(*theirs), [{"whose": each} for each in gone])

    # What is sealed, what is noted, what is asked for

    def put_sealed(self, name: str, value: bytes | Change, point: Failpoint = Failpoint.SEALED) -> None:
        """Save or change a sealed value."""
        with self._writing(point) as transaction:
            self._put(transaction, schema.sealed, name, value)

    def reseal(self, key: str, before: bytes | None, notes: Kept, anew: Callable[[str, bytes], bytes]) -> None:
        """Save notes, with every sealed value sealed anew, if the note `key` still is as it was before."""
        with self._writing(Failpoint.SEALING_KEY) as transaction:
            connection = transaction.connection
            self.backend.alone(connection, f"{schema.meta.name}/{key}")
            there = connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.name == key)).scalar()
            if there is None or bytes(there) != before:
                return
            rows = connection.execute(sa.select(schema.sealed.c.name, schema.sealed.c.value).with_for_update()).all()
            for name, value in rows:
                transaction.put(schema.sealed, name, anew(name, bytes(value)))
            self._put_all(transaction, schema.meta, notes)

    def erase(self, name: str) -> None:
        """Erase a sealed value."""
        with self._writing(Failpoint.SEALED) as transaction:
            transaction.put(schema.sealed, name, None)

    def put_note(self, name: str, value: bytes | Change, point: Failpoint = Failpoint.NOTE) -> None:
        """Save or change a note."""
        with self._writing(point) as transaction:
            self._put(transaction, schema.meta, name, value)

    def _save(
        self,
        transaction: Transaction,
        records: Iterable[Record],
        lines: Iterable[Mapping[str, Any]],
        kept: Kept | None = None,
        answered: Iterable[Command] = (),
    ) -> None:
        transaction.upsert(schema.grants, ("hire", "access"), map(grant_row, records))
        self._put_all(transaction, schema.sealed, kept or {})
        self.answer(transaction, list(answered))
        transaction.append_events(lines)

    def _put_all(self, transaction: Transaction, table: sa.Table, values: Kept) -> None:
        # In one order, so that no two writers wait for each other.
        for name, value in sorted(values.items(), key=itemgetter(0)):
            self._put(transaction, table, name, value)

    def _put(self, transaction: Transaction, table: sa.Table, name: str, value: bytes | Change | None) -> None:
        if callable(value):
            self.backend.alone(transaction.connection, f"{table.name}/{name}")
            value = value(transaction.value(table, name))
        transaction.put(table, name, value)


def _is_of(table: sa.Table, key: Key) -> sa.ColumnElement[bool]:
    """Make the condition that a row is of this grant."""
    return sa.and_(table.c.hire == key.hire, table.c.access == key.access)


def _seen(integration: str, accounts: Iterable[str], now: datetime) -> list[dict[str, Any]]:
    return [{"integration": integration, "account": each, "first_seen": now} for each in accounts]
