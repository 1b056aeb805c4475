"""A state in a PostgreSQL database, in a schema of its own. Nothing else imports the driver (the extra `fleet`).

Every wait has a bound: for a connection, for an answer, for a lock, and for a transaction whose owner does nothing.
What is written is on the server's disk before the call returns, whatever the server's default is.

A connection is refused where the server is too old, this machine's clock is not the server's, or the state has a newer
schema; so a process that was cut off while others migrated the state never writes to it again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from reconciler.ledger import schema
from reconciler.ledger.backend import Inserting
from reconciler.ledger.lease import NOW
from reconciler.ledger.migrate import refuse_newer, upgrade, version_of
from reconciler.ledger.sqlite import SqliteBackend
from reconciler.model.errors import LedgerError
from reconciler.model.failpoints import Failpoint, Reached, unwatched

__all__ = ["SCHEMA", "PostgresBackend", "Server"]

SCHEMA = "reconciler"
"""The schema that has the tables, of the database that the URL names."""

OLDEST = 14
"""The oldest PostgreSQL that is served: what its project still mends, and what is tested."""

CONNECT, ANSWER, LOCK, IDLE = (timedelta(seconds=seconds) for seconds in (4, 8, 5, 10))
"""How long a connection, an answer, a lock, and a transaction in which nothing happens may take."""

PATIENCE = timedelta(seconds=10)
"""How long an answer is waited for where not even the server says that it takes too long."""

LONG = timedelta(hours=6)
"""The same for a migration, the wait for another process's, and the rewriting of tables."""

CLOCK = timedelta(seconds=30)
"""How far this machine's clock may be from the server's: dates and `retry_at` are by the wall clock of each member."""

CONNECTIONS = 5

AWAY = timedelta(seconds=2)
"""For how long a server that could not be reached is left alone. Then one asks, while others are told at once that it
is away, so that a command that has several things to write ends in time."""

_MIGRATING = 0x7265636F_6E000001
"""An advisory lock, which is one database's."""

_RIGHTS = f"make the schema for this user (CREATE SCHEMA {SCHEMA} AUTHORIZATION …), or give it the right"

_STEPS = (
    ("permission denied", _RIGHTS),
    ("password authentication failed", "give its password as STATE_PASSWORD (`reconcile initial-data set reconciler`)"),
    ("no password supplied", "give its password as STATE_PASSWORD (`reconcile initial-data set reconciler`)"),
    ("FATAL: role", "make the user (CREATE ROLE … LOGIN), or mend `state`"),
    ("FATAL: database", "make the database (CREATE DATABASE …), or mend `state`"),
    ("pg_hba.conf", "let this machine in, in the server's pg_hba.conf"),
)


