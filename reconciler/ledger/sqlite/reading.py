"""Read a state in a SQLite file, without changing a byte, also while another process writes it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from reconciler.ledger.reading import HEAD, EmptyBackend, Reading, version_of
from reconciler.ledger.sqlite.lock import StateLock, refuse_unsafe
from reconciler.model.errors import LedgerError

_IMMUTABLE = "?mode=ro&immutable=1"
"""The end of a URI by which SQLite takes the file as unchanging: it neither locks it nor makes side files."""


class SqliteBackend:
    """A SQLite file that is read."""

    remote = False

    def __init__(
        self, connection: sqlite3.Connection, *, unattended: bool = True, same: Callable[[], bool] = lambda: True
    ) -> None:
        """`same` says whether the file is unchanged since it was opened."""
        connection.execute("PRAGMA query_only = ON")  # also in memory, and whatever the file's mode allows
        self._connection = connection
        self._same = same
        self.unattended = unattended

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[SqliteBackend | EmptyBackend]:
        """Open a state for reading without changing a byte; an empty one if there is none."""
        refuse_unsafe(path)
        stood = _stamp(path)
        with _readable(path) as source:
            unattended = StateLock(path).owner() is None
            with faults():
                connection = None if source is None else _up_to_date(source)
            if connection is None:
                yield EmptyBackend(unattended=unattended)
                return
            immutable = source is not None and source.endswith(_IMMUTABLE)
            try:
                with faults():
                    backend = cls(
                        connection, unattended=unattended, same=lambda: not immutable or _stamp(path) == stood
                    )
                yield backend
            finally:
                connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[Reading]:
        """Open a transaction."""
        with self.reading() as reading, in_transaction(self._connection):
            yield reading

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Give the connection. Raises LedgerError if another process wrote to a file that is read as immutable."""
        try:
            with faults():
                yield Reading(self._connection)
        finally:
            if not self._same():
                raise LedgerError("the ledger: another process wrote to it while it was read: try again")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what shows that a file was changed; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _up_to_date(source: str) -> sqlite3.Connection | None:
    """Connect to a state by its SQLite URI, or to a migrated copy in memory if its schema is older.

    Reading must not migrate the file. None if it has no tables: it was never completed.
    """
    connection = connect(source)
    try:
        version = version_of(Reading(connection))
        if version == HEAD:
            return connection
        copy = None
        if version is not None:
            from reconciler.ledger.migrations import bring_up_to_date  # it takes longer to import than all else

            copy = connect(":memory:")
            connection.backup(copy)
            bring_up_to_date(copy)
    except BaseException:
        connection.close()
        raise
    connection.close()
    return copy


@contextmanager
def in_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Read all of the block from one state of the file."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""The errors of a file that is no state any more."""


def back_up(state: Path, path: Path) -> None:
    """Copy a state as it is now to a file that is not there yet, also while another process writes it."""
    refuse_unsafe(state)
    if path.exists():
        raise LedgerError(f"{path} is there already, and is not written over: name a file that is not there")
    with _readable(state) as source:
        if source is None:
            raise LedgerError(f"{state} has no state: nothing was copied")
        with faults(), closing(connect(source)) as connection:
            copied(connection, path)


def copied(connection: sqlite3.Connection, path: Path) -> None:
    """Copy a state to a private file, completely or not at all. Raises LedgerError."""
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)  # what a crash left of an earlier one
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(part)) as copy:
            connection.backup(copy)
        part.replace(path)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
            with faults():  # of the state that is copied
                raise
        why = error.strerror if isinstance(error, OSError) else error
        raise LedgerError(
            f"{path}: {why}: see that the folder is there and writable, and make room on the disk"
        ) from error


def connect(database: str | Path, *settings: str) -> sqlite3.Connection:
    """Open a database by its URI or path, with these settings; its owner may go on in another thread."""
    uri = isinstance(database, str) and database.startswith("file:")
    connection = sqlite3.connect(database, uri=uri, check_same_thread=False)
    try:
        for setting in ("busy_timeout = 5000", *settings):
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def faults() -> Iterator[None]:
    """Turn errors of the disk or the file into one clear LedgerError."""
    try:
        yield
    except sqlite3.Error as error:
        cause = str(error)
        step = "restore the state's file from a backup, or see docs/how-to/back-up.md for how to go on without one"
        if "full" in cause:
            step = "make room on the disk"
        elif "locked" in cause or "busy" in cause:
            step = "another program has it open: stop that, then try again"
        elif "I/O" in cause:
            step = "see to the disk, or to the quota; then try again"
        elif "unable to open" in cause or "readonly" in cause:
            step = "check its folder and permissions, and that no more files are open than may be (ulimit -n)"
        raise LedgerError(f"the ledger: {cause}: {step}") from error


@contextmanager
def _readable(path: Path) -> Iterator[str | None]:
    """Return the URI to read a state from so that not even its side files change; None if there is no state.

    A locked state is read beside its process. Another is opened as immutable; if a crash left a write-ahead log, both
    are copied first, because reading in place would merge the log into the file.
    """
    if not path.exists():
        yield None
    elif StateLock(path).owner() is not None:
        yield f"file:{quote(str(path))}?mode=ro"
    elif not path.with_name(path.name + "-wal").exists():
        yield f"file:{quote(str(path))}{_IMMUTABLE}"
    else:
        with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
            for name in (path.name, path.name + "-wal"):
                shutil.copyfile(path.with_name(name), Path(folder, name))
            yield f"file:{quote(str(Path(folder, path.name)))}?mode=ro"
