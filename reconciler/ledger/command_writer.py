"""Write commands to the process that has the state, and locks, and read those that count.

Who can write to the state could insert a command and have it acted on. So one counts only with a code that only who has
the state's key can make, and only once; a lock counts with such a code, too (docs/design/rules.md, "Who gave it").
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec.structs import asdict

from reconciler.ledger import schema
from reconciler.ledger.backend import WritableBackend
from reconciler.ledger.entries import Command, Event
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.rows import event_row
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key
from reconciler.model.lock import Lock
from reconciler.model.status import EventType
from reconciler.model.value import replace

if TYPE_CHECKING:
    from reconciler.ledger.transaction import Transaction

__all__ = ["CommandWriter"]

Mac = Callable[[bytes], str | None]
"""Makes the code of a text that only who has the state's key can make; None as long as the key is not there."""

USED = "used/"
"""What the name of the note begins with that a command was acted on."""

UNVOUCHED = "that nobody gave who has the key"

# By now another command may have its number.
HEARD = sa.delete(schema.commands).where(
    schema.commands.c.id == sa.bindparam("which"), schema.commands.c.at == sa.bindparam("moment")
)


class CommandWriter(LedgerReader):
    """The part of a ledger's writer that commands go through."""

    def __init__(self, backend: WritableBackend) -> None:
        super().__init__(backend)
        self.mac: Mac | None = None
        self.refused: list[Event] = []
        """What was dropped and no alert was sent of yet."""

    def _writing(self, point: Failpoint) -> AbstractContextManager[Transaction]:
        raise NotImplementedError

    def enqueue(
        self,
        kind: str,
        *,
        now: datetime,
        by: str,
        hire: str | None = None,
        access: str | None = None,
        integration: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Enqueue a command for the process that has the state."""
        command = Command(id=0, at=now, kind=kind, hire=hire, access=access, integration=integration, by=by, data=data)
        with self._writing(Failpoint.COMMAND) as transaction:
            transaction.then(sa.insert(schema.commands).inline(), [self._command_row(command)])

    def commands(self) -> list[Command]:
        """List the commands that are not answered yet, oldest first; without the key none, for none can be verified.

        One that nobody who has the key gave is deleted, which the history and an alert tell.
        """
        found = list(self._commands())
        if self.mac is None:
            return [each for _, each in found if each is not None]
        counted = list[Command]()
        for number, each in found:
            vouched = each is not None and self._vouched(each)
            if each is None or vouched is False:
                self._refuse(number, "a command" if each is None else f"a command to {each.kind}", UNVOUCHED)
            elif vouched and each.once_only and self.note(f"{USED}{each.once}") is not None:
                self._refuse(number, f"a command to {each.kind} that was acted on before")
            elif vouched:
                counted.append(each)
        return counted

    def vouch(self, mac: Mac, commands: Iterable[Command]) -> None:
        """Have another key in use from now on, which vouches for commands that the one before it vouched for."""
        self.mac, table = mac, schema.commands
        with self._writing(Failpoint.COMMAND) as transaction:
            for command in commands:
                same = table.c.id == command.id, table.c.at == command.at
                transaction.connection.execute(sa.update(table).where(*same).values(mac=mac(command.said)))

    def _vouched(self, said: Command | Lock) -> bool | None:
        """Whether somebody said it who has the key; None as long as the key cannot be opened."""
        code = None if self.mac is None else self.mac(said.said)
        return None if code is None else hmac.compare_digest(code, said.mac or "")

    def answer(self, transaction: Transaction, commands: Collection[Command]) -> None:
        """Delete commands, and remember that they were acted on: a copy counts no more."""
        transaction.then(HEARD, [{"which": command.id, "moment": command.at} for command in commands])
        for command in commands:
            if command.once_only:
                transaction.put(schema.meta, f"{USED}{command.once}", b"")

    def refuse(self, what: str) -> None:
        """Tell in the history, and with the next pass's alerts, that something was dropped."""
        self._refuse(None, what, UNVOUCHED)

    def _refuse(self, command: int | None, *what: str) -> None:
        event = Event(datetime.now(UTC), Key("", ""), "", EventType.REFUSED, " ".join(what))
        with self._writing(Failpoint.TAKEN_UP) as transaction:
            if command is not None:
                gone = sa.delete(schema.commands).where(schema.commands.c.id == command)
                if not transaction.connection.execute(gone).rowcount:
                    return  # another member was quicker
            transaction.append_events([event_row(event)])
        self.refused.append(event)

    def _command_row(self, command: Command) -> dict[str, Any]:
        command = replace(command, once=secrets.token_hex(8))
        row = {name: value for name, value in asdict(command).items() if name != "id"}
        return {**row, "mac": None if self.mac is None else self.mac(command.said)}

    def split(self, command: Command, parts: Iterable[Collection[str]]) -> None:
        """Replace a command by one for each integration of these parts."""
        rows = [self._command_row(replace(command, integration=name)) for part in parts for name in part]
        with self._writing(Failpoint.TAKEN_UP) as transaction:
            self.answer(transaction, [command])
            transaction.then(sa.insert(schema.commands).inline(), rows)

    def locks(self) -> list[Lock]:
        """Read who is locked out, as far as somebody said so who has the key.

        A lock that somebody else wrote is deleted. One that was changed holds, without an end, until it is ended or
        made anew. The history and an alert tell of both.
        """
        counted = list[Lock]()
        for lock in super().locks():
            if self._vouched(lock) is not False:
                counted.append(lock)
            elif self._is_locked(lock.hire):
                counted.append(replace(lock, until=None, deletes=False))
                self.put_locks(counted[-1:])
                self.refuse(f"a change to the lock of {lock.hire}")
            else:
                self.put_locks((), gone=[lock])
                self.refuse(f"a lock of {lock.hire}")
        return counted

    def _is_locked(self, hire: str) -> bool:
        """Whether the history says so."""
        query = "SELECT event FROM events WHERE hire = :hire AND access = '' ORDER BY id DESC LIMIT 1"
        with self.backend.reading() as reading:
            return bool(reading.value(query, hire=hire) == EventType.LOCKED)

    def put_locks(
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
        with self._writing(Failpoint.LOCKED) as transaction:
            transaction.upsert(table, ("hire",), map(self._lock_row, locks))
            transaction.then(ended, [{"whose": lock.hire} for lock in gone])
            self.answer(transaction, answered)
            transaction.append_events([event_row(event) for event in events])

    def _lock_row(self, lock: Lock) -> dict[str, Any]:
        return {**lock.as_row(), "mac": None if self.mac is None else self.mac(lock.said)}

    def follow_locks(self, locks: Iterable[Lock]) -> None:
        """Save whose files and addresses locks are about now, of those that were not ended or made anew meanwhile."""
        table = schema.locks
        with self._writing(Failpoint.LOCKED) as transaction:
            for lock in locks:
                row = self._lock_row(lock)
                same = table.c.hire == lock.hire, table.c.at == lock.at
                values = {name: row[name] for name in ("hires", "addresses", "mac")}
                transaction.connection.execute(sa.update(table).where(*same).values(values))
