"""MySQL and MariaDB, through PyMySQL, each request in a thread of its own.

PyMySQL only sends text. So the server itself prepares the statement and takes its parameters from variables; they and
the statement get there as hexadecimal digits, in which nothing has to be escaped.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import cache, partial
from threading import Thread
from typing import Any, TypeVar

import pymysql
from pymysql.constants import CR, ER
from pymysql.cursors import SSCursor

from reconciler.model.addresses import loopback
from reconciler.model.errors import TransportError
from reconciler.model.template import numbered
from reconciler.transports.address import Address
from reconciler.transports.messages import RenderedRequest, Response
from reconciler.transports.sql.statement import Question, Rows, failed
from reconciler.transports.transport import BROKE, Watch, in_thread, tls_context

T = TypeVar("T")

LOST = frozenset({CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_CONN_HOST_ERROR, 0, ER.SERVER_SHUTDOWN, 1927})

STATUSES = {
    **dict.fromkeys((ER.ACCESS_DENIED_ERROR, 1698), 401),
    **dict.fromkeys((ER.DUP_ENTRY, 1586), 409),
    **dict.fromkeys((ER.DBACCESS_DENIED_ERROR, ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR), 403),
    **dict.fromkeys((ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.PROCACCESS_DENIED_ERROR), 403),
    **dict.fromkeys((ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT, 1020), 503),
}

_tls = cache(tls_context)


class MySql:
    """Sends statements. `seconds` is the time that one may take."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def send(self, request: RenderedRequest, address: Address, watch: Watch) -> Response:
        """Send a statement; see `Transport`."""
        question = Question.of(request, address)
        session = _Session(question, self._seconds)
        try:
            await in_thread(partial(_understood, session.prepare), session.abort)
            watch.leaves()
            rows = await in_thread(partial(_understood, partial(session.execute, request.most)), session.abort)
            watch.has_left()
        except pymysql.Error as error:
            code, message = error.args if len(error.args) == 2 else (0, str(error))
            if code in LOST or not isinstance(code, int):
                why = f"{BROKE}: {message}" if watch.left else f"no connection: {message}"
                raise TransportError(why, left=watch.left) from None
            return failed(question, STATUSES.get(code, 400), code, str(message))
        except OSError as error:
            raise TransportError(f"{BROKE}: {error}", left=watch.left) from None
        finally:
            session.close()
        return rows.answer(question, session.count)

    async def aclose(self) -> None:
        """Close nothing: no connection is kept."""


def _understood(work: Callable[[], T]) -> T:
    """Return what the work returns. Raises pymysql.Error for whatever PyMySQL stumbles over in what no server says."""
    try:
        return work()
    except (pymysql.Error, OSError, TransportError):
        raise
    except Exception as error:
        raise pymysql.InternalError(f"what came is no answer of a database ({type(error).__name__})") from error


class _Session:
    """One connection, and one statement over it. Its methods but `abort` and `close` run in a thread."""

    def __init__(self, question: Question, seconds: float) -> None:
        self._question = question
        self._seconds = seconds
        self._connection: Any = None  # PyMySQL's types leave out what is used here
        self._ended = False
        self.count = 0

    def prepare(self) -> None:
        """Connect, and have the server prepare the statement; nothing of it takes effect."""
        question = self._question
        self._connection = self._connected()
        if self._ended:
            self.close()
            return
        sql, names = numbered(question.sql, lambda _name: "?")
        self._variables = [f"@p{place}" for place in range(len(names))]
        values = ", ".join(
            f"{variable} = {_written(question.values[name])}"
            for variable, name in zip(self._variables, names, strict=True)
        )
        with self._connection.cursor() as cursor:
            cursor.execute(f"SET @statement = {_written(sql)}{', ' if values else ''}{values}")
            cursor.execute("PREPARE statement FROM @statement")
            if question.reads:  # of the session: else DDL would end the transaction, and then be executed
                cursor.execute("SET SESSION TRANSACTION READ ONLY")
            cursor.execute(f"START TRANSACTION{' READ ONLY' if question.reads else ''}")

    def execute(self, most: int) -> Rows:
        """Run the statement, read its rows, and end the transaction."""
        assert self._connection is not None
        question, rows = self._question, Rows(most)
        using = f" USING {', '.join(self._variables)}" if self._variables else ""
        with self._connection.cursor(SSCursor) as cursor:
            try:
                cursor.execute(f"EXECUTE statement{using}")
                if cursor.description is None:
                    if question.reads:
                        raise pymysql.ProgrammingError(ER.WRONG_ARGUMENTS, "the statement gives no rows")
                    self.count = max(cursor.rowcount, 0)
                else:
                    columns = [column[0] for column in cursor.description]
                    while not (rows.full and question.reads) and (row := cursor.fetchone()) is not None:
                        rows.add(columns, row)
                        self.count += 1
            finally:
                if cursor._result is not None:  # noqa: SLF001  else it is read to its end, over a closed connection too
                    cursor._result.unbuffered_active = False  # noqa: SLF001
        if not question.reads:  # else the end of the connection undoes it
            self._connection.commit()
        return rows

    def _connected(self) -> Any:
        question = self._question
        return pymysql.connect(
            host=question.host,
            port=question.port,
            user=question.user,
            password=question.password,
            database=question.database,
            charset="utf8mb4",
            autocommit=False,
            local_infile=False,
            connect_timeout=max(1, int(self._seconds * 0.8)),
            read_timeout=max(1, int(self._seconds) + 1),
            write_timeout=max(1, int(self._seconds) + 1),
            ssl=None if loopback(question.host) else _tls(),
            ssl_disabled=loopback(question.host),
        )

    def abort(self) -> None:
        """Have the server stop the statement, and let go of the connection; the thread ends with it."""
        self._ended = True
        connection = self._connection
        if connection is None:
            return
        number = connection.thread_id()

        def kill() -> None:
            with suppress(pymysql.Error, OSError), self._connected() as other, other.cursor() as cursor:
                cursor.execute(f"KILL QUERY {number:d}")

        Thread(target=kill, daemon=True, name="transport").start()

    def close(self) -> None:
        """Close the connection at once; what was not committed is undone."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.open:
            with suppress(pymysql.Error, OSError):
                connection._sock.shutdown(socket.SHUT_RDWR)  # noqa: SLF001  a thread may wait for it
            with suppress(pymysql.Error, OSError):
                connection._force_close()  # noqa: SLF001  `close` would wait for a server that hangs


def _written(value: Any) -> str:
    """Return a value as an expression in which nothing has to be escaped."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return str(value)
        case float():
            return str(Decimal(repr(value)))
        case list() | Mapping():
            raise pymysql.ProgrammingError(ER.WRONG_ARGUMENTS, "a parameter is a list, or a map")
        case _:
            return f"CONVERT(X'{str(value).encode(errors='replace').hex()}' USING utf8mb4)"
