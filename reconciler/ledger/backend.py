"""What writing a ledger needs of either database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from reconciler.ledger.reading import Backend, Reading

if TYPE_CHECKING:
    import sqlite3

Rows = Mapping[sa.Executable, Sequence[Mapping[str, Any]]]
"""Statements that return nothing, each with the rows that it is executed for."""


class WritableBackend(Backend, Protocol):
    """A database that is open for writing. Its errors are LedgerErrors."""

    @property
    def file(self) -> Path | None:
        """The file that it is; None on a server."""

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """Open a transaction that is durable, or rolled back, when the block ends."""

    def finish(self, connection: sa.Connection, rows: Rows, lines: Sequence[Mapping[str, Any]]) -> None:
        """Execute each statement for its rows, then append salted lines to the history: the end of a transaction."""

    def exclude_others(self, connection: sa.Connection, what: str) -> None:
        """Exclude others that call this with the same `what` until this transaction ends."""

    def scrub(self) -> None:
        """Make deleted data unreadable in the database's files."""

    def close(self) -> None:
        """Close the database."""


def as_json(value: Any) -> str:
    """Write a column of JSON. Most are empty, and to encode those would take a tenth of the time of a row."""
    return "{}" if value == {} else "[]" if value == [] else json.dumps(value)


def engine_over(connection: sqlite3.Connection) -> sa.Engine:
    """Make an engine with one SQLite connection: the ledger has one writer, and each reader opens its own."""
    return sa.create_engine(
        "sqlite://", creator=lambda: connection, poolclass=sa.pool.StaticPool, json_serializer=as_json
    )


@cache
def upserting(dialect: str, table: sa.Table, key: tuple[str, ...], names: tuple[str, ...]) -> sa.Insert:
    """Make the statement of a dialect that inserts rows, or updates those that have the same key.

    It is made once: to make it takes as long as to execute it.
    """
    insert = import_module(f"sqlalchemy.dialects.{dialect}").insert
    statement = insert(table).inline().values({name: sa.bindparam(name) for name in names})
    update = {name: statement.excluded[name] for name in names if name not in key}
    found: sa.Insert = statement.on_conflict_do_update(index_elements=key, set_=update)
    return found


def within(connection: sa.Connection) -> Reading:
    """Read in the transaction of a connection."""
    driver: Any = connection.connection.driver_connection
    return Reading(driver, postgres=connection.dialect.name == "postgresql")