class _Connection(psycopg.Connection[Any]):
    """A connection that is given up where a server that has stopped, or a line that was cut, leaves it waiting."""

    patience = PATIENCE
    silent: Callable[[LedgerError], None] | None = None
    """Called where it is given up."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as the driver does, but not for ever."""
        seconds = self.patience.total_seconds()
        try:
            return super().wait(gen, interval, timeout or seconds)
        except psycopg.OperationalError as error:
            if self.pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
                raise
            self.close()
            told = f"no answer within {seconds:g} s"
            if self.silent is not None:
                self.silent(LedgerError(told))
            raise psycopg.OperationalError(told) from error

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Wait for what takes as long as it takes."""
        self.patience = LONG
        try:
            yield
        finally:
            self.patience = PATIENCE


@dataclass(frozen=True, slots=True)
class Server:
    """A database of a PostgreSQL server, and how it is reached."""

    url: str
    password: str | None = field(default=None, repr=False)

    def arguments(self, *, read_only: bool = False) -> dict[str, Any]:
        """How a connection is opened, whoever opens it."""
        who = f"reconciler {schema.HEAD} {os.getpid()}@{socket.gethostname()}"
        options = {
            "search_path": SCHEMA,
            "idle_in_transaction_session_timeout": _milliseconds(IDLE),
            "lock_timeout": _milliseconds(LOCK),
            "statement_timeout": _milliseconds(ANSWER),
            "synchronous_commit": "on",
            "default_transaction_read_only": "on" if read_only else "off",
        }
        return {
            "conninfo": self.url,
            "password": self.password,
            "application_name": who[:63],
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "connect_timeout": int(CONNECT.total_seconds()),
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": _milliseconds(LOCK),
        }

    def connect(self, *, read_only: bool = False) -> _Connection:
        """Open a connection. Raises LedgerError, without the password, where there is none to be had."""
        try:
            connection = _Connection.connect(**self.arguments(read_only=read_only))
        except psycopg.Error as error:
            raise self._unreachable(error) from None
        try:
            self._refuse_unfit(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def version(self) -> str | None:
        """The schema's version; None where there is no state. Raises LedgerError, for a newer one too."""
        backend = PostgresBackend(self, read_only=True)
        try:
            return backend.version()
        finally:
            backend.close()

    def _refuse_unfit(self, connection: _Connection) -> None:
        """Refuse a server, or a clock of this machine's, with which the ledger's promises could not be kept."""
        major = connection.info.server_version // 10000
        if major < OLDEST:
            raise LedgerError(f"state {self.url}: the server is PostgreSQL {major}, and {OLDEST} is the oldest served")
        try:
            query = (
                "select clock_timestamp(), to_regclass('alembic_version') is not null, "
                f"has_schema_privilege(to_regnamespace('{SCHEMA}')::oid, 'usage')"
            )
            there, made, may = connection.execute(query).fetchone() or (datetime.now(UTC), False, None)
            version = connection.execute("select version_num from alembic_version").fetchone() if made else None
            connection.rollback()
        except psycopg.Error as error:
            raise self._unreachable(error) from None
        if may is False:  # then what it has would look as if it were not there
            raise LedgerError(f"state {self.url}: permission denied for schema {SCHEMA}: {_RIGHTS}")
        refuse_newer(version and version[0])
        apart = datetime.now(UTC) - there
        if abs(apart) > CLOCK:
            ahead = "ahead of" if apart > timedelta() else "behind"
            raise LedgerError(
                f"state {self.url}: this machine's clock is {round(abs(apart).total_seconds())} s {ahead} the database "
                "server's: set both by NTP"
            )

    def _unreachable(self, error: psycopg.Error) -> LedgerError:
        said = " ".join(str(error).split())
        step = "see that the server runs, and that `state` names it"
        step = next((step for sign, step in _STEPS if sign in said), step)
        if self.password:
            said = said.replace(self.password, "***")
        return LedgerError(f"state {self.url}: {said.partition(' Multiple connection attempts')[0]}: {step}")


