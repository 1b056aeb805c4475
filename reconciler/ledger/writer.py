"""Write the ledger. Every write is one transaction, durable before the call returns.

The caller decides what to write.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Unpack

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.backend import WritableBackend, within
from reconciler.ledger.chain import ERASED, erased_lines
from reconciler.ledger.command_writer import WritableCommands, WritableLocks
from reconciler.ledger.entries import Event, SavedWith, ValueChanges
from reconciler.ledger.guard_counts import RESYNC, RESYNC_BEFORE, newest_attempt
from reconciler.ledger.lease import EVERYTHING, Lease
from reconciler.ledger.part_writers import (
    WritableAccounts,
    WritableAttempts,
    WritableGivers,
    WritableGuardCounts,
    WritableHistory,
    WritableNotes,
    WritableSealed,
    untraced_row,
)
from reconciler.ledger.reader import UNTRACED, LedgerReader, given_in
from reconciler.ledger.rows import changed_and_checked, event_row, event_rows
from reconciler.ledger.transaction import Session, Transaction
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key, Record
from reconciler.model.status import EventType

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


class LedgerWriter(LedgerReader):
    """The ledger of one state, for reading and writing under a lease."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.backend)
        self.backend: WritableBackend = session.backend
        self.session = session
        self.accounts: WritableAccounts = WritableAccounts(session)
        self.attempts: WritableAttempts = WritableAttempts(session)
        self.commands: WritableCommands = WritableCommands(session)
        self.given: WritableGivers = WritableGivers(session)
        self.guard: WritableGuardCounts = WritableGuardCounts(session)
        self.history: WritableHistory = WritableHistory(session)
        self.locks: WritableLocks = WritableLocks(session)
        self.notes: WritableNotes = WritableNotes(session)
        self.sealed: WritableSealed = WritableSealed(session)

    def under(self, lease: Lease) -> LedgerWriter:
        """Return the same ledger, to be written to under this lease."""
        return LedgerWriter(self.session.under(lease))

    def close(self) -> None:
        """Close the database."""
        self.session.transactions.flush()
        self.backend.close()

    def take_everything(self) -> LedgerWriter:
        """Return the same ledger under a lease of everything. The caller has the state locked: no other has a lease.

        A process that had it before and does not know that its lease ended writes nothing more.
        """
        table = schema.shards
        with self.session.writing(Failpoint.LEASE) as transaction:
            connection = transaction.connection
            taken = sa.update(table).where(table.c.service == EVERYTHING).values(epoch=table.c.epoch + 1)
            if not connection.execute(taken).rowcount:
                connection.execute(sa.insert(table).values(service=EVERYTHING, epoch=1))
            epoch = connection.execute(sa.select(table.c.epoch).where(table.c.service == EVERYTHING)).scalar_one()
        return self.under(Lease({EVERYTHING: epoch}))

    def save(
        self,
        records: Iterable[Record],
        events: Iterable[Event] = (),
        point: Failpoint = Failpoint.CHECKED,
        *,
        before: Mapping[Key, Record] | None = None,
        **also: Unpack[SavedWith],
    ) -> None:
        """Write records and events.

        Where a record is as the ledger had it `before`, but for the time of the check, only that is written.
        """
        changed, checked = changed_and_checked(records, before or {})
        lines, commands = event_rows(events, self.session.redact), list(also.get("answered", ()))
        noted, kept = also.get("noted") or {}, also.get("kept") or {}

        def write(transaction: Transaction) -> None:
            transaction.then(_CHECKED, checked)
            transaction.put_all(schema.meta, noted)
            transaction.save(changed, lines, kept)
            transaction.answer(commands)

        if any(map(callable, [*noted.values(), *kept.values()])):
            with self.session.writing(point) as transaction:
                write(transaction)
        else:
            self.session.share(point, write)

    def drop(self, keys: Collection[Key], events: Iterable[Event] = (), *, kept: ValueChanges | None = None) -> None:
        """Delete grants that were neither executed nor confirmed."""
        rows = [{"whose": key.hire, "which": key.access} for key in keys]
        with self.session.writing(Failpoint.DROPPED) as transaction:
            for statement in _DROPPED:
                transaction.then(statement, rows)
            transaction.save((), event_rows(events, self.session.redact), kept)

    def rename(self, moves: Mapping[Key, Key], events: Iterable[Event], kept: ValueChanges | None = None) -> None:
        """Rename rows and their history; two grants may swap names. Each move has its event, under the new name.

        Up to which revision it is known who gave them is unknown then: it has to be found out from all commits.
        """
        tables = (schema.grants, schema.attempts, schema.events, schema.given)
        between = {old: Key(f"/{new.hire}", new.access) for old, new in moves.items()}  # no file can have this name
        steps = [*between.items(), *((between[old], new) for old, new in moves.items())]
        lines = [
            {**line, "data": {"was": str(old), "place": place}}
            for place, (old, line) in enumerate(zip(moves, event_rows(events, self.session.redact), strict=True))
        ]
        untraced = self.given.untraced({new.hire for old, new in moves.items() if old.hire != new.hire})
        with self.session.writing(Failpoint.RENAMED) as transaction:
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
            transaction.save((), lines, kept)

    def forget(self, hire: str, now: datetime) -> int:
        """Erase a person, except for the history's digests and the event that somebody was forgotten.

        Returns how many grants that were.
        """
        since = self.guard.counted_since()
        with self.session.writing(Failpoint.FORGOTTEN) as transaction:
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
        self.session.reached(Failpoint.WIPED, done=False)
        self.backend.scrub()
        self.session.reached(Failpoint.WIPED, done=True)
        return count


def _is_of(table: sa.Table, key: Key) -> sa.ColumnElement[bool]:
    """Make the condition that a row is of this grant."""
    return sa.and_(table.c.hire == key.hire, table.c.access == key.access)
