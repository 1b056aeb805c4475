"""Write commands to the process that has the state, and locks, and read those that count.

Who can write to the state could insert a command and have it acted on. So one counts only with a code that only who has
the state's key can make, and only once; a lock counts with such a code, too (docs/design/rules.md, "Who gave it").
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, Unpack

import sqlalchemy as sa
from msgspec.structs import asdict

from reconciler.ledger import schema
from reconciler.ledger.entries import About, Command, Event
from reconciler.ledger.reader import Commands, Locks
from reconciler.ledger.rows import event_row
from reconciler.ledger.transaction import USED, Mac, Session, WritablePart
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key
from reconciler.model.lock import Lock
from reconciler.model.status import EventType
from reconciler.model.value import replace

__all__ = ["WritableCommands", "WritableLocks"]

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
