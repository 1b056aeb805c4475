"""Verify the history of a state, within one snapshot of it, and whether the ledger's rows agree with it.

Who can write to the state can insert a row, or delete one. The history is a chain, so a row is compared with what its
lines say. A row that they do not know is not acted on, and `history --verify` finds it, and an account that they know
and no row has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from reconciler.ledger.chain import BLOCK, END, Chain, Link, Names, leaf, root_of, verify
from reconciler.ledger.reading import LONG_PAGE, PAGE, Reading, in_batches
from reconciler.ledger.rows import from_json, line_of
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.status import EventType

__all__ = [
    "ENDED",
    "MADE",
    "TREE",
    "Followed",
    "disagreement",
    "lines_of",
    "tree_of",
    "untold",
    "verified",
    "whole_blocks",
]

TREE = "history_tree"
"""The name of the note that has the id of the last line of the last whole block, and the roots of all whole blocks."""

MADE = (EventType.EXECUTED, EventType.ADOPTED, EventType.CONFIRMED, EventType.ACCEPTED)
"""The events from which on there is an account."""

ATTEMPT = EventType.ATTEMPT_STARTED
"""The event from which on there may be an account, if nothing else is said: it failed half-way."""

ENDED = (EventType.REVOKED, EventType.DROPPED)
"""The events from which on there is none."""

State = TypeVar("State")


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


class Followed(Generic[State]):
    """What is known of each grant as lines are followed, oldest first, by the name that it has then.

    A file may be renamed to the stem of somebody who never got what there are lines of, so that two grants' lines have
    one name now. So lines are followed under the names that they were written with, and what is known moves on at the
    line of a rename.
    """

    def __init__(self) -> None:
        self._known: dict[str, State] = {}
        self._moving: dict[str, State | None] = {}

    def renamed(self, name: str, data: Mapping[str, Any] | None) -> State | None:
        """Take a rename to a name, by its line's data; return what moves, if anything is known of it."""
        said = data or {}
        if said.get("place") != len(self._moving):
            self._move()
        moved = self._known.pop(said.get("was", name), None)
        self._moving[name] = moved
        return moved

    def known(self) -> dict[str, State]:
        """Return what is known now, to read and to change."""
        self._move()
        return self._known

    def _move(self) -> None:
        """Give those that were renamed at once their new names, for they may swap them."""
        for name, moved in self._moving.items():
            self._known.pop(name, None)
            if moved is not None:
                self._known[name] = moved
        self._moving.clear()


def untold(reading: Reading, records: Iterable[Record]) -> set[Key]:
    """Return whose rows say that there is, was or may be an account of which the history knows nothing."""
    doubtful = {each.key for each in records if each.leaves_something or each.phase is Phase.REVOKED}
    query = "SELECT DISTINCT hire, access FROM events WHERE hire IN :hires AND event IN :events"
    told = set[Key]()
    for hires in in_batches({key.hire for key in doubtful}):
        told.update(Key(*cells) for cells in reading.table(query, hires=hires, events=[*MADE, ATTEMPT])[1])
    return doubtful - told


def disagreement(reading: Reading) -> str | None:
    """Return the first row that the history contradicts, or account that has no row; None if all agree."""
    made = _made(reading)
    query = (
        "SELECT hire, access, phase, executed_at, confirmed_at FROM grants WHERE (hire, access) > (:hire, :access)"
        " ORDER BY hire, access LIMIT :size"
    )
    for hire, access, phase, executed_at, confirmed_at in _grants(reading, query):
        key = Key(hire, access)
        said = made.pop(str(key), None)
        if phase == Phase.REVOKED:
            if said not in ENDED:
                return f"{key}: the ledger says that it was revoked, and the history does not"
        elif (executed_at is not None or confirmed_at is not None) and said in (None, *ENDED):
            return f"{key}: the ledger has an account, and the history does not say that it was made or found"
    if (locked := _locks(reading)) is not None:
        return locked
    left = next((name for name, said in made.items() if said in MADE), None)
    return left and f"{left}: the history has an account that was never revoked, and the ledger has no row of it"


def _made(reading: Reading) -> dict[str, str]:
    """Return of each grant the newest event that says whether there is an account, or may be."""
    query = "SELECT id, data FROM events WHERE event = :event AND salt IS NOT NULL"
    renames = {row["id"]: from_json(row["data"]) for row in reading.rows(query, event=EventType.RENAMED)}
    followed = Followed[str]()
    query = (
        "SELECT id, coalesce(was, hire || '/' || access), event FROM events WHERE id > :newest AND event IN :events"
        " AND salt IS NOT NULL ORDER BY id LIMIT :size"
    )
    for line, name, event in _pages(reading, query, events=[*MADE, ATTEMPT, *ENDED, EventType.RENAMED]):
        if event == EventType.RENAMED:
            followed.renamed(name, renames.get(line))
        elif event != ATTEMPT or followed.known().get(name) not in MADE:
            followed.known()[name] = event
    return followed.known()


def _locks(reading: Reading) -> str | None:
    """Return the first lock that only the ledger or only the history has."""
    query = "SELECT hire, event FROM events WHERE access = '' AND event IN :events AND salt IS NOT NULL ORDER BY id"
    said = dict(reading.table(query, events=[EventType.LOCKED, EventType.UNLOCKED])[1])
    told = {hire for hire, event in said.items() if event == EventType.LOCKED}
    rows = {hire for (hire,) in reading.table("SELECT hire FROM locks")[1]}
    for hire in sorted(rows ^ told):
        if hire in rows:
            return f"{hire}: the ledger has a lock, and the history does not"
        return f"{hire}: the history has a lock that nobody ended, and the ledger has no row of it"
    return None


def _pages(reading: Reading, query: str, **values: object) -> Iterator[tuple[int, str, str]]:
    newest = 0
    while rows := list(reading.table(query, newest=newest, size=LONG_PAGE, **values)[1]):
        yield from rows
        newest = rows[-1][0]


def _grants(reading: Reading, query: str) -> Iterator[tuple[str, str, str, int | None, int | None]]:
    hire, access = "", ""
    while rows := list(reading.table(query, hire=hire, access=access, size=LONG_PAGE)[1]):
        yield from rows
        hire, access, *_ = rows[-1]
