"""Reading tables in plain SQL, the same text for both databases: what only reads needs no more than a driver.

What a database gives is plain, too: moments are whole microseconds since 1970 in UTC, so that both sort and compare
them alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, overload

__all__ = ["EPOCH", "MICROSECOND", "SERVER_TIME", "Backend", "Reading", "Row", "microseconds", "moment", "without_nul"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Row = Mapping[str, Any]
"""A row, by the names of its columns."""

SERVER_TIME = "cast(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
"""PostgreSQL's time, which is the same for all members."""

_NAME = re.compile(r":(\w+)")


def microseconds(moment: datetime) -> int:
    """What a column has of a time."""
    return (moment - EPOCH) // MICROSECOND


@overload
def moment(microseconds: int) -> datetime: ...


@overload
def moment(microseconds: None) -> None: ...


def moment(microseconds: int | None) -> datetime | None:
    """A time in UTC, of what a column has of it."""
    return None if microseconds is None else EPOCH + microseconds * MICROSECOND


def without_nul(text: str) -> str:
    """A text that PostgreSQL can hold: it comes only from what others sent, and the sign for a NUL stands there."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}")


class Driver(Protocol):
    """A connection of `sqlite3` or `psycopg`."""

    def execute(self, text: Any, values: Any, /) -> Any:
        """Give the cursor of a statement."""


class Reading:
    """A connection to read from.

    A statement names its values, `:hire`; a list stands for as many, in parentheses: `hire IN :hires`.
    """

    def __init__(self, driver: Driver, *, postgres: bool = False) -> None:
        self._driver = driver
        self._postgres = postgres

    def rows(self, text: str, /, **values: object) -> Iterator[Row]:
        """The rows, as the database gives them."""
        bound: dict[str, Any] = {}

        def mark(match: re.Match[str]) -> str:
            name = match[1]
            value = values[name]
            if isinstance(value, list | tuple):
                names = [f"{name}_{index}" for index in range(len(value))]
                bound.update(zip(names, map(self._value, value), strict=True))
                return f"({', '.join(map(self._mark, names)) or 'NULL'})"
            bound[name] = self._value(value)
            return self._mark(name)

        cursor = self._driver.execute(self._spelt(_NAME.sub(mark, text)), bound)
        columns = [column[0] for column in cursor.description or ()]
        return (dict(zip(columns, row, strict=True)) for row in cursor)

    def row(self, text: str, /, **values: object) -> Row | None:
        """The first row; None where there is none."""
        return next(self.rows(text, **values), None)

    def value(self, text: str, /, **values: object) -> Any:
        """The only column of the first row; None where there is none."""
        row = self.row(text, **values)
        return None if row is None else next(iter(row.values()))

    def has(self, table: str) -> bool:
        """Whether there is a table of this name."""
        query = "SELECT to_regclass(:table)" if self._postgres else "SELECT name FROM sqlite_master WHERE name = :table"
        return self.value(query, table=table) is not None

    def _mark(self, name: str) -> str:
        return f"%({name})s" if self._postgres else f":{name}"

    def _spelt(self, text: str) -> str:
        """As the database has it: SQLite locks no rows, and uses a partial index only where it is spelt alike."""
        return text if self._postgres else text.replace(" FOR KEY SHARE", "").replace(" IS TRUE", " IS 1")

    def _value(self, value: object) -> object:
        if isinstance(value, datetime):
            return microseconds(value)
        if isinstance(value, str):  # a member of an enumeration, too
            return without_nul(str(value)) if self._postgres else str(value)
        return value


class Backend(Protocol):
    """A database that is open to be read. What goes wrong in it is a LedgerError."""

    @property
    def remote(self) -> bool:
        """Whether a call goes over the network, and takes as long as that does."""

    @property
    def unattended(self) -> bool:
        """Whether it was opened to be read while no process held the state."""

    def reading(self) -> AbstractContextManager[Reading]:
        """Give a connection to read from; what is read of it is read before the block ends."""