class PostgresBackend(Inserting):
    """A PostgreSQL database that has the ledger."""

    insert = staticmethod(postgresql.insert)

    remote = True

    def __init__(self, server: Server, *, read_only: bool = False) -> None:
        self._server = server
        self._read_only = read_only
        self._away: tuple[float, LedgerError] | None = None
        self.unattended = False
        self._engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_size=CONNECTIONS,
            pool_timeout=CONNECT.total_seconds(),
            pool_pre_ping=True,
            use_native_hstore=False,
        )

    def _connect(self) -> _Connection:
        if self._away is not None:
            until, away = self._away
            if time.monotonic() < until:
                raise LedgerError(str(away))
            self._away = time.monotonic() + (CONNECT + AWAY).total_seconds(), away
        try:
            connection = self._server.connect(read_only=self._read_only)
        except LedgerError as error:
            self._note_away(error)
            raise
        self._away = None
        connection.silent = self._note_away
        return connection

    def _note_away(self, error: LedgerError) -> None:
        said = str(error)
        said = said if said.startswith("state ") else f"state {self._server.url}: {said}: see that the server runs"
        self._away = time.monotonic() + AWAY.total_seconds(), LedgerError(said)

    @classmethod
    def open(cls, server: Server, reached: Reached, *, migrate: bool) -> PostgresBackend:
        """Open a state for writing; make it where it is not there. An older one is migrated only with `migrate`."""
        backend = cls(server)
        try:
            if backend.version() != schema.HEAD:
                backend._upgrade(reached, migrate=migrate)
        except BaseException:
            backend.close()
            raise
        return backend

    @classmethod
    def make(cls, server: Server, fill: Callable[[sa.Connection], None]) -> None:
        """Make a state and fill it, in one transaction, or fill one that has nothing in it."""
        backend = cls(server)
        try:
            backend._upgrade(unwatched, migrate=False, fill=fill)
        finally:
            backend.close()

    @classmethod
    @contextmanager
    def beside(cls, server: Server) -> Iterator[PostgresBackend | SqliteBackend]:
        """Open a state for reading, in transactions that can write nothing; an empty one where there is none."""
        backend = cls(server, read_only=True)
        try:
            version = backend.version()
            if version is None:
                with closing(SqliteBackend.empty()) as empty:
                    yield empty
                return
            if version != schema.HEAD:
                raise _outdated(version)
            with backend.reading() as connection:
                held = sa.select(schema.shards.c.service).where(schema.shards.c.until > NOW).limit(1)
                backend.unattended = connection.execute(held).first() is None
            yield backend
        finally:
            backend.close()

    def version(self) -> str | None:
        """The schema's version; None where there is no state. Raises LedgerError, for a newer one too."""
        with self.reading() as connection:
            return version_of(connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection to read from; no transaction outlasts a statement."""
        with self._faults(), self._engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction."""
        with self._faults(), self._engine.begin() as connection:
            yield connection

    def alone(self, connection: sa.Connection, what: str) -> None:
        """Let nobody else get past the same `what` until the transaction of this connection ends."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(what, 0))))

    def scrub(self) -> None:
        """Rewrite the tables without the rows that were deleted. The server's log and its backups keep them."""
        with self.reading() as connection, _driver(connection).patient():
            connection.exec_driver_sql("SET statement_timeout = 0")
            for table in schema.metadata.sorted_tables:
                if table in schema.MOMENTARY:
                    continue  # nobody is named there, and members write to them every second
                connection.exec_driver_sql(f"VACUUM (FULL) {table.name}")
            connection.exec_driver_sql("RESET statement_timeout")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _upgrade(self, reached: Reached, *, migrate: bool, fill: Callable[[sa.Connection], None] | None = None) -> None:
        """Make the tables or bring them up to date: one process does, and others that start meanwhile wait for it."""
        reached(Failpoint.MIGRATION, done=False)
        with self.writing() as connection, _driver(connection).patient():
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
            version = version_of(connection)
            if version is None:
                if connection.execute(sa.select(sa.func.to_regnamespace(SCHEMA))).scalar() is None:
                    connection.execute(sa.schema.CreateSchema(SCHEMA))
            elif version != schema.HEAD:
                if not migrate:
                    raise _outdated(version)
                _refuse_members(connection)
            if version != schema.HEAD:
                upgrade(connection)
            if fill is not None:
                fill(connection)
        reached(Failpoint.MIGRATION, done=True)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Whatever the server says, as one clear error."""
        try:
            yield
        except PoolTimeoutError as error:
            raise LedgerError(f"state {self._server.url}: every connection is in use: try again") from error
        except DBAPIError as error:
            raise LedgerError(f"state {self._server.url}: {_told(error)}") from error


def _driver(connection: sa.Connection) -> _Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, _Connection)
    return found


def _told(error: DBAPIError) -> str:
    cause = error.orig
    # Not the details, which repeat whole rows.
    primary = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
    said = " ".join((primary or str(cause)).split())
    match cause:
        case psycopg.errors.InsufficientPrivilege():
            step = _RIGHTS
        case psycopg.errors.ReadOnlySqlTransaction():
            step = "it is opened to be read; a server that only follows another takes no writes"
        case psycopg.errors.DiskFull():
            step = "make room on the server's disk"
        case psycopg.errors.QueryCanceled() | psycopg.errors.LockNotAvailable():
            step = "the server is slow, or somebody locks the tables: try again"
        case psycopg.OperationalError():
            step = "see that the server runs; it is tried again"
        case _:
            step = "restore the database from a backup, or see what changed its tables"
    return f"{said}: {step}"


def _outdated(version: str) -> LedgerError:
    return LedgerError(
        f"the state's schema is {version}, and this program's is {schema.HEAD}. Stop every member, back the state up "
        f"(pg_dump --schema={SCHEMA}), then bring it up to date with `reconcile --yes-really`"
    )


def _refuse_members(connection: sa.Connection) -> None:
    """Raise LedgerError where a process of another schema is connected: what it would write is not for the new one."""
    query = sa.text(
        "select distinct application_name from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and application_name like 'reconciler %' and application_name not like :ours"
    )
    others = sorted(connection.execute(query, {"ours": f"reconciler {schema.HEAD} %"}).scalars())
    if others:
        raise LedgerError(
            f"the state was not brought up to date: older programs have it open ({', '.join(others)}): stop them"
        )


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
