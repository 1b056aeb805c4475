"""Create, migrate and write a state in a PostgreSQL database."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from psycopg.generators import send
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from reconciler.ledger import schema
from reconciler.ledger.backend import Rows, within
from reconciler.ledger.chain import END
from reconciler.ledger.migrations import upgrade
from reconciler.ledger.postgres.reading import CONNECT, IDLE, SCHEMA, Connection, Server, outdated
from reconciler.ledger.reading import HEAD, Reading, microseconds, version_of
from reconciler.model.errors import LedgerError
from reconciler.model.failpoints import Failpoint, Reached, unwatched

CONNECTIONS = 5

UNREACHABLE = timedelta(seconds=2)
"""How long not to connect again after a failure. Meanwhile callers fail at once, so that a command with several writes
ends in time."""

AGAIN_SECONDS = 0.2
"""Between two tries to migrate, while another process does."""

_END_SILENT = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND application_name LIKE 'reconciler %'"
    " AND state <> 'idle' AND wait_event = 'ClientRead'"
    " AND state_change < clock_timestamp() - make_interval(secs => :seconds)"
)

_MIGRATING = 0x7265636F_6E000001
"""The key of an advisory lock, which is per database."""


for _name in ("sqlalchemy.pool", "psycopg"):  # a connection that was cut is reported once, by the callers here
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_JSON = ("approved_by", "data")
_COLUMNS = {
    "at": "bigint",
    **dict.fromkeys(("hire", "access", "integration", "event", "revision", "author", "detail", "granted_in"), "text"),
    **dict.fromkeys(_JSON, "text"),
    "salt": "bytea",
    "content": "text",
    "code": "text",
}
_NAMES = ", ".join(_COLUMNS)
_LISTS = ", ".join(f"%({name})s::{kind}[]" for name, kind in _COLUMNS.items())
_VALUES = ", ".join(f"{name}::json" if name in _JSON else name for name in _COLUMNS)

_APPEND = f"""
WITH RECURSIVE noted AS (SELECT convert_from(value, 'UTF8') AS note FROM meta WHERE name = '{END}' FOR UPDATE),
chain (place, digest) AS (
  SELECT 0::bigint, coalesce((SELECT split_part(note, ' ', 2) FROM noted), '')
  UNION ALL
  SELECT place + 1, encode(sha256(
    convert_to(digest || chr(10), 'UTF8') || substr(%(contents)s::bytea, (64 * place + 1)::integer, 64)), 'hex')
  FROM chain WHERE place < %(count)s
), told AS (
  INSERT INTO events ({_NAMES}, digest)
  SELECT {_VALUES}, digest FROM unnest({_LISTS}) WITH ORDINALITY AS line ({_NAMES}, place) JOIN chain USING (place)
  ORDER BY place
)
INSERT INTO meta (name, value)
SELECT '{END}', convert_to(
  coalesce((SELECT split_part(note, ' ', 1)::bigint FROM noted), 0) + place || ' ' || digest, 'UTF8')
FROM chain WHERE place = %(count)s
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
"""Appends lines to the history in one statement.

Members wait for each other at the end of the history, which is locked until the commit. So the server computes the
digests, and the statement is sent together with the commit: no member waits for another one's turn on its processor.
The lines get their ids in their order, and after those of the lines before, because the end is locked first.

A content's digest has 64 characters: substrings of bytes are found without counting characters.
"""


