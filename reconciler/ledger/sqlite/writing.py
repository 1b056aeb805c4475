"""Create, migrate and write a state in a SQLite file, in the one process that has it locked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from reconciler.ledger import schema
from reconciler.ledger.backend import Rows, engine_over, upserting
from reconciler.ledger.chain import END, Link, linked
from reconciler.ledger.migrations import upgrade
from reconciler.ledger.reading import HEAD, Reading, version_of
from reconciler.ledger.sqlite.lock import StateLock, make_folder, refuse_unsafe
from reconciler.ledger.sqlite.reading import connect, copied, faults, in_transaction
from reconciler.model.errors import LedgerError
from reconciler.model.failpoints import Failpoint, Reached, unwatched

COPY = ".schema-"
"""What comes between the name of a state and the schema of a copy that was kept before it was migrated."""

_SETTINGS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON")
_END = sa.select(schema.meta.c.value).where(schema.meta.c.name == END)


class WritableSqliteBackend:
    """A SQLite file that is open for writing."""

    remote = False
    unattended = False

    def __init__(self, path: Path) -> None:
        self.file = path
        self._log_has_deleted = False
        with faults():
            self._connection = connect(path, *_SETTINGS)
        self._engine = engine_over(self._connection)

    @classmethod
    def open(cls, path: Path, reached: Reached) -> WritableSqliteBackend:
        """Open a state for writing; create it, private to its owner, if it does not exist, and migrate it."""
        refuse_unsafe(path)
        try:
            make_folder(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            # A file from a backup may be readable by others; SQLite gives its side files the same mode.
            for name in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError, PermissionError):
                    path.with_name(path.name + name).chmod(0o600)
        except OSError as error:
            raise LedgerError(f"{path}: {error.strerror}: the state's folder has to be writable") from error
        backend = cls(path)
        try:
            backend._migrate(reached)
        except BaseException:
            backend.close()
            raise
        return backend

    @classmethod
    def make(cls, path: Path, fill: Callable[[sa.Connection], None]) -> None:
        """Create a state and fill it; until it is complete, the file has another name."""
        part = path.with_name(path.name + ".part")
        with StateLock(path).acquire("reconcile state copy", datetime.now(UTC)):
            if path.exists() and path.stat().st_size:
                raise LedgerError(f"{path} is there already, and is not written over: name a file that is not there")
            try:
                _unlink(part)  # what a crash left of an earlier one
                with closing(cls.open(part, unwatched)) as backend, backend.writing() as connection:
                    fill(connection)
                part.replace(path)
            except OSError as error:
                raise LedgerError(f"{path}: {error.strerror}: the state's folder has to be writable") from error
            finally:
                _unlink(part)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Open a connection for reading."""
        with faults():
            yield Reading(self._connection)

    @contextmanager
    def snapshot(self) -> Iterator[Reading]:
        """Open a connection of its own: the other one writes meanwhile."""
        with faults(), closing(connect(self.file, *_SETTINGS)) as connection, in_transaction(connection):
            yield Reading(connection)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction."""
        with faults():
            try:
                with self._engine.begin() as connection:
                    # Python begins a transaction only before rows change; earlier reads have to be part of it.
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    yield connection
            except DBAPIError as error:
                raise error.orig or error from None
            if self._log_has_deleted:
                self._empty_log()

    def finish(self, connection: sa.Connection, rows: Rows, lines: Sequence[Mapping[str, Any]]) -> None:
        """Execute each statement for its rows, and append lines to the history."""
        for statement, each in rows.items():
            connection.execute(statement, each)
        if lines:
            note = connection.execute(_END).scalar()
            chained, end = linked(lines, Link.of(note))
            connection.execute(sa.insert(schema.events), chained)
            noting = upserting("sqlite", schema.meta, ("name",), ("name", "value"))
            connection.execute(noting, [{"name": END, "value": end.as_note()}])

    def exclude_others(self, connection: sa.Connection, what: str) -> None:
        """Do nothing: a transaction that writes is the only one."""

    def scrub(self) -> None:
        """Rewrite the file without its free pages, and empty the log: both may still have deleted data.

        So may a copy from before a migration, which is deleted. As long as somebody reads, the log cannot be emptied;
        then the next write does it.
        """
        for copy in self.file.parent.glob(f"{self.file.name}{COPY}*"):
            copy.unlink(missing_ok=True)
        with faults():
            self._connection.execute("VACUUM")
            self._log_has_deleted = True
            self._empty_log()

    def _empty_log(self) -> None:
        busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._log_has_deleted = bool(busy)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _migrate(self, reached: Reached) -> None:
        """Migrate the tables; keep a copy first if the state has any."""
        with self.reading() as reading:
            version = version_of(reading)
        if version == HEAD:
            return
        reached(Failpoint.MIGRATION, done=False)
        if version is not None:
            self._keep_copy(self.file.with_name(f"{self.file.name}{COPY}{version}"))
        with self.writing() as connection:
            upgrade(connection)
        reached(Failpoint.MIGRATION, done=True)

    def _keep_copy(self, path: Path) -> None:
        """Copy the state to a private file, which the earlier version of the program can open."""
        try:
            copied(self._connection, path)
        except LedgerError as error:
            raise LedgerError(
                f"the state was not brought up to date, for no copy of it can be kept as {error}"
            ) from error


def _unlink(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
