"""Write the ledger. Every write is one transaction, durable before the call returns.

The caller decides what to write.

Who can write to the state could insert a command and have it acted on. So one counts only with a code that only who has
the state's key can make, and only once; a lock counts with such a code, too (docs/design/rules.md, "Who gave it").
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Unpack

import sqlalchemy as sa
from msgspec.structs import asdict

from reconciler.ledger import schema
from reconciler.ledger.backend import within
from reconciler.ledger.chain import ERASED, erased_lines
from reconciler.ledger.entries import About, Command, Event, SavedWith, ValueChanges
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
from reconciler.ledger.reader import UNTRACED, Commands, LedgerReader, Locks, given_in
from reconciler.ledger.rows import changed_and_checked, event_row, event_rows
from reconciler.ledger.transaction import USED, Mac, Session, WritableBackend, WritablePart
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key, Record
from reconciler.model.lock import Lock
from reconciler.model.status import EventType
from reconciler.model.value import replace

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
        with self.session.writing(point) as transaction:
            transaction.then(_CHECKED, checked)
            transaction.put_all(schema.meta, also.get("noted"))
            transaction.save(changed, lines, also.get("kept"))
            transaction.answer(commands)

    def drop(self, keys: Collection[Key], events: Iterable[Event] = (), *, kept: ValueChanges | None = None) -> None:
        """Delete grants that were neither executed nor confirmed."""
        rows = [{"whose": key.hire, "which": key.access} for key in keys]
        with self.session.writing(Failpoint.DROPPED) as transaction:
            for statement in _DROPPED:
                transaction.then(statement, rows)
            transaction.save((), event_rows(events, self.session.redact), kept)

    def rename(
        self,
        moves: Mapping[Key, Key],
        events: Iterable[Event],
        kept: ValueChanges | None = None,
        needs: Mapping[Key, Sequence[str]] = {},
    ) -> None:
        """Rename rows and their history; two grants may swap names. Each move has its event, under the new name.

        `needs` has what rows need then, by their new names, where that is no longer what they needed.
        Up to which revision it is known who gave them is unknown then: it has to be found out from all commits. The
        file of a renamed hire was there at the revision of its move, whether this pass plans all of its rows or not.
        """
        tables = (schema.grants, schema.attempts, schema.events, schema.given)
        between = {old: Key(f"/{new.hire}", new.access) for old, new in moves.items()}  # no file can have this name
        steps = [*between.items(), *((between[old], new) for old, new in moves.items())]
        lines = [
            {**line, "data": {"was": str(old), "place": place}}
            for place, (old, line) in enumerate(zip(moves, event_rows(events, self.session.redact), strict=True))
        ]
        renamed = {old: line["revision"] for old, line in zip(moves, lines, strict=True) if old.hire != moves[old].hire}
        untraced = self.given.untraced({moves[old].hire for old in renamed})
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
                elif table is schema.grants and here in renamed:
                    values["revision"] = renamed[here]
                connection.execute(sa.update(table).where(_is_of(table, here)).values(values))
            for key, names in needs.items():
                connection.execute(sa.update(schema.grants).where(_is_of(schema.grants, key)).values(needs=[*names]))
            anew = (untraced_row(hire, each._replace(since=None)) for hire, each in sorted(untraced.items()))
            transaction.upsert(schema.meta, ("name",), anew)
            transaction.save((), lines, kept)

    def forget(self, hire: str, now: datetime, *, by: str) -> int:
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
            told = f"a person with {count} grants; {erased_lines(lines)}; by {by}"
            gone = Event(now, Key("", ""), "", EventType.FORGOTTEN, told, data={"by": by})
            transaction.append_events([event_row(gone)])
        self.session.reached(Failpoint.WIPED, done=False)
        self.backend.scrub()
        self.session.reached(Failpoint.WIPED, done=True)
        return count


def _is_of(table: sa.Table, key: Key) -> sa.ColumnElement[bool]:
    """Make the condition that a row is of this grant."""
    return sa.and_(table.c.hire == key.hire, table.c.access == key.access)


# --- commands and locks -----------------------------------------------------------------------------------------------

UNVOUCHED = "that nobody gave who has the key"


class WritableCommands(WritablePart, Commands):
    """Commands to the process that has the state, as far as somebody gave them who has its key."""

    def enqueue(self, kind: str, *, now: datetime, by: str, **about: Unpack[About]) -> None:
        """Enqueue a command for the process that has the state."""
        whose: About = {"hire": None, "access": None, "integration": None, **about}
        command = Command(id=0, at=now, kind=kind, by=by, **whose)
        with self._session.writing(Failpoint.COMMAND) as transaction:
            transaction.then(sa.insert(schema.commands).inline(), [self._command_row(command)])

    def waiting(self) -> list[Command]:
        """List the commands that are not answered yet, oldest first; without the key none, for none can be verified.

        One that nobody who has the key gave is deleted, which the history and an alert tell.
        """
        found = list(self._numbered())
        if self._session.mac is None:
            return [each for _, each in found if each is not None]
        counted = list[Command]()
        for number, each in found:
            vouched = each is not None and self._session.vouched(each)
            if each is None or vouched is False:
                said = "a command" if each is None else f"a command to {each.kind}"
                _refuse(self._session, f"{said} {UNVOUCHED}", number)
            elif vouched and each.once_only and self._note(f"{USED}{each.once}") is not None:
                _refuse(self._session, f"a command to {each.kind} that was acted on before", number)
            elif vouched:
                counted.append(each)
        return counted

    def vouch(self, mac: Mac, commands: Iterable[Command]) -> None:
        """Have another key in use from now on, which vouches for commands that the one before it vouched for."""
        self._session.mac, table = mac, schema.commands
        with self._session.writing(Failpoint.COMMAND) as transaction:
            for command in commands:
                same = table.c.id == command.id, table.c.at == command.at
                transaction.connection.execute(sa.update(table).where(*same).values(mac=mac(command.said)))

    def refuse(self, what: str) -> None:
        """Tell in the history, and with the next pass's alerts, that something was dropped."""
        _refuse(self._session, f"{what} {UNVOUCHED}")

    def _command_row(self, command: Command) -> dict[str, Any]:
        command = replace(command, once=secrets.token_hex(8))
        row = {name: value for name, value in asdict(command).items() if name != "id"}
        return {**row, "mac": self._session.code_of(command)}

    def split(self, command: Command, parts: Iterable[Collection[str]]) -> None:
        """Replace a command by one for each integration of these parts."""
        rows = [self._command_row(replace(command, integration=name)) for part in parts for name in part]
        with self._session.writing(Failpoint.TAKEN_UP) as transaction:
            transaction.answer([command])
            transaction.then(sa.insert(schema.commands).inline(), rows)


