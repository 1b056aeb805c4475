"""Verify the history of a state, within one snapshot of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.ledger.chain import END, Chain, Link, Names, verify
from reconciler.ledger.reading import Reading
from reconciler.ledger.rows import line_of
from reconciler.model.status import EventType

__all__ = ["lines_of", "verified"]

PAGE = 1000
"""The most lines of one statement."""


def verified(reading: Reading) -> Chain:
    """Verify the chain of the whole history. `reading` has to be a snapshot."""
    noted = Link.of(reading.value("SELECT value FROM meta WHERE name = :name", name=END))
    return verify(lines_of(reading), noted, Names(_renames(reading)))


def lines_of(reading: Reading) -> Iterator[dict[str, Any]]:
    """Read the lines of the history, oldest first."""
    newest = 0
    while True:
        query = "SELECT * FROM events WHERE id > :newest ORDER BY id LIMIT :size"
        rows = list(reading.rows(query, newest=newest, size=PAGE))
        yield from map(line_of, rows)
        if len(rows) < PAGE:
            return
        newest = rows[-1]["id"]


def _renames(reading: Reading) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the lines of renames, each with its number."""
    query = (
        "SELECT * FROM (SELECT *, row_number() OVER (ORDER BY id) AS number FROM events) AS numbered"
        " WHERE event = :event AND salt IS NOT NULL ORDER BY id"
    )
    for row in reading.rows(query, event=EventType.RENAMED):
        yield row["number"], line_of(row)
