"""A state in a SQLite file: one process writes, others read beside it without changing a byte."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from reconciler.ledger import schema
from reconciler.ledger.backend import Inserting
from reconciler.ledger.lock import StateLock
from reconciler.ledger.migrate import upgrade, version_of
from reconciler.ledger.place import make_folder, refuse_unsafe
from reconciler.model.errors import LedgerError
from reconciler.model.failpoints import Failpoint, Reached, unwatched

__all__ = ["SqliteBackend"]

_EMPTY: dict[str, Callable[[], Any]] = {"{}": dict, "[]": list}


class SqliteBackend(Inserting):
    """A SQLite file, or an empty ledger in memory where there is none to read."""

    insert = staticmethod(sqlite.insert)

    remote = False

    def __init__(self, engine: sa.Engine, *, unattended: bool = False) -> None:
        self._engine = engine
        self.unattended = unattended

    @classmethod
    def open(cls, path: Path, reached: Reached) -> SqliteBackend:
        """Open a state for writing; make it, private to its owner, where it is not there, and migrate it."""
        refuse_unsafe(path)
        try:
            make_folder(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            # One that came from a backup may be anybody's to read; SQLite gives its side files the same mode.
            for name in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError, PermissionError):
                    path.with_name(path.name + name).chmod(0o600)
        except OSError as error:
            raise LedgerError(f"{path}: {error.strerror}: the state's folder has to be writable") from error
        backend = cls(_engine(str(path), writing=True))
        try:
            backend._migrate(reached, path)
        except BaseException:
            backend.close()
            raise
        return backend

    @classmethod
    def make(cls, path: Path, fill: Callable[[sa.Connection], None]) -> None:
        """Make a state and fill it; until it is whole, it is a file of another name."""
        part = path.with_name(path.name + ".part")
        with StateLock(path).hold("reconcile state copy", datetime.now(UTC)):
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

    @classmethod
    @contextmanager
    def beside(cls, path: Path) -> Iterator[SqliteBackend]:
        """Open a state for reading without changing a byte of it; an empty one where there is none."""
        refuse_unsafe(path)
        with _readable(path) as source:
            unattended = StateLock(path).holder() is None
            backend = cls(_engine(source, writing=False), unattended=unattended)
            try:
                version = backend._version()
                if version is None:  # there is none, or its making was cut off
                    backend.close()
                    backend = cls.empty(unattended=unattended)
                elif version < schema.HEAD:
                    backend = backend.migrated_copy()
                with backend.reading() as connection:  # in memory, too, whatever the file's mode lets through
                    connection.exec_driver_sql("PRAGMA query_only = ON")
                yield backend
            finally:
                backend.close()

    @classmethod
    def empty(cls, *, unattended: bool = True) -> SqliteBackend:
        """A ledger in memory that has nothing in it."""
        backend = cls(_engine(None, writing=False), unattended=unattended)
        schema.metadata.create_all(backend._engine)
        return backend

    def migrated_copy(self) -> SqliteBackend:
        """The same state in memory, brought up to date: what only reads must not migrate the file."""
        copy = SqliteBackend(_engine(None, writing=False), unattended=self.unattended)
        with self.reading() as source, copy.reading() as target:
            source.connection.driver_connection.backup(target.connection.driver_connection)  # type: ignore[union-attr]
        self.close()
        copy._migrate(unwatched)
        return copy

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection to read from."""
        with _faults(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction."""
        with _faults(), self._engine.begin() as connection:
            # Python begins a transaction only before rows change: what is read before that has to be part of it.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def alone(self, connection: sa.Connection, what: str) -> None:
        """Nothing is left to do: a transaction that writes is the only one."""

    def scrub(self) -> None:
        """Rewrite the file without its free pages, from which what was deleted could be read back."""
        with self.reading() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("VACUUM"))

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def _version(self) -> str | None:
        with self.reading() as connection:
            return version_of(connection)

    def _migrate(self, reached: Reached, path: Path | None = None) -> None:
        """Bring the tables up to date; of a state at `path` that has some already, keep a copy first."""
        version = self._version()
        if version == schema.HEAD:
            return
        reached(Failpoint.MIGRATION, done=False)
        if version is not None and path is not None:
            self._keep_copy(path.with_name(f"{path.name}.schema-{version}"))
        with self.writing() as connection:
            upgrade(connection)
        reached(Failpoint.MIGRATION, done=True)

    def _keep_copy(self, path: Path) -> None:
        """Keep the state as it is in a file of its own, its owner's alone, that the program of that schema opens."""
        part = path.with_name(path.name + ".part")
        try:
            part.unlink(missing_ok=True)  # what a crash left of an earlier one
            os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(sqlite3.connect(part)) as copy, self.reading() as source:
                source.connection.driver_connection.backup(copy)  # type: ignore[union-attr]
            part.replace(path)
        except (OSError, sqlite3.Error) as error:
            part.unlink(missing_ok=True)
            why = error.strerror if isinstance(error, OSError) else error
            raise LedgerError(
                f"the state was not brought up to date, for no copy of it can be kept as {path}: {why}: make room on "
                "the disk, and see that the folder is writable"
            ) from error


def _unlink(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


@contextmanager
def _faults() -> Iterator[None]:
    """A full disk, a locked or a damaged file, as one clear error."""
    try:
        yield
    except DBAPIError as error:
        cause = str(error.orig)
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


def _engine(database: str | None, *, writing: bool) -> sa.Engine:
    """An engine on a file, by its path or as an SQLite URI; in memory for None."""
    query = {"uri": "true"} if database is not None and database.startswith("file:") else {}
    # Not put together as text: a path may hold any sign.
    url = sa.URL.create("sqlite", database=database, query=query)
    # One connection: the ledger has one writer, and readers each open their own.
    connecting = {"check_same_thread": False}
    engine = sa.create_engine(url, poolclass=sa.pool.StaticPool, connect_args=connecting, json_deserializer=_loaded)

    def prepare(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 5000")
        if writing:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")

    sa.event.listen(engine, "connect", prepare)
    return engine


def _loaded(text: str) -> Any:
    """JSON, decoded. Nearly all that a row holds of it is empty, for which a parser takes a fifth of the row's time."""
    empty = _EMPTY.get(text)
    return json.loads(text) if empty is None else empty()


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
