"""Verify the history of a state, within one snapshot of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.ledger.chain import END, Chain, Link, Names, verify
from reconciler.ledger.reading import LONG_PAGE, PAGE, Reading
from reconciler.ledger.rows import line_of
from reconciler.ledger.tree import BLOCK, leaf, root_of
from reconciler.model.status import EventType

__all__ = ["TREE", "lines_of", "tree_of", "verified", "whole_blocks"]


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


TREE = "history_tree"
"""The name of the note that has the id of the last line of the last whole block, and the roots of all whole blocks."""


def tree_of(reading: Reading, at_most: int | None = None) -> tuple[int, bytes]:
    """Return the number of lines, `at_most` these, and the root of the tree over them. `reading` has to be a snapshot.

    Roots of blocks that were kept are taken, unless the first lines are asked for, to verify them.
    """
    newest, blocks = _kept_blocks(reading) if at_most is None else (0, [])
    block = list[bytes]()
    for _, digest in _digests(reading, newest, at_most):
        block.append(leaf(digest))
        if len(block) == BLOCK:
            blocks.append(root_of(block))
            block = []
    return len(blocks) * BLOCK + len(block), root_of([*blocks, *([root_of(block)] if block else [])])


def whole_blocks(reading: Reading, at_most: int) -> bytes | None:
    """Return the note of the roots of whole blocks with some more of them, `at_most`; None if there are none more."""
    newest, blocks = _kept_blocks(reading)
    block, last, before = list[bytes](), newest, len(blocks)
    for line, digest in _digests(reading, newest, at_most * BLOCK):
        block.append(leaf(digest))
        if len(block) == BLOCK:
            blocks.append(root_of(block))
            block, last = [], line
    return None if len(blocks) == before else last.to_bytes(8, "big") + b"".join(blocks)


def _kept_blocks(reading: Reading) -> tuple[int, list[bytes]]:
    note = bytes(reading.value("SELECT value FROM meta WHERE name = :name", name=TREE) or bytes(8))
    return int.from_bytes(note[:8], "big"), [note[at : at + 32] for at in range(8, len(note), 32)]


def _digests(reading: Reading, newest: int, at_most: int | None) -> Iterator[tuple[int, str]]:
    query, left = "SELECT id, digest FROM events WHERE id > :newest ORDER BY id LIMIT :size", at_most
    while left is None or left > 0:
        size = LONG_PAGE if left is None else min(left, LONG_PAGE)
        rows = list(reading.table(query, newest=newest, size=size)[1])
        yield from rows
        if len(rows) < size:
            return
        newest, left = rows[-1][0], None if left is None else left - size


def _renames(reading: Reading) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the lines of renames, each with its number."""
    query = (
        "SELECT * FROM (SELECT *, row_number() OVER (ORDER BY id) AS number FROM events) AS numbered"
        " WHERE event = :event AND salt IS NOT NULL ORDER BY id"
    )
    for row in reading.rows(query, event=EventType.RENAMED):
        yield row["number"], line_of(row)
