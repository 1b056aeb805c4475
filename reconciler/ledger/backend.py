"""What writing a ledger needs of either database."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from reconciler.ledger.reading import Backend, Reading

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["Inserting", "Rows", "WritableBackend", "as_json", "within"]


Rows = Mapping[sa.Executable, Sequence[Mapping[str, Any]]]
"""Statements that return nothing, each with the rows that it is executed for."""


class WritableBackend(Backend, Protocol):
    """A database that is open for writing. Its errors are LedgerErrors."""

    @property
    def file(self) -> Path | None:
        """The file that it is; None on a server."""

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """Open a transaction that is durable, or rolled back, when the block ends."""

    def upserting(self, table: sa.Table, key: Sequence[str], names: Sequence[str]) -> sa.Insert:
        """Return the statement that inserts rows with these columns, or updates those that have the same key."""

    def add(self, connection: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
        """Insert a row, unless there is one of the same key."""

    def finish(self, connection: sa.Connection, rows: Rows, lines: Sequence[Mapping[str, Any]]) -> None:
        """Execute each statement for its rows, then append salted lines to the history: the end of a transaction."""

    def alone(self, connection: sa.Connection, what: str) -> None:
        """Exclude others that call this with the same `what` until this transaction ends."""

    def scrub(self) -> None:
        """Make deleted data unreadable in the database's files."""

    def close(self) -> None:
        """Close the database."""


class Inserting:
    """Inserts rows whose key may exist already, the same way in both databases."""

    insert: Callable[[sa.Table], postgresql.Insert | sqlite.Insert]
    """The `insert` of the dialect."""

    def upsert(
        self, connection: sa.Connection, table: sa.Table, key: Collection[str], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert rows, or update those that have the same key; all of them name the same columns."""
        connection.execute(self.upserting(table, tuple(key), tuple(rows[0])), rows)

    def upserting(self, table: sa.Table, key: Sequence[str], names: Sequence[str]) -> sa.Insert:
        """Return the statement of `upsert`, for rows with these columns."""
        return _upserting(self.insert, table, key, names)

    def add(self, connection: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
        """Insert a row, unless there is one of the same key."""
        connection.execute(self.insert(table).values(row).on_conflict_do_nothing())


def as_json(value: Any) -> str:
    """Write a column of JSON. Most are empty, and to encode those would take a tenth of the time of a row."""
    return "{}" if value == {} else "[]" if value == [] else json.dumps(value)


@cache
def _upserting(
    insert: Callable[[sa.Table], postgresql.Insert | sqlite.Insert],
    table: sa.Table,
    key: Sequence[str],
    names: Sequence[str],
) -> sa.Insert:
    """Make the statement once: to make it takes as long as to execute it."""
    statement = insert(table).inline().values({name: sa.bindparam(name) for name in names})
    update = {name: statement.excluded[name] for name in names if name not in key}
    return statement.on_conflict_do_update(index_elements=list(key), set_=update)


def within(connection: sa.Connection) -> Reading:
    """Read in the transaction of a connection."""
    driver: Any = connection.connection.driver_connection
    return Reading(driver, postgres=connection.dialect.name == "postgresql")
