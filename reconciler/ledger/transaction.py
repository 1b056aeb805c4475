"""A transaction that writes the ledger, and several writes that share one.

The rows of a write are collected, and written together when it ends: values that are made from the present ones in one
order, so that no two writers wait for each other, and lines of the history last, because from there on all others wait.

Threads that write at the same time share a transaction, and so do tasks that write in the same turn of the event loop:
it is begun, leased and committed once for all of them. So a member of a fleet makes the others wait for the end of the
history once for many writes, and a disk syncs once for many attempts.
"""

from __future__ import annotations

import asyncio
import copy
import hmac
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.backend import upserting, within
from reconciler.ledger.chain import salted
from reconciler.ledger.entries import Change, Command, Event, ValueChanges
from reconciler.ledger.lease import Lease
from reconciler.ledger.reader import given_in
from reconciler.ledger.reading import LedgerPart
from reconciler.ledger.rows import Redact, grant_row
from reconciler.model.attribution import Attribution
from reconciler.model.errors import LeaseLostError, LedgerError
from reconciler.model.failpoints import Failpoint, Reached
from reconciler.model.grant import Key, Record
from reconciler.model.lock import Lock

if TYPE_CHECKING:  # a state in a file needs no driver of PostgreSQL
    from reconciler.ledger.postgres.writing import WritablePostgresBackend
    from reconciler.ledger.sqlite.writing import WritableSqliteBackend

WritableBackend: TypeAlias = "WritablePostgresBackend | WritableSqliteBackend"
"""A database that is open for writing. Its errors are LedgerErrors."""

T = TypeVar("T")

Mac = Callable[[bytes], str | None]
"""Makes the code of a text that only who has the state's key can make; None as long as the key is not there."""

USED = "used/"
"""What the name of the note begins with that a command was acted on."""

_ANSWERED = sa.delete(schema.commands).where(  # by now another command may have its number
    schema.commands.c.id == sa.bindparam("which"), schema.commands.c.at == sa.bindparam("moment")
)
_VALUES = (schema.sealed, schema.meta)
_READ = {table: sa.select(table.c.value).where(table.c.name == sa.bindparam("which")) for table in _VALUES}
_ERASED = {table: sa.delete(table).where(table.c.name == sa.bindparam("which")) for table in _VALUES}


