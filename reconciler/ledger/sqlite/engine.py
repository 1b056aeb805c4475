"""SQLAlchemy over one SQLite connection, for what writes and for what migrates a copy in memory."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa

from reconciler.ledger.backend import as_json
from reconciler.ledger.migrate import upgrade

__all__ = ["bring_up_to_date", "engine_over"]


def engine_over(connection: sqlite3.Connection) -> sa.Engine:
    """Make an engine with one connection: the ledger has one writer, and each reader opens its own."""
    return sa.create_engine(
        "sqlite://", creator=lambda: connection, poolclass=sa.pool.StaticPool, json_serializer=as_json
    )


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Migrate the tables of a state in memory."""
    with engine_over(connection).begin() as transaction:
        upgrade(transaction)