class WritableLocks(WritablePart, Locks):
    """Who is locked out, as far as somebody said so who has the state's key."""

    def all(self) -> list[Lock]:
        """Read who is locked out, as far as somebody said so who has the key.

        A lock that somebody else wrote is deleted. One that was changed holds, without an end, until it is ended or
        made anew. The history and an alert tell of both.
        """
        counted = list[Lock]()
        for lock in super().all():
            if self._session.vouched(lock) is not False:
                counted.append(lock)
            elif self._is_locked(lock.hire):
                counted.append(replace(lock, until=None, deletes=False))
                self.put(counted[-1:])
                _refuse(self._session, f"a change to the lock of {lock.hire} {UNVOUCHED}")
            else:
                self.put((), gone=[lock])
                _refuse(self._session, f"a lock of {lock.hire} {UNVOUCHED}")
        return counted

    def _is_locked(self, hire: str) -> bool:
        """Whether the history says so."""
        query = "SELECT event FROM events WHERE hire = :hire AND access = '' ORDER BY id DESC LIMIT 1"
        return bool(self._value(query, hire=hire) == EventType.LOCKED)

    def put(
        self,
        locks: Iterable[Lock],
        *,
        gone: Iterable[Lock] = (),
        events: Iterable[Event] = (),
        answered: Collection[Command] = (),
    ) -> None:
        """Save and end locks, with their events and the commands that asked for it."""
        table = schema.locks
        ended = sa.delete(table).where(table.c.hire == sa.bindparam("whose"))
        with self._session.writing(Failpoint.LOCKED) as transaction:
            transaction.upsert(table, ("hire",), map(self._lock_row, locks))
            transaction.then(ended, [{"whose": lock.hire} for lock in gone])
            transaction.answer(answered)
            transaction.append_events([event_row(event) for event in events])

    def _lock_row(self, lock: Lock) -> dict[str, Any]:
        return {**lock.as_row(), "mac": self._session.code_of(lock)}

    def follow(self, locks: Iterable[Lock]) -> None:
        """Save whose files and addresses locks are about now, of those that were not ended or made anew meanwhile."""
        table = schema.locks
        with self._session.writing(Failpoint.LOCKED) as transaction:
            for lock in locks:
                row = self._lock_row(lock)
                same = table.c.hire == lock.hire, table.c.at == lock.at
                values = {name: row[name] for name in ("hires", "addresses", "mac")}
                transaction.connection.execute(sa.update(table).where(*same).values(values))


def _refuse(session: Session, what: str, command: int | None = None) -> None:
    event = Event(datetime.now(UTC), Key("", ""), "", EventType.REFUSED, what)
    with session.writing(Failpoint.TAKEN_UP) as transaction:
        if command is not None:
            gone = sa.delete(schema.commands).where(schema.commands.c.id == command)
            if not transaction.connection.execute(gone).rowcount:
                return  # another member was quicker
        transaction.append_events([event_row(event)])
    session.refused.append(event)
