"""Copy a state to another place, completely or not at all: from a file to a server when a fleet begins, or back.

Rows are copied unchanged, so that the history's chain stays valid; it is verified before the copy is committed. Rows
of the moment are left out: who has the state, and what members share.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.ledger.backend import within
from reconciler.ledger.chain import Chain
from reconciler.ledger.history import verified
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.reading import PAGE
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LedgerError

_TABLES = tuple(
    table for table in schema.metadata.sorted_tables if table is schema.shards or table not in schema.MOMENTARY
)


def copy(source: StateLocation, ledger: LedgerWriter, target: StateLocation) -> Chain:
    """Copy a state that the caller has locked to an empty place, and return the verified chain.

    Raises LedgerError if there is a state already, or the history is broken; then nothing is left there.
    """
    found: list[Chain] = []

    def fill(there: sa.Connection) -> None:
        if any(
            there.execute(sa.select(table).limit(1)).first()
            for table in (*_TABLES, schema.members)
            if table is not schema.meta
        ):
            raise LedgerError(f"{target} has a state already, which is not written over: name a place that has none")
        there.execute(sa.delete(schema.meta))
        with ledger.backend.writing() as here:
            for table in _TABLES:
                _insert(there, table, _rows(here, table))
        chain = verified(within(there))
        if chain.broken is not None:
            raise LedgerError(f"nothing was copied, for the history of {source} is not whole: {chain.broken}")
        found.append(chain)

    target.make(fill)
    return found[0]


def _rows(here: sa.Connection, table: sa.Table) -> Iterator[dict[str, Any]]:
    with here.execute(sa.select(table).execution_options(yield_per=PAGE)) as rows:
        for row in rows.mappings():
            yield {**row, "owner": None, "until": None} if table is schema.shards else dict(row)


def _insert(there: sa.Connection, table: sa.Table, rows: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(rows, PAGE)):
        there.execute(sa.insert(table), batch)
    if there.dialect.name == "postgresql" and "id" in table.c:
        newest = sa.select(sa.func.max(table.c.id)).scalar_subquery()
        there.execute(sa.select(sa.func.setval(sa.func.pg_get_serial_sequence(table.name, "id"), newest)))
