"""Connect to a state in a PostgreSQL database, in its own schema, and read it (the extra `fleet`).

Every wait is bounded: for a connection, an answer, a lock, and an idle transaction. Writes are durable on the server
before the call returns, whatever its default is.

A connection is refused if the server is too old, this machine's clock differs from the server's, or the state has a
newer schema; so a process that was cut off during a migration never writes to it again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from reconciler.ledger.postgres.clock import refuse_clock
from reconciler.ledger.reading import HEAD, SERVER_TIME, EmptyBackend, Reading, version_of
from reconciler.model.errors import LedgerError, OutdatedError
from reconciler.model.value import Frozen, Unshown

SCHEMA = "reconciler"
"""The schema of the tables, in the database that the URL names."""

OLDEST = 14
"""The oldest version of PostgreSQL that is supported by its project and tested here."""

CONNECT, ANSWER, LOCK, IDLE = (timedelta(seconds=seconds) for seconds in (4, 8, 5, 10))
"""How long a connection, an answer, a lock, and a transaction in which nothing happens may take."""

PATIENCE = timedelta(seconds=10)
"""How long to wait for an answer if not even the server reports that it takes too long."""

LONG = timedelta(hours=6)
"""The same for a migration, for waiting for one of another process, and for rewriting tables."""

_RIGHTS = f"make the schema for this user (CREATE SCHEMA {SCHEMA} AUTHORIZATION …), or give it the right"

_STEPS = (
    ("permission denied", _RIGHTS),
    ("password authentication failed", "give its password as STATE_PASSWORD (`reconcile initial-data set reconciler`)"),
    ("no password supplied", "give its password as STATE_PASSWORD (`reconcile initial-data set reconciler`)"),
    ("FATAL: role", "make the user (CREATE ROLE … LOGIN), or mend `state`"),
    ("FATAL: database", "make the database (CREATE DATABASE …), or mend `state`"),
    ("pg_hba.conf", "let this machine in, in the server's pg_hba.conf"),
)


class Connection(psycopg.Connection[Any]):
    """A connection that is closed if the server has stopped or the network was cut."""

    patience = PATIENCE
    silent: Callable[[LedgerError], None] | None = None
    """Called when it is closed for that reason."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait like the driver does, but not for ever."""
        seconds = self.patience.total_seconds()
        try:
            return super().wait(gen, interval, timeout or seconds)
        except psycopg.OperationalError as error:
            if self.pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
                raise
            self.close()
            message = f"no answer within {seconds:g} s"
            if self.silent is not None:
                self.silent(LedgerError(message))
            raise psycopg.OperationalError(message) from error

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Wait without a bound while the block runs."""
        self.patience = LONG
        try:
            yield
        finally:
            self.patience = PATIENCE


class Server(Frozen):
    """A database of a PostgreSQL server, and how to connect to it."""

    url: str
    password: Unshown[str | None] = None

    def arguments(self, *, read_only: bool = False) -> dict[str, Any]:
        """Return the arguments of every connection."""
        who = f"reconciler {HEAD} {os.getpid()}@{socket.gethostname()}"
        options = {
            "search_path": SCHEMA,
            "default_transaction_isolation": r"read\ committed",
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

    def connect(self, *, read_only: bool = False) -> Connection:
        """Open a connection. Raises LedgerError, without the password, if that fails."""
        try:
            connection = Connection.connect(**self.arguments(read_only=read_only))
        except psycopg.Error as error:
            raise self._unreachable(error) from None
        try:
            self._refuse_unfit(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def version(self) -> str | None:
        """Return the schema's version; None if there is no state. Raises LedgerError, also for a newer one."""
        with closing(self.connect(read_only=True)) as connection, self.faults():
            return version_of(Reading(connection, postgres=True))

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turn the server's errors into one clear LedgerError."""
        try:
            yield
        except psycopg.Error as error:
            raise LedgerError(f"state {self.url}: {_described(error)}") from error

    def _refuse_unfit(self, connection: Connection) -> None:
        """Refuse a server or a clock with which the ledger's promises could not be kept."""
        major = connection.info.server_version // 10000
        if major < OLDEST:
            raise LedgerError(f"state {self.url}: the server is PostgreSQL {major}, and {OLDEST} is the oldest served")
        try:
            query = f"SELECT clock_timestamp(), has_schema_privilege(to_regnamespace('{SCHEMA}')::oid, 'usage')"
            there, may = connection.execute(query).fetchone() or (datetime.now(UTC), None)
            if may is False:  # its tables would look as if they did not exist
                raise LedgerError(f"state {self.url}: permission denied for schema {SCHEMA}: {_RIGHTS}")
            version_of(Reading(connection, postgres=True))
            connection.rollback()
        except psycopg.Error as error:
            raise self._unreachable(error) from None
        try:
            refuse_clock(there)
        except LedgerError as error:
            raise LedgerError(f"state {self.url}: {error}") from None

    def _unreachable(self, error: psycopg.Error) -> LedgerError:
        said = " ".join(str(error).split())
        step = "see that the server runs, and that `state` names it"
        step = next((step for sign, step in _STEPS if sign in said), step)
        if self.password:
            said = said.replace(self.password, "***")
        return LedgerError(f"state {self.url}: {said.partition(' Multiple connection attempts')[0]}: {step}")


class PostgresBackend:
    """The ledger in a PostgreSQL database, in read-only transactions."""

    remote = True

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self.unattended = False

    @classmethod
    @contextmanager
    def opened(cls, server: Server) -> Iterator[PostgresBackend | EmptyBackend]:
        """Open a state for reading; an empty one if there is none."""
        with closing(server.connect(read_only=True)) as connection:
            connection.autocommit = True  # no transaction lasts longer than a statement
            backend = cls(server, connection)
            with backend.reading() as reading:
                version = version_of(reading)
                if version is not None and version != HEAD:
                    raise outdated(version)
                if version is not None:
                    held = reading.value(f"SELECT service FROM shards WHERE until > {SERVER_TIME} LIMIT 1")
                    backend.unattended = held is None
            yield EmptyBackend() if version is None else backend

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Give the connection."""
        with self._server.faults():
            yield Reading(self._connection, postgres=True)

    @contextmanager
    def snapshot(self) -> Iterator[Reading]:
        """Open a transaction."""
        with self.reading() as reading, self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield reading


def _described(error: psycopg.Error) -> str:
    said = " ".join((error.diag.message_primary or str(error)).split())  # not the details, which contain whole rows
    match error:
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


def outdated(version: str) -> OutdatedError:
    """Make the error for a state with an older schema."""
    return OutdatedError(
        f"the state's schema is {version}, and this program's is {HEAD}. Stop every member, back the state up "
        f"(pg_dump --schema={SCHEMA}), then bring it up to date with `reconcile --yes-really`"
    )


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
