"""Read tables in plain SQL, the same text for both databases, so that reading needs only a driver.

The values are plain, too: times are whole microseconds since 1970 in UTC, which both databases sort and compare alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from itertools import chain, product
from typing import Any, Protocol, overload

__all__ = [
    "EPOCH",
    "MICROSECOND",
    "SERVER_TIME",
    "Backend",
    "Reading",
    "Row",
    "lowered",
    "microseconds",
    "moment",
    "without_nul",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Row = Mapping[str, Any]
"""A row, by column."""

SERVER_TIME = "cast(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
"""The server's time, which is the same for all members."""

MOST_LETTERS = 5
"""The most letters of a text of which either case is looked for."""

_NAME = re.compile(r"(\bIN )?:(\w+)")


def microseconds(moment: datetime) -> int:
    """Write a time as a column has it."""
    return (moment - EPOCH) // MICROSECOND


@overload
def moment(microseconds: int) -> datetime: ...


@overload
def moment(microseconds: None) -> None: ...


def moment(microseconds: int | None) -> datetime | None:
    """Read a time in UTC from a column."""
    return None if microseconds is None else EPOCH + microseconds * MICROSECOND


def lowered(text: str) -> set[str]:
    """Return what the databases' `lower` may make of a text that is written in any case: they change only ASCII.

    Of a text with many other letters these are not all, but the likely ones.
    """
    if text.isascii():
        return {text.lower()}
    letters = [each for each in text if not each.isascii() and each.lower() != each.upper()]
    if len(letters) > MOST_LETTERS:
        return {_ascii_lowered(each) for each in (text, text.lower(), text.upper(), text.title())}
    cases = ({each.lower()} if each.isascii() else {each, each.lower(), each.upper()} for each in text)
    return {"".join(spelling) for spelling in product(*cases)}


def _ascii_lowered(text: str) -> str:
    return "".join(each.lower() if each.isascii() else each for each in text)


def without_nul(text: str) -> str:
    """Replace NUL, which only others send and PostgreSQL cannot store, by its symbol."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}")


class Driver(Protocol):
    """A connection of `sqlite3` or `psycopg`."""

    def execute(self, text: Any, values: Any, /) -> Any:
        """Execute a statement and return its cursor."""


class Reading:
    """A connection for reading.

    A statement names its values, as in `:hire`; a list follows IN, as in `hire IN :hires`. To PostgreSQL a list is one
    value: a statement has at most 65,535 of them.
    """

    def __init__(self, driver: Driver, *, postgres: bool = False) -> None:
        self._driver = driver
        self._postgres = postgres

    def rows(self, text: str, /, **values: object) -> Iterator[Row]:
        """Read the rows of a statement."""
        columns, cells = self.table(text, **values)
        return (dict(zip(columns, row, strict=True)) for row in cells)

    def table(self, text: str, /, **values: object) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Read the columns of a statement and its rows by place, where there may be very many."""
        cursor = self._executed(text, values)
        return [column[0] for column in cursor.description or ()], iter(cursor)

    def column(self, text: str, /, **values: object) -> list[Any]:
        """Read the only column of a statement that may have very many rows."""
        return list(chain.from_iterable(self._executed(text, values)))

    def _executed(self, text: str, values: Mapping[str, object]) -> Any:
        bound: list[Any] = []  # by place: SQLite compares each name with every other

        def mark(match: re.Match[str]) -> str:
            value = values[match[2]]
            if not match[1]:
                bound.append(self._value(value))
                return "%s" if self._postgres else "?"
            assert isinstance(value, list | tuple)
            several = list(map(self._value, value))
            if self._postgres:
                bound.append(several)
                return "= ANY(%s)"
            bound.extend(several)
            return f"IN ({', '.join('?' * len(several)) or 'NULL'})"

        return self._driver.execute(self._spelt(_NAME.sub(mark, text)), bound)

    def row(self, text: str, /, **values: object) -> Row | None:
        """Read the first row; None if there is none."""
        return next(self.rows(text, **values), None)

    def value(self, text: str, /, **values: object) -> Any:
        """Read the only column of the first row; None if there is no row."""
        row = self.row(text, **values)
        return None if row is None else next(iter(row.values()))

    def has(self, table: str) -> bool:
        """Whether there is a table of this name."""
        query = "SELECT to_regclass(:table)" if self._postgres else "SELECT name FROM sqlite_master WHERE name = :table"
        return self.value(query, table=table) is not None

    def _spelt(self, text: str) -> str:
        """Adapt a statement to the database: SQLite locks no rows, and uses a partial index only with the same text."""
        return text if self._postgres else text.replace(" FOR KEY SHARE", "").replace(" IS TRUE", " IS 1")

    def _value(self, value: object) -> object:
        if isinstance(value, datetime):
            return microseconds(value)
        if isinstance(value, str):  # also a member of an enumeration
            text = str(value).encode(errors="backslashreplace").decode()  # no database takes half a surrogate pair
            return without_nul(text) if self._postgres else text
        return value


class Backend(Protocol):
    """A database that is open for reading. Its errors are LedgerErrors."""

    @property
    def remote(self) -> bool:
        """Whether calls go over the network."""

    @property
    def unattended(self) -> bool:
        """Whether no process had the state when it was opened."""

    def reading(self) -> AbstractContextManager[Reading]:
        """Open a connection for reading, to be used only within the block."""

    def snapshot(self) -> AbstractContextManager[Reading]:
        """Open a connection for reading on which the state is the same to the end of the block, whoever writes."""
