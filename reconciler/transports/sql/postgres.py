"""PostgreSQL, through psycopg.

A statement is always prepared: the simple protocol would take two, of which the first could end a read-only
transaction. A transaction that is read-only is rolled back. A request that is cancelled at its timeout is cancelled at
the server too.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

import psycopg
from psycopg.adapt import AdaptersMap, Buffer, Loader
from psycopg.rows import tuple_row
from psycopg.types.datetime import DateLoader, TimeLoader, TimestampLoader, TimestamptzLoader, TimetzLoader

from reconciler.model.addresses import loopback
from reconciler.model.errors import TransportError
from reconciler.model.template import numbered, parameters
from reconciler.transports.address import Address
from reconciler.transports.messages import RenderedRequest, Response
from reconciler.transports.sql.statement import Question, Rows, failed
from reconciler.transports.transport import BROKE, Idle, Watch, authorities, spoiled

Connection = psycopg.AsyncConnection[Any]

NOWHERE = f"{os.devnull}/none"
"""The path of a file that cannot be there."""

STATUSES = {"23505": 409, "23P01": 409, "42501": 403, "40001": 503, "40P01": 503}

IN_DOUBT = ("57P", "08", "40003")
"""How the codes begin that do not tell whether the statement took effect: a server that ends, a connection that a proxy
or another node lost, "statement completion unknown"."""

_HARMLESS = {
    **dict.fromkeys(("options", "requirepeer"), " "),
    **dict.fromkeys(("passfile", "sslcert", "sslkey", "sslcrl", "sslcrldir"), NOWHERE),
    **dict.fromkeys(("sslcertmode", "gssencmode", "load_balance_hosts"), "disable"),
    "application_name": "access-reconciler",
    "client_encoding": "UTF8",
    "sslsni": "1",
    "sslnegotiation": "postgres",
    "sslcompression": "0",
    "ssl_min_protocol_version": "TLSv1.2",
    "ssl_max_protocol_version": "TLSv1.3",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
    "require_auth": "password,md5,scram-sha-256,none",
    "gsslib": "gssapi",
    "channel_binding": "prefer",
    "gssdelegation": "0",
    "krbsrvname": "postgres",
    "target_session_attrs": "any",
}
"""Each parameter that libpq would take from the environment where it is not given."""


def _lenient(usual: type[Any]) -> type[Loader]:
    class Lenient(usual):  # type: ignore[misc]
        """Reads what Python has no date or time for as text: `infinity`, and years before 1 or after 9999."""

        def load(self, data: Buffer) -> Any:
            try:
                return super().load(data)
            except psycopg.DataError:
                return bytes(data).decode()

    return Lenient


_TYPES: dict[str, type[Any]] = {
    "date": DateLoader,
    "time": TimeLoader,
    "timetz": TimetzLoader,
    "timestamp": TimestampLoader,
    "timestamptz": TimestamptzLoader,
}

_ADAPTERS = AdaptersMap(psycopg.adapters)
for _name, _loader in _TYPES.items():
    _ADAPTERS.register_loader(_name, _lenient(_loader))


class Postgres:
    """Sends statements. `seconds` is the time that one may take."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._idle = Idle[Connection](lambda connection: connection.pgconn.finish())
        self._ending: set[asyncio.Task[None]] = set()

    async def send(self, request: RenderedRequest, address: Address, watch: Watch) -> Response:
        """Send a statement; see `Transport`."""
        question = Question.of(request, address)
        while (connection := self._idle.take(question.where)) is not None and (
            connection.closed or spoiled(connection.fileno())
        ):
            await connection.close()
        if connection is None:
            try:
                parameters = await _parameters(question, self._seconds)
                connection = await psycopg.AsyncConnection.connect(**parameters, context=_ADAPTERS)
            except OSError as error:
                raise TransportError(f"no connection: {error.strerror}", left=False) from None
            except psycopg.Error as error:
                if error.pgconn is not None and (error.pgconn.used_password or error.pgconn.needs_password):
                    return failed(question, 401, None, _line(error))
                raise TransportError(f"no connection: {_line(error)}", left=False) from None
        asking = asyncio.create_task(_ask(connection, question, request.most, watch))
        try:
            answer = await asyncio.shield(asking)
        except asyncio.CancelledError:
            ending = asyncio.create_task(_end(asking, connection))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            connection = None
            raise
        except psycopg.Error as error:
            code = error.sqlstate or ""
            if connection.closed or connection.broken or code.startswith(IN_DOUBT):
                raise TransportError(f"{BROKE}: {_line(error)}", left=watch.left) from None
            status = 401 if code.startswith("28") else STATUSES.get(code, 400)
            return failed(question, status, code, error.diag.message_primary or _line(error))
        else:
            self._idle.keep(question.where, connection)
            connection = None
            return answer
        finally:
            if connection is not None:
                await connection.close()

    async def aclose(self) -> None:
        """Close all connections; a statement that was given up has a second more to end at the server."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=1.0)
        self._idle.close()


async def _end(asking: asyncio.Task[Response], connection: Connection) -> None:
    """Have the server cancel a statement. Nobody waits for it: a server that hangs takes ten seconds."""
    asking.cancel()
    try:
        await asyncio.gather(asking, return_exceptions=True)
    finally:  # also when the loop ends before the server answered
        await connection.close()


async def _ask(connection: Connection, question: Question, most: int, watch: Watch) -> Response:
    """Run a statement in a transaction of its own. Raises psycopg.Error."""
    names = parameters(question.sql)  # one that stands twice is one: each of two would need a type of its own
    sql, _ = numbered(question.sql, lambda name: f"${names.index(name) + 1}")
    values = [question.values[name] for name in names]
    rows = Rows(most)
    await connection.set_read_only(question.reads)
    async with (
        connection.transaction(force_rollback=question.reads),
        psycopg.AsyncRawCursor(connection, row_factory=tuple_row) as cursor,
    ):
        watch.leaves()
        if question.reads:
            # as they come: a table may be larger than memory
            async with aclosing(cast("AsyncGenerator[Any, None]", cursor.stream(sql, values))) as found:
                await _read(cursor, found, rows)
        else:
            await cursor.execute(sql, values, prepare=True)
            if cursor.description is not None:
                await _read(cursor, cursor, rows)
        watch.has_left()
        count = cursor.rowcount
    return rows.answer(question, count)


async def _read(cursor: psycopg.AsyncRawCursor[Any], found: AsyncIterator[Any], rows: Rows) -> None:
    async for row in found:
        rows.add([column.name for column in cursor.description or ()], row)
        if rows.full:
            break


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


async def _parameters(question: Question, seconds: float) -> Mapping[str, Any]:
    """Return all parameters of a connection: of what is left out, libpq's environment would decide. Raises OSError."""
    local = loopback(question.host)
    file, folder = authorities()
    found = await asyncio.get_running_loop().getaddrinfo(question.host, question.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    return {
        **{name: value for name, value in _HARMLESS.items() if name in known},
        "host": ",".join([question.host] * len(addresses)),
        "hostaddr": ",".join(addresses),
        "port": ",".join([str(question.port)] * len(addresses)),
        "dbname": question.database,
        "user": question.user,
        "password": question.password or " ",
        "connect_timeout": max(2, int(seconds * 0.8)),
        "sslmode": "prefer" if local else "verify-full",
        "sslrootcert": NOWHERE if local else file or _bundle(folder or NOWHERE),
        "autocommit": False,
    }


def _bundle(folder: str) -> str:
    raise TransportError(
        f"PostgreSQL reads its authorities from a file: set SSL_CERT_FILE instead of SSL_CERT_DIR={folder}", left=False
    )
