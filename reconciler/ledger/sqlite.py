"""A state in a SQLite file, read beside the process that writes it without changing a byte."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from reconciler.ledger.lock import StateLock
from reconciler.ledger.migrate import HEAD, version_of
from reconciler.ledger.place import refuse_unsafe
from reconciler.ledger.reading import Reading
from reconciler.model.errors import LedgerError

__all__ = ["SqliteBackend", "faults"]


class SqliteBackend:
    """A SQLite file that is read, or an empty ledger in memory where there is none."""

    remote = False

    def __init__(self, connection: sqlite3.Connection, *, unattended: bool = True) -> None:
        connection.execute("PRAGMA query_only = ON")  # in memory, too, whatever the file's mode lets through
        self._connection = connection
        self.unattended = unattended

    @classmethod
    @contextmanager
    def beside(cls, path: Path) -> Iterator[SqliteBackend]:
        """Open a state for reading without changing a byte of it; an empty one where there is none."""
        refuse_unsafe(path)
        with _readable(path) as source:
            unattended = StateLock(path).holder() is None
            with faults():
                connection = _up_to_date(source)
            try:
                with faults():
                    backend = cls(connection, unattended=unattended)
                yield backend
            finally:
                connection.close()

    @classmethod
    @contextmanager
    def empty(cls) -> Iterator[SqliteBackend]:
        """A ledger in memory that has nothing in it."""
        connection = _up_to_date(None)
        try:
            yield cls(connection)
        finally:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Give the connection."""
        with faults():
            yield Reading(self._connection)


def _up_to_date(source: str | None) -> sqlite3.Connection:
    """A connection to a state, by its SQLite URI, or to a copy in memory where its schema is an older one's.

    What only reads must not migrate the file. Where there is none, or its making was cut off, the copy has nothing.
    """
    connection = _connect(source or ":memory:")
    try:
        version = None if source is None else version_of(Reading(connection))
        if version == HEAD:
            return connection
        from reconciler.ledger.sqlite_writing import bring_up_to_date  # it takes longer to import than all else

        copy = _connect(":memory:")
        if version is not None:
            connection.backup(copy)
        bring_up_to_date(copy, made=version is not None)
    except BaseException:
        connection.close()
        raise
    connection.close()
    return copy


def _connect(database: str) -> sqlite3.Connection:
    """Open a database; its owner may go on in another thread."""
    connection = sqlite3.connect(database, uri=database.startswith("file:"), check_same_thread=False)
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


@contextmanager
def faults() -> Iterator[None]:
    """A full disk, a locked or a damaged file, as one clear error."""
    try:
        yield
    except sqlite3.Error as error:
        cause = str(error)
        step = "restore the state from a copy, or move it away: accounts that exist are then adopted"
        if "full" in cause:
            step = "make room on the disk"
        elif "locked" in cause or "busy" in cause:
            step = "another program has it open: stop that, then try again"
        elif "I/O" in cause:
            step = "see to the disk, or to the quota; then try again"
        elif "unable to open" in cause or "readonly" in cause:
            step = "check its folder and permissions"
        raise LedgerError(f"the ledger: {cause}: {step}") from error


@contextmanager
def _readable(path: Path) -> Iterator[str | None]:
    """Where to read a state from so that not even its side files change; None where there is no state.

    A held state is read beside its holder. One that nobody holds is opened as immutable; where a crash left a
    write-ahead log, both are copied first, since reading it in place would roll it into the file.
    """
    if not path.exists():
        yield None
    elif StateLock(path).holder() is not None:
        yield f"file:{quote(str(path))}?mode=ro"
    elif not path.with_name(path.name + "-wal").exists():
        yield f"file:{quote(str(path))}?mode=ro&immutable=1"
    else:
        with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
            for name in (path.name, path.name + "-wal"):
                shutil.copyfile(path.with_name(name), Path(folder, name))
            yield f"file:{quote(str(Path(folder, path.name)))}?mode=ro"
