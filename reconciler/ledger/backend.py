"""What both databases share that can be written to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from reconciler.ledger.reading import Reading

if TYPE_CHECKING:
    import sqlite3

Rows = Mapping[sa.Executable, Sequence[Mapping[str, Any]]]
"""Statements that return nothing, each with the rows that it is executed for."""


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
