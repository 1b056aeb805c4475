"""Write commands to the process that has the state, read those that count, and write locks.

Who can write to the state could insert a command and have it acted on. So one counts only with a code that only who has
the state's key can make (docs/design/rules.md, "Who gave it").
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.backend import WritableBackend
from reconciler.ledger.entries import Command, Event
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.rows import event_row
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key
from reconciler.model.lock import Lock
from reconciler.model.status import EventType

if TYPE_CHECKING:
    from reconciler.ledger.transaction import Transaction

__all__ = ["HEARD", "CommandWriter", "heard"]

Mac = Callable[[bytes], str | None]
"""Makes the code of a text that only who has the state's key can make; None as long as the key is not there."""

# By now another command may have its number.
HEARD = sa.delete(schema.commands).where(
    schema.commands.c.id == sa.bindparam("which"), schema.commands.c.at == sa.bindparam("moment")
)


def heard(commands: Iterable[Command]) -> list[dict[str, Any]]:
    """Return the values of `HEARD` for these commands."""
    return [{"which": command.id, "moment": command.at} for command in commands]


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
            code = None if each is None else self.mac(each.said)
            if each is not None and code is None:
                continue
            if each is not None and code is not None and hmac.compare_digest(code, each.mac or ""):
                counted.append(each)
            else:
                self._refuse(number, "a command" if each is None else f"a command to {each.kind}")
        return counted

    def refuse(self, what: str) -> None:
        """Tell in the history, and with the next pass's alerts, that something was dropped."""
        self._refuse(None, what)

    def _refuse(self, command: int | None, what: str) -> None:
        event = Event(datetime.now(UTC), Key("", ""), "", EventType.REFUSED, f"{what} that nobody gave who has the key")
        with self._writing(Failpoint.TAKEN_UP) as transaction:
            if command is not None:
                gone = sa.delete(schema.commands).where(schema.commands.c.id == command)
                if not transaction.connection.execute(gone).rowcount:
                    return  # another member was quicker
            transaction.append_events([event_row(event)])
        self.refused.append(event)

    def _command_row(self, command: Command) -> dict[str, Any]:
        row = {name: value for name, value in asdict(command).items() if name != "id"}
        return {**row, "mac": None if self.mac is None else self.mac(command.said)}

    def split(self, command: Command, parts: Iterable[Collection[str]]) -> None:
        """Replace a command by one for each integration of these parts."""
        rows = [self._command_row(replace(command, integration=name)) for part in parts for name in part]
        with self._writing(Failpoint.TAKEN_UP) as transaction:
            transaction.then(HEARD, heard([command]))
            transaction.then(sa.insert(schema.commands).inline(), rows)

    def put_locks(
        self,
        locks: Iterable[Lock],
        *,
        gone: Iterable[Lock] = (),
        events: Iterable[Event] = (),
        answered: Iterable[Command] = (),
    ) -> None:
        """Save and end locks, with their events and the commands that asked for it."""
        table = schema.locks
        ended = sa.delete(table).where(table.c.hire == sa.bindparam("whose"))
        with self._writing(Failpoint.LOCKED) as transaction:
            transaction.upsert(table, ("hire",), (lock.as_row() for lock in locks))
            transaction.then(ended, [{"whose": lock.hire} for lock in gone])
            transaction.then(HEARD, heard(answered))
            transaction.append_events([event_row(event) for event in events])

    def follow_locks(self, locks: Iterable[Lock]) -> None:
        """Save whose files and addresses locks are about now, of those that were not ended or made anew meanwhile."""
        table = schema.locks
        with self._writing(Failpoint.LOCKED) as transaction:
            for lock in locks:
                row = lock.as_row()
                same = table.c.hire == lock.hire, table.c.at == lock.at
                values = {name: row[name] for name in ("hires", "addresses")}
                transaction.connection.execute(sa.update(table).where(*same).values(values))
