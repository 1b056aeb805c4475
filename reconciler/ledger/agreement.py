"""Whether the ledger's rows and its history agree: who can write to the state can insert a row, or delete one.

The history is a chain, so a row is compared with what its lines say. A row that they do not know is not acted on, and
`history --verify` finds it, and an account that they know and no row has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.ledger.followed import Followed
from reconciler.ledger.reading import LONG_PAGE, Reading, in_batches
from reconciler.ledger.rows import from_json
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.status import EventType

__all__ = ["disagreement", "untold"]

MADE = (EventType.EXECUTED, EventType.ADOPTED, EventType.CONFIRMED, EventType.ACCEPTED)
"""The events from which on there is an account."""

ATTEMPT = EventType.ATTEMPT_STARTED
"""The event from which on there may be an account, if nothing else is said: it failed half-way."""

ENDED = (EventType.REVOKED, EventType.DROPPED)
"""The events from which on there is none."""


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
