"""Verify the history of a state, within one snapshot of it, and whether the ledger's rows agree with it.

Who can write to the state can insert a row, or delete one. The history is a chain, so a row is compared with what its
lines say. A row that they do not know is not acted on, and `history --verify` finds it, and an account that they know
and no row has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

from reconciler.ledger.chain import BLOCK, END, Chain, Link, Names, leaf, root_of, verify
from reconciler.ledger.reading import LONG_PAGE, PAGE, Reading, in_batches, in_pages
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
    _, blocks, left = _grown(reading, _kept_blocks(reading) if at_most is None else (0, []), at_most)
    return len(blocks) * BLOCK + len(left), root_of([*blocks, *([root_of(left)] if left else [])])


def whole_blocks(reading: Reading, at_most: int) -> bytes | None:
    """Return the note of the roots of whole blocks with some more of them, `at_most`; None if there are none more."""
    kept = _kept_blocks(reading)
    last, blocks, _ = _grown(reading, kept, at_most * BLOCK)
    return None if last == kept[0] else last.to_bytes(8, "big") + b"".join(blocks)


def _kept_blocks(reading: Reading) -> tuple[int, list[bytes]]:
    note = bytes(reading.value("SELECT value FROM meta WHERE name = :name", name=TREE) or bytes(8))
    return int.from_bytes(note[:8], "big"), [note[at : at + 32] for at in range(8, len(note), 32)]


def _grown(
    reading: Reading, kept: tuple[int, list[bytes]], at_most: int | None
) -> tuple[int, list[bytes], list[bytes]]:
    """Add the lines that follow whole blocks, `at_most` these, to the tree.

    Return the id of the last line of the last whole block, the roots of all of them, and the leaves of the lines left.
    """
    query = "SELECT id, digest FROM events WHERE id > :newest ORDER BY id LIMIT :size"
    newest, blocks = kept[0], [*kept[1]]
    last, block, left = newest, list[bytes](), at_most
    while left is None or left > 0:
        size = LONG_PAGE if left is None else min(left, LONG_PAGE)
        rows = reading.cells(query, newest=newest, size=size)
        for line, digest in rows:
            block.append(leaf(digest))
            if len(block) == BLOCK:
                blocks.append(root_of(block))
                last, block = line, []
        if len(rows) < size:
            break
        newest, left = rows[-1][0], None if left is None else left - size
    return last, blocks, block


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
    batches = in_batches({key.hire for key in doubtful})
    told = (reading.cells(query, hires=hires, events=[*MADE, ATTEMPT]) for hires in batches)
    return doubtful - {Key(*cells) for some in told for cells in some}


def disagreement(reading: Reading) -> str | None:
    """Return the first row that the history contradicts, or account that has no row; None if all agree."""
    made = _made(reading)
    query = (
        "SELECT hire, access, phase, executed_at, confirmed_at FROM grants WHERE (hire, access) > (:hire, :access)"
        " ORDER BY hire, access LIMIT :size"
    )
    grants = in_pages(partial(reading.cells, query), LONG_PAGE, hire="", access="")
    for hire, access, phase, executed_at, confirmed_at in chain.from_iterable(grants):
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
    events = partial(reading.cells, query, events=[*MADE, ATTEMPT, *ENDED, EventType.RENAMED])
    for line, name, event in chain.from_iterable(in_pages(events, LONG_PAGE, newest=0)):
        if event == EventType.RENAMED:
            followed.renamed(name, renames.get(line))
        elif event != ATTEMPT or followed.known().get(name) not in MADE:
            followed.known()[name] = event
    return followed.known()


def _locks(reading: Reading) -> str | None:
    """Return the first lock that only the ledger or only the history has."""
    query = "SELECT hire, event FROM events WHERE access = '' AND event IN :events AND salt IS NOT NULL ORDER BY id"
    said = dict(reading.cells(query, events=[EventType.LOCKED, EventType.UNLOCKED]))
    told = {hire for hire, event in said.items() if event == EventType.LOCKED}
    rows = set(reading.column("SELECT hire FROM locks"))
    for hire in sorted(rows ^ told):
        if hire in rows:
            return f"{hire}: the ledger has a lock, and the history does not"
        return f"{hire}: the history has a lock that nobody ended, and the ledger has no row of it"
    return None
