"""What a request asks of a database, and how its answer is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from reconciler.model.errors import TransportError
from reconciler.model.value import Frozen
from reconciler.transports.address import Address
from reconciler.transports.messages import Items, RenderedRequest, Response, as_text, login_of

DIGITS = 300
"""Of a whole number that is longer, JSON's readers make an error, or infinity."""


class Question(Frozen):
    """A statement for one database, as one user. `reads` says that it must not change anything."""

    host: str
    port: int
    database: str
    user: str
    password: str
    sql: str
    values: Mapping[str, Any]
    reads: bool

    @classmethod
    def of(cls, request: RenderedRequest, address: Address) -> Question:
        """Take a request apart. Raises TransportError for what no database can be asked."""
        database = address.target.removeprefix("/")
        if not database or any(sign in database for sign in "/?"):
            raise TransportError("a database's URL is scheme://host/database, without a query", left=False)
        login = login_of(request.headers)
        if login is None:
            raise TransportError("a database needs a login: Authorization: Basic {{USER}}:{{PASSWORD}}", left=False)
        data = json.loads(request.content or b"{}")
        return cls(
            host=address.host.strip("[]"),
            port=address.port,
            database=unquote(database),
            user=login[0],
            password=login[1],
            sql=data["sql"],
            values=data.get("parameters") or {},
            reads=request.reads,
        )

    @property
    def where(self) -> tuple[object, ...]:
        """Return what two statements have in common that can share a connection."""
        return self.host, self.port, self.database, self.user, self.password


class Rows(Items):
    """Rows of a database."""

    _columns: Sequence[str] = ()

    def add(self, columns: Sequence[str], row: Iterable[Any]) -> None:
        """Add a row. Sets `full` once the limit is passed."""
        self._columns = columns
        self.keep(dict(zip(columns, row, strict=True)), _plain)

    def answer(self, question: Question, count: int) -> Response:
        """Return the answer of a statement that concerned `count` rows; a check cannot tell columns of one name."""
        again = next((name for name in self._columns if self._columns.count(name) > 1), None)
        if question.reads and again is not None:
            return failed(question, 400, None, f"two columns are called {again}: give one another name with `as`")
        text = str(self) if question.reads else f'{{"rowcount": {count}, "rows": {self}}}'
        return Response(200, {"content-type": "application/json"}, text.encode(errors="replace"), self.full)


def failed(question: Question, status: int, code: object, message: str) -> Response:
    """Return the answer of a statement that failed. It never says that somebody is absent."""
    content = json.dumps({"error": code, "message": message}, ensure_ascii=False).encode(errors="replace")
    return Response(status, {"content-type": "application/json"}, content, decided=False if question.reads else None)


def _plain(value: Any) -> Any:
    match value:
        case date() | time():
            return value.isoformat()
        case Decimal():
            whole = value.is_finite() and value.adjusted() < DIGITS and value == value.to_integral_value()
            return int(value) if whole else str(value)
        case bytes() | bytearray() | memoryview():
            return as_text(bytes(value))
        case set() | frozenset():
            return sorted(map(str, value))
        case _:
            return str(value)
