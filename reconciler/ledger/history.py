"""Read the history of a ledger, and verify it within one snapshot, and whether the ledger's rows agree with it.

Who can write to the state can insert a row, or delete one. The history is a chain, so a row is compared with what its
lines say. A row that they do not know is not acted on, and `history --verify` finds it, and an account that they know
and no row has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from reconciler.ledger.browsing import PAGED, Page
from reconciler.ledger.chain import BLOCK, END, Chain, Link, Names, leaf, root_of, verify
from reconciler.ledger.entries import Event
from reconciler.ledger.reading import LONG_PAGE, LedgerPart, Reading, among, in_batches, in_pages, moment, where_of
from reconciler.ledger.rows import entry_of, from_json, line_of
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.status import EventType, Status
from reconciler.model.value import Frozen, replace

_REMOVED = (
    "SELECT hire, access, event, revision, at, was FROM events WHERE event IN ('orphaned', 'expired', 'revoked')"
    " AND hire IN :hires ORDER BY id"
)
_ANSWERED = (
    "SELECT a.hire, a.access, MAX(r.answered_at) FROM attempts a JOIN requests r ON r.attempt = a.id"
    " WHERE a.kind IN ('revoke', 'withdraw') AND a.error IS NULL AND r.answered_at IS NOT NULL AND a.hire IN :hires"
    " GROUP BY a.hire, a.access"
)


class Removed(Frozen):
    """Since which revision, and when, git does not want a grant; `gone_at` is None until its account is gone.

    That is when the last request of its removal was answered, or when a check found it gone.
    """

    orphaned_at: datetime | None = None
    revision: str | None = None
    gone_at: datetime | None = None
    hire: str | None = None
    """The hire's id at that revision: the row may have been renamed since."""


class LineFilters(TypedDict, total=False):
    """Which lines of the history: of some, from `since` on and before `until`."""

    hires: Collection[str]
    integrations: Collection[str]
    events: Collection[EventType]
    since: datetime | None
    until: datetime | None


class History(LedgerPart):
    """The lines of the history, without those of forgotten people, and their chain."""

    def lines(self, **filters: Unpack[LineFilters]) -> Iterator[Event]:
        """Read the history, oldest first."""
        where, values = _conditions(**filters)
        query = f"SELECT * FROM events{where} AND id > :newest ORDER BY id LIMIT :size"
        for rows in in_pages(partial(self._rows, query, **values), newest=0):
            yield from (entry_of(Event, row) for row in rows)

    def page(self, page: Page, **filters: Unpack[LineFilters]) -> list[Event]:
        """Read a page of the history, newest first; the filters are those of `lines`."""
        where, values = _conditions(**filters)
        query = f"SELECT * FROM events{where} ORDER BY id DESC{PAGED}"
        return [entry_of(Event, row) for row in self._rows(query, **values, **page.values)]

    def count(self, **filters: Unpack[LineFilters]) -> int:
        """Count the lines that `page` reads."""
        where, values = _conditions(**filters)
        return int(self._value(f"SELECT count(*) FROM events{where}", **values) or 0)

    def begin(self) -> tuple[datetime | None, int]:
        """Return when the first line was written, of those that are not erased, and how many are."""
        query = (
            "SELECT MIN(CASE WHEN salt IS NOT NULL THEN at END), COUNT(CASE WHEN salt IS NULL THEN 1 END) FROM events"
        )
        for first, erased in self._cells(query):
            return moment(first), erased
        return None, 0

    def end(self) -> Link:
        """Return the length of the history and its last digest. Raises LedgerError if the note is damaged."""
        return Link.of(self._note(END))

    def has_line(self, digest: str) -> bool:
        """Whether the history has a line of this digest, also of a person who was forgotten."""
        return self._value("SELECT id FROM events WHERE digest = :digest LIMIT 1", digest=digest) is not None

    def verify(self) -> Chain:
        """Verify the chain of the whole history."""
        with self._backend.snapshot() as reading:
            return verified(reading)

    def verify_agreement(self) -> tuple[Chain, str | None]:
        """Verify the chain, and return with it where the ledger and the history disagree first."""
        with self._backend.snapshot() as reading:
            return verified(reading), disagreement(reading)

    def tree(self, at_most: int | None = None) -> tuple[int, bytes]:
        """Return the number of lines of the history, `at_most` these, and the root of the Merkle tree over them."""
        with self._backend.snapshot() as reading:
            return tree_of(reading, at_most)

    def untold(self, records: Iterable[Record]) -> set[Key]:
        """Return whose rows the history does not know."""
        with self._backend.reading() as reading:
            return untold(reading, records)

    def removals(self, hires: Collection[str]) -> dict[Key, Removed]:
        """Return when access of some hires was no longer wanted, and was gone: the last time of each grant."""
        found: dict[Key, Removed] = {}
        for names in in_batches(hires):
            for hire, access, event, revision, at, was in self._cells(_REMOVED, hires=names):
                key, when = Key(hire, access), moment(at)
                named = str(was).partition("/")[0] if was is not None else hire
                before = found.get(key, Removed(hire=named))
                if event == EventType.ORPHANED or (event == EventType.EXPIRED and before.gone_at is not None):
                    found[key] = Removed(when, revision, hire=named)
                elif event == EventType.EXPIRED:
                    found[key] = Removed(before.orphaned_at or when, before.revision or revision, hire=before.hire)
                else:
                    found[key] = replace(before, revision=before.revision or revision, gone_at=when)
            for hire, access, at in self._cells(_ANSWERED, hires=names):
                before, when = found.get(Key(hire, access), Removed()), moment(at)
                if before.gone_at is not None and (before.orphaned_at is None or when >= before.orphaned_at):
                    found[Key(hire, access)] = replace(before, gone_at=when)
        return found


def _conditions(**filters: Unpack[LineFilters]) -> tuple[str, dict[str, object]]:
    values: dict[str, object] = {}
    columns = {"hire": filters.get("hires", ()), "integration": filters.get("integrations", ())}
    where = ["salt IS NOT NULL", *among(values, **columns, event=filters.get("events", ()))]
    if (since := filters.get("since")) is not None:
        where.append("at >= :since")
        values["since"] = since
    if (until := filters.get("until")) is not None:
        where.append("at < :until")
        values["until"] = until
    return where_of(where), values


# --- verify -----------------------------------------------------------------------------------------------------------

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
    query = "SELECT * FROM events WHERE id > :newest ORDER BY id LIMIT :size"
    for rows in in_pages(lambda **given: list(reading.rows(query, **given)), newest=0):
        yield from map(line_of, rows)


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
        "SELECT hire, access, phase, status, executed_at, confirmed_at FROM grants"
        " WHERE (hire, access) > (:hire, :access) ORDER BY hire, access LIMIT :size"
    )
    grants = in_pages(partial(reading.cells, query), LONG_PAGE, hire="", access="")
    for hire, access, phase, status, executed_at, confirmed_at in chain.from_iterable(grants):
        key = Key(hire, access)
        said = made.pop(str(key), None)
        if phase == Phase.REVOKED or status == Status.REVOKED:
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
    renames = {row["id"]: from_json(row["data"], dict) for row in reading.rows(query, event=EventType.RENAMED)}
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