class Transaction:
    """What one transaction writes."""

    def __init__(self, backend: WritableBackend, connection: sa.Connection) -> None:
        self.connection = connection
        self._backend = backend
        self._rows: dict[sa.Executable, list[Mapping[str, Any]]] = {}
        self._lines: list[Mapping[str, Any]] = []
        self._changes: dict[tuple[sa.Table, str], list[bytes | Change | None]] = {}
        self._leases: list[Lease] = []

    def lock(self, lease: Lease) -> None:
        """Lock a lease until the end, once. Raises LeaseLostError if another process took a service over."""
        if lease not in self._leases:
            lease.lock(within(self.connection))
            self._leases.append(lease)

    def then(self, statement: sa.Executable, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute a statement that returns nothing for these rows, at the end."""
        if new := list(rows):
            self._rows.setdefault(statement, []).extend(new)

    def upsert(self, table: sa.Table, key: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert rows, or update those that have the same key, at the end; all of them name the same columns."""
        if new := list(rows):
            self.then(upserting(self.connection.dialect.name, table, key, tuple(new[0])), new)

    def put(self, table: sa.Table, name: str, value: bytes | Change | None) -> None:
        """Save a sealed value or a note, change or erase it, at the end."""
        self._changes.setdefault((table, name), []).append(value)

    def put_all(self, table: sa.Table, values: ValueChanges | None) -> None:
        """Save several."""
        for name, value in (values or {}).items():
            self.put(table, name, value)

    def _changed(self, table: sa.Table, name: str, changes: Sequence[bytes | Change | None]) -> bytes | None:
        """Return a sealed value or a note after these changes; others wait that make it from the present one, too."""
        value: bytes | None = None
        if callable(changes[0]):
            self._backend.exclude_others(self.connection, f"{table.name}/{name}")
            there = self.connection.execute(_READ[table], {"which": name}).scalar()
            value = None if there is None else bytes(there)
        for change in changes:
            value = change(value) if callable(change) else change
        return value

    def append_events(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append lines to the history at the end, with who gave their grants then; nothing else writes lines."""
        self._lines += rows

    def save(
        self, records: Iterable[Record], lines: Iterable[Mapping[str, Any]], kept: ValueChanges | None = None
    ) -> None:
        """Save records, lines of the history and sealed values, at the end."""
        self.upsert(schema.grants, ("hire", "access"), map(grant_row, records))
        self.put_all(schema.sealed, kept)
        self.append_events(lines)

    def answer(self, commands: Iterable[Command]) -> None:
        """Delete commands, and remember that they were acted on, so that a copy counts no more, at the end."""
        for command in commands:
            self.then(_ANSWERED, [{"which": command.id, "moment": command.at}])
            if command.once_only:
                self.put(schema.meta, f"{USED}{command.once}", b"")

    def finish(self) -> None:
        """Write what was collected."""
        for (table, name), changes in sorted(self._changes.items(), key=_in_one_order):
            if (value := self._changed(table, name, changes)) is None:
                self.then(_ERASED[table], [{"which": name}])
            else:
                self.upsert(table, ("name",), [{"name": name, "value": value}])
        keys = {Key(row["hire"], row["access"]) for row in self._lines}
        hires, names = {key.hire for key in keys}, {key.access for key in keys}
        given = given_in(within(self.connection), hires, names) if keys else {}
        given_lines = ((row, given.get(Key(row["hire"], row["access"]))) for row in self._lines)
        lines = [salted(row if by is None else _vouched(row, by)) for row, by in given_lines]
        self._backend.finish(self.connection, self._rows, lines)


class Transactions:
    """The transactions of one process."""

    def __init__(self, backend: WritableBackend) -> None:
        self._backend = backend
        self._turn = threading.Lock()
        self._waiting = deque[_Write[Any]]()
        self._gathered = list[_Write[Any]]()
        self._here = _Here()
        self._then: list[Callable[[], None]] = []

    @contextmanager
    def one(self, lease: Lease | None) -> Iterator[Transaction]:
        """Open a transaction under a lease, or join the one that is shared."""
        with nullcontext(self._here.shared) if self._here.shared is not None else self._own() as found:
            if lease is not None:
                found.lock(lease)
            yield found

    @contextmanager
    def _own(self) -> Iterator[Transaction]:
        """Open a transaction that is written when the block ends."""
        with self._backend.writing() as connection:
            found = Transaction(self._backend, connection)
            yield found
            found.finish()

    def share(self, work: Callable[[], T]) -> T:
        """Do what writes in one transaction with what other threads do at the same time; durable when this returns.

        `work` must be repeatable, and lock nothing by itself that another member's work may lock: both could wait for
        each other.
        """
        mine = _Write(work, Future[T]())
        self._waiting.append(mine)
        with self._turn:
            if not mine.done.done():
                # Taken out one by one: a thread that is about to add its own must not add it to a list that is written.
                self._write_for([self._waiting.popleft() for _ in range(len(self._waiting))])
        return mine.done.result()

    async def gather(self, work: Callable[[], T]) -> T:
        """Do so with what other tasks gather meanwhile; it is done even if the task is cancelled while it waits."""
        loop = asyncio.get_running_loop()
        if not self._gathered:  # later than what has just come of the network: that may have more to write
            loop.call_later(0, self.flush)
        done: asyncio.Future[T] = loop.create_future()
        self._gathered.append(_Write(work, done))
        return await done

    def flush(self) -> None:
        """Write what was gathered."""
        gathered, self._gathered = self._gathered, []
        if gathered:
            with self._turn:
                self._write_for(gathered)

    def after(self, call: Callable[[], None]) -> None:
        """Call something once what is written is durable: now, but in what is shared."""
        if self._here.shared is None:
            call()
        else:
            self._then.append(call)

    def _write_for(self, writes: list[_Write[Any]]) -> None:
        """Write for all who wait: whatever goes wrong is raised in these."""
        try:
            self._write(writes)
        except BaseException as error:  # noqa: BLE001  an interrupted one, too, which none of them would hear of
            for each in writes:
                each.fail(error)

    def _write(self, writes: list[_Write[Any]]) -> None:
        self._then.clear()
        try:
            with self._own() as transaction, self._here.sharing(transaction):
                results = [each.work() for each in writes]
        except LeaseLostError as error:
            self._write_apart(writes, error)
        except LedgerError as error:  # also one that was committed, where the answer was lost: nothing is repeated
            for each in writes:
                each.fail(error)
        except Exception as error:  # noqa: BLE001  it is raised in the thread whose work it is of
            self._write_apart(writes, error)
        else:
            for call in self._then:
                call()
            for each, result in zip(writes, results, strict=True):
                if not each.done.done():  # a task that was cancelled waits no more
                    each.done.set_result(result)

    def _write_apart(self, writes: list[_Write[Any]], error: Exception) -> None:
        """Write each in its own transaction, after one of them failed before the commit."""
        if len(writes) == 1:
            writes[0].fail(error)
            return
        for each in writes:
            self._write([each])


class _Write(Generic[T]):
    """What a thread or a task waits for until it is `done`."""

    def __init__(self, work: Callable[[], T], done: Future[T] | asyncio.Future[T]) -> None:
        self.work = work
        self.done = done

    def fail(self, error: BaseException) -> None:
        """Have who waits raise this."""
        if not self.done.done():
            self.done.set_exception(error)


class _Here(threading.local):
    """The transaction that what this thread writes is `shared` in, if any."""

    shared: Transaction | None = None

    @contextmanager
    def sharing(self, transaction: Transaction) -> Iterator[None]:
        """Write in this one while the block runs."""
        self.shared = transaction
        try:
            yield
        finally:
            self.shared = None


def _in_one_order(value: tuple[tuple[sa.Table, str], object]) -> tuple[str, str]:
    """Sort values so that no two writers wait for each other."""
    (table, name), _ = value
    return table.name, name


def _vouched(row: Mapping[str, Any], given: Attribution) -> dict[str, Any]:
    """Return a line with who gave the grant."""
    by = {"granted_in": given.granted_in, "author": given.author, "approved_by": list(given.approved_by) or None}
    more = {"approvals": [each.as_json() for each in given.approvals], "merged_by": given.merged_by}
    said = {name: value for name, value in more.items() if value}
    return {**row, **by, "data": {**(row["data"] or {}), **said}} if said else {**row, **by}


class Session:
    """How one holder of a state writes it: under which lease, and with which key."""

    def __init__(self, backend: WritableBackend, reached: Reached) -> None:
        self.backend = backend
        self.transactions = Transactions(backend)
        self.reached = reached
        self.lease: Lease | None = None
        self.redact: Redact | None = None
        """Masks the values of the history's lines; as long as it is not there, lines are written without values."""
        self.mac: Mac | None = None
        self.refused: list[Event] = []
        """What was dropped and no alert was sent of yet."""

    def under(self, lease: Lease) -> Session:
        """Return the same, under this lease."""
        found = copy.copy(self)
        found.lease = lease
        return found

    @contextmanager
    def writing(self, point: Failpoint) -> Iterator[Transaction]:
        """Open a transaction, or join the one that is shared."""
        self.reached(point, done=False)
        with self.transactions.one(self.lease) as transaction:
            yield transaction
        self.transactions.after(partial(self.reached, point, done=True))

    def put(self, table: sa.Table, name: str, value: bytes | Change | None, point: Failpoint = Failpoint.NOTE) -> None:
        """Save a sealed value or a note, change or erase it."""
        with self.writing(point) as transaction:
            transaction.put(table, name, value)

    def code_of(self, said: Command | Lock) -> str | None:
        """Return the code of what somebody says; None without the key."""
        return None if self.mac is None else self.mac(said.said)

    def vouched(self, said: Command | Lock) -> bool | None:
        """Whether somebody said it who has the key; None as long as the key cannot be opened."""
        code = self.code_of(said)
        return None if code is None else hmac.compare_digest(code, said.mac or "")


class WritablePart(LedgerPart):
    """A part of a state's ledger that is written, too."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.backend)
        self._session = session