class WritablePostgresBackend:
    """The ledger in a PostgreSQL database, for writing."""

    remote = True
    unattended = False
    file = None

    def __init__(self, server: Server) -> None:
        self._server = server
        self._unreachable: tuple[float, LedgerError] | None = None
        self._closed = False
        self._engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_size=CONNECTIONS,
            pool_timeout=CONNECT.total_seconds(),
            pool_pre_ping=True,
            use_native_hstore=False,
        )

    def _connect(self) -> Connection:
        if self._unreachable is not None:
            until, before = self._unreachable
            if time.monotonic() < until:
                raise LedgerError(str(before))
            self._unreachable = time.monotonic() + (CONNECT + UNREACHABLE).total_seconds(), before
        try:
            connection = self._server.connect()
        except LedgerError as error:
            self._note_unreachable(error)
            raise
        self._unreachable = None
        connection.silent = self._note_unreachable
        return connection

    def _note_unreachable(self, error: LedgerError) -> None:
        said = str(error)
        said = said if said.startswith("state ") else f"state {self._server.url}: {said}: see that the server runs"
        self._unreachable = time.monotonic() + UNREACHABLE.total_seconds(), LedgerError(said)

    @classmethod
    def open(cls, server: Server, reached: Reached, *, migrate: bool) -> WritablePostgresBackend:
        """Open a state for writing; create it if it does not exist. An older one is migrated only with `migrate`."""
        backend = cls(server)
        try:
            with backend.reading() as reading:
                version = version_of(reading)
            if version != HEAD:
                backend._upgrade(reached, migrate=migrate)
            with backend._autocommit() as connection:
                end_silent(connection)  # who writes before it joins is not in the way of a process that died
        except BaseException:
            backend.close()
            raise
        return backend

    @classmethod
    def make(cls, server: Server, fill: Callable[[sa.Connection], None]) -> None:
        """Create a state and fill it, in one transaction, or fill an empty one."""
        backend = cls(server)
        try:
            backend._upgrade(unwatched, migrate=False, fill=fill)
        finally:
            backend.close()

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Open a connection for reading."""
        with self._autocommit() as connection:
            yield within(connection)

    @contextmanager
    def snapshot(self) -> Iterator[Reading]:
        """Open a transaction that sees nothing of what is written meanwhile."""
        with self._connected() as opened:
            connection = opened.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield within(connection)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction."""
        with self._connected() as connection, connection.begin():
            yield connection

    @contextmanager
    def pipelined(self) -> Iterator[Connection]:
        """Open a transaction whose statements are sent without waiting for answers that nobody reads.

        To the server a pipeline is a transaction: to begin and to commit it takes no round trip of its own.
        """
        with self._autocommit() as connection:
            driver = _driver(connection)
            with driver.pipeline():
                yield driver
                driver.wait(send(driver.pgconn))  # else psycopg sends once, and may wait for the answer to a half

    @contextmanager
    def _autocommit(self) -> Iterator[sa.Connection]:
        """Open a connection on which each statement is its own transaction."""
        with self._connected() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def finish(self, connection: sa.Connection, rows: Rows, lines: Sequence[Mapping[str, Any]]) -> None:
        """Execute each statement for its rows, append lines to the history and commit, all in one round trip."""
        driver = _driver(connection)
        with driver.pipeline():
            for statement, each in rows.items():
                connection.execute(statement, each)
            if lines:
                driver.execute(_APPEND, _appended(lines))
            driver.wait(send(driver.pgconn))  # else psycopg sends once, and may wait for the answer to a half
            driver.commit()

    def exclude_others(self, connection: sa.Connection, what: str) -> None:
        """Exclude others that call this with the same `what` until this transaction ends."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(what, 0))))

    def scrub(self) -> None:
        """Rewrite the tables without deleted rows, which stay in the server's log and backups."""
        with self._autocommit() as connection, _driver(connection).patient():
            connection.exec_driver_sql("SET statement_timeout = 0")
            for table in schema.metadata.sorted_tables:
                if table in schema.MOMENTARY:
                    continue  # they name nobody, and members write to them every second
                connection.exec_driver_sql(f"VACUUM (FULL) {table.name}")
            connection.exec_driver_sql("RESET statement_timeout")

    def close(self) -> None:
        """Close every connection: at once, or when the thread that uses it returns it."""
        self._closed = True
        self._engine.pool.dispose()

    def _upgrade(self, reached: Reached, *, migrate: bool, fill: Callable[[sa.Connection], None] | None = None) -> None:
        """Create or migrate the tables in one process, while others that start wait for it."""
        reached(Failpoint.MIGRATION, done=False)
        with self.writing() as connection, _driver(connection).patient():
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            while not connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_MIGRATING))).scalar():
                end_silent(connection)
                time.sleep(AGAIN_SECONDS)
            version = version_of(within(connection))
            if version is None:
                if connection.execute(sa.select(sa.func.to_regnamespace(SCHEMA))).scalar() is None:
                    connection.execute(sa.schema.CreateSchema(SCHEMA))
            elif version != HEAD:
                if not migrate:
                    raise outdated(version)
                _refuse_members(connection)
            if version != HEAD:
                upgrade(connection)
            if fill is not None:
                fill(connection)
        reached(Failpoint.MIGRATION, done=True)

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        """Open a connection; turn the server's errors into one clear LedgerError."""
        if self._closed:
            raise LedgerError(f"state {self._server.url}: it was closed meanwhile")
        with self._server.faults():
            try:
                with self._engine.connect() as connection:
                    yield connection
            except PoolTimeoutError as error:
                raise LedgerError(f"state {self._server.url}: every connection is in use: try again") from error
            except DBAPIError as error:
                raise error.orig or error from None
            finally:
                if self._closed:  # read after the connection was returned: either this call closes it, or `close` does
                    self._engine.pool.dispose()


def end_silent(connection: sa.Connection) -> None:
    """End the connections of processes that died or were stopped in the middle of a statement.

    Each has the locks of its transaction, and none of the server's timeouts ends it: the server waits for the rest of
    what the process was sending.
    """
    connection.execute(_END_SILENT, {"seconds": IDLE.total_seconds()})


def _driver(connection: sa.Connection) -> Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, Connection)
    return found


def _refuse_members(connection: sa.Connection) -> None:
    """Raise LedgerError if a process with another schema is connected, whose writes would not fit the new one."""
    query = sa.text(
        "select distinct application_name from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and application_name like 'reconciler %' and application_name not like :ours"
    )
    others = sorted(connection.execute(query, {"ours": f"reconciler {HEAD} %"}).scalars())
    if others:
        raise LedgerError(
            f"the state was not brought up to date: older programs have it open ({', '.join(others)}): stop them"
        )


def _appended(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of `_APPEND` for salted lines."""
    values: dict[str, Any] = {name: [line[name] for line in lines] for name in _COLUMNS}
    values["at"] = [microseconds(line["at"]) for line in lines]
    for name in _JSON:
        values[name] = [None if line[name] is None else json.dumps(line[name]) for line in lines]
    return {**values, "count": len(lines), "contents": "".join(line["content"] for line in lines).encode()}
