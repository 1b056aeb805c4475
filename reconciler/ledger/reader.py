"""Read the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from reconciler.ledger.agreement import disagreement, untold
from reconciler.ledger.browsing import Browsing, after, history_conditions, sent_of_attempts, where_of
from reconciler.ledger.chain import Chain
from reconciler.ledger.entries import Attempt, Command, Event, GrantFilter, Member, Sent
from reconciler.ledger.guard_counts import GuardCounts
from reconciler.ledger.lease import OURS
from reconciler.ledger.reading import SERVER_TIME, Reading, Row, lowered, moment
from reconciler.ledger.removed import Removed, removed_in
from reconciler.ledger.rows import (
    RECORD_COLUMNS,
    SELECT_GIVEN,
    attempt_of,
    command_of,
    event_of,
    given_of,
    lock_of,
    record_by_place,
)
from reconciler.ledger.verifying import tree_of, verified
from reconciler.model.given import Given, Untraced
from reconciler.model.grant import Key, Outcome, Record, Step
from reconciler.model.lock import Lock, LockState
from reconciler.model.status import Action, EventType, Status

__all__ = ["GIVEN", "LISTED", "UNTRACED", "LedgerReader", "given_in"]

_RUN = RECORD_COLUMNS.index("run")

PAGE = 1000
"""The most rows of one statement, where there may be any number."""

MANY = 500
"""The most hires, or names, of one statement."""

GIVEN = "given_up_to"
"""The name of the note that has the revision up to which it is known who gave each grant, but for `UNTRACED` hires."""

UNTRACED = "untraced/"
"""The prefix of the note, by hire, of what is yet to be found out of who gave its grants."""

LISTED = "listed_at/"
"""The prefix of the note, by integration, of when its listing was last read to its end."""


class LedgerReader(Browsing, GuardCounts):
    """The ledger of one state, for reading only."""

    # Grants

    def records(
        self, hires: Collection[str] | None = None, emails: Collection[str] = (), only: GrantFilter | None = None
    ) -> Iterator[Record]:
        """Read every record, or those of some hires and addresses; unsettled ones with the steps of their run."""
        where, values = [], dict[str, list[str]]()
        if hires is not None:
            where.append("(hire IN :hires OR lower(email) IN :emails)")
            spellings = {spelling for email in emails for spelling in lowered(email)}
            values |= {"hires": sorted(hires), "emails": sorted(spellings)}
        if only is not None:
            # As expressions, which no index matches: hires have far fewer rows than an integration.
            where.append("(coalesce(integration, '') IN :integrations OR coalesce(access, '') IN :names)")
            values |= {"integrations": sorted(only.integrations), "names": sorted(only.names)}
        size = PAGE if hires is None else None
        for _, rows in self._tables("grants", where, values, "hire", "access", columns=RECORD_COLUMNS, size=size):
            steps = self._steps([row[_RUN] for row in rows if row[_RUN] is not None])
            for row in rows:
                yield record_by_place(row, steps.get(row[_RUN], ()))

    def record(self, key: Key) -> Record | None:
        """Read one grant's record."""
        return next((record for record in self.records([key.hire]) if record.key == key), None)

    def origins_after(self, key: Key) -> tuple[list[tuple[str, str, str | None]], Key | None]:
        """Read whose the next grants are, with the address and the sequence that gave each, and the last one's key.

        None where there are no more.
        """
        query = (
            "SELECT hire, access, email, origin FROM grants WHERE (hire, access) > (:hire, :access)"
            " ORDER BY hire, access LIMIT :at_most"
        )
        with self.backend.reading() as reading:
            rows = list(reading.table(query, hire=key.hire, access=key.access, at_most=PAGE)[1])
        last = Key(*rows[-1][:2]) if len(rows) == PAGE else None
        return [(hire, email, origin) for hire, _, email, origin in rows], last

    def due(self, now: datetime) -> list[Key]:
        """List the grants whose retry is due and that were not checked since.

        A check that failed then is not repeated before its turn comes.
        """
        query = (
            "SELECT hire, access FROM grants WHERE retry_at <= :now"
            " AND (status = :retrying OR (locked = :pending AND action = :waits))"
            " AND (checked_at IS NULL OR checked_at < retry_at)"
        )
        with self.backend.reading() as reading:
            pending = {"pending": LockState.PENDING, "waits": Action.WAIT}
            return [_key(row) for row in reading.rows(query, now=now, retrying=Status.RETRYING, **pending)]

    def expiring(self, now: datetime) -> list[Key]:
        """List the grants whose time is over, and those of them that are to be asked for again."""
        query = "SELECT hire, access FROM grants WHERE expire_at <= :now"
        with self.backend.reading() as reading:
            return [_key(row) for row in reading.rows(query, now=now)]

    def counts(self) -> Counter[tuple[str, Status]]:
        """Count the grants of each integration and status."""
        query = "SELECT integration, status, count(*) AS count FROM grants GROUP BY integration, status"
        with self.backend.reading() as reading:
            return Counter({(row["integration"], Status(row["status"])): row["count"] for row in reading.rows(query)})

    def hires(self) -> set[str]:
        """List every hire in the ledger."""
        with self.backend.reading() as reading:
            return set(reading.column("SELECT DISTINCT hire FROM grants"))

    def hires_after(self, hire: str, at_most: int) -> list[str]:
        """List the hires in the ledger from the first one after this on, in their order."""
        query = "SELECT DISTINCT hire FROM grants WHERE hire > :hire ORDER BY hire LIMIT :at_most"
        with self.backend.reading() as reading:
            return reading.column(query, hire=hire, at_most=at_most)

    def names(self) -> set[str]:
        """List every hire, access and integration in the ledger."""
        query = "SELECT hire FROM grants UNION SELECT access FROM grants UNION SELECT integration FROM grants"
        with self.backend.reading() as reading:
            return set(reading.column(query))

    def integrations(self, hires: Collection[str]) -> Iterator[tuple[str, str]]:
        """List pairs of a hire and an integration of which it has grants, among these hires."""
        query = "SELECT DISTINCT hire, integration FROM grants WHERE hire IN :hires"
        with self.backend.reading() as reading:
            rows = list(reading.rows(query, hires=sorted(hires)))
        yield from ((row["hire"], row["integration"]) for row in rows)

    def _steps(self, runs: list[int]) -> dict[int | None, tuple[Step, ...]]:
        if not runs:
            return {}
        latest: dict[int | None, dict[int, Step]] = {}
        with self.backend.reading() as reading:
            for row in reading.rows("SELECT * FROM requests WHERE run IN :runs ORDER BY id", runs=runs):
                step = Step(row["place"], row["text"], bool(row["mutates"]), Outcome(row["outcome"]))
                latest.setdefault(row["run"], {})[row["place"]] = step
        return {run: tuple(steps[place] for place in sorted(steps)) for run, steps in latest.items()}

    # Attempts

    def open_attempts(self) -> list[Attempt]:
        """Read the attempts without an end: they run now, or a crash interrupted them."""
        with self.backend.reading() as reading:
            return [
                attempt_of(row) for row in reading.rows("SELECT * FROM attempts WHERE ended_at IS NULL ORDER BY id")
            ]

    def attempts(self, key: Key) -> list[tuple[Attempt, list[Sent]]]:
        """Read the attempts at one grant, oldest first, with their requests."""
        query = "SELECT * FROM attempts WHERE hire = :hire AND access = :access ORDER BY id"
        with self.backend.reading() as reading:
            attempts = [attempt_of(row) for row in reading.rows(query, hire=key.hire, access=key.access)]
            sent = sent_of_attempts(reading, attempts)
        return [(attempt, sent.get(attempt.id, [])) for attempt in attempts]

    # History

    def history(
        self,
        *,
        hires: Collection[str] = (),
        integrations: Collection[str] = (),
        events: Collection[EventType] = (),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Event]:
        """Read the history, oldest first, from `since` on and before `until`, without forgotten people."""
        where, values = history_conditions(
            hires=hires, integrations=integrations, events=events, since=since, until=until
        )
        for rows in self._pages("events", where, values, "id"):
            yield from map(event_of, rows)

    def verify_history(self) -> Chain:
        """Verify the chain of the whole history."""
        with self.backend.snapshot() as reading:
            return verified(reading)

    def tree(self, at_most: int | None = None) -> tuple[int, bytes]:
        """Return the number of lines of the history, `at_most` these, and the root of the Merkle tree over them."""
        with self.backend.snapshot() as reading:
            return tree_of(reading, at_most)

    def verify_agreement(self) -> tuple[Chain, str | None]:
        """Verify the chain, and return with it where the ledger and the history disagree first."""
        with self.backend.snapshot() as reading:
            return verified(reading), disagreement(reading)

    def untold(self, records: Iterable[Record]) -> set[Key]:
        """Return whose rows the history does not know."""
        with self.backend.reading() as reading:
            return untold(reading, records)

    def _pages(self, table: str, where: list[str], values: Mapping[str, object], *key: str) -> Iterator[list[Row]]:
        """Read rows in the order of a key, in batches."""
        for columns, rows in self._tables(table, where, values, *key):
            yield [dict(zip(columns, row, strict=True)) for row in rows]

    def _tables(
        self,
        table: str,
        where: list[str],
        values: Mapping[str, object],
        *key: str,
        columns: Sequence[str] = ("*",),
        size: int | None = PAGE,
    ) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
        """Read rows by place, in the order of a key.

        They come in batches, so that no statement stays open while the caller uses them.
        """
        order, limit = f" ORDER BY {', '.join(key)}", "" if size is None else f" LIMIT {size}"
        after = f"({', '.join(key)}) > ({', '.join(f':{name}_before' for name in key)})"
        last: dict[str, object] = {}
        while True:
            chosen = where_of([*where, after] if last else where)
            query = f"SELECT {', '.join(columns)} FROM {table}{chosen}{order}{limit}"
            with self.backend.reading() as reading:
                names, cells = reading.table(query, **values, **last)
                rows = list(cells)
            yield names, rows
            if size is None or len(rows) < size:
                return
            last = {f"{name}_before": rows[-1][names.index(name)] for name in key}

    def has_line(self, digest: str) -> bool:
        """Whether the history has a line of this digest, also of a person who was forgotten."""
        with self.backend.reading() as reading:
            return reading.row("SELECT id FROM events WHERE digest = :digest LIMIT 1", digest=digest) is not None

    # Accounts

    def listed_at(self, integration: str) -> datetime | None:
        """Return when a listing of the integration was last read to its end; None if it never was."""
        note = self.note(f"{LISTED}{integration}")
        return None if note is None else datetime.fromisoformat(note.decode())

    def seen(self, integration: str) -> set[str]:
        """Return the accounts of a listing that were seen, by digest."""
        with self.backend.reading() as reading:
            query = "SELECT account FROM accounts WHERE integration = :integration"
            return set(reading.column(query, integration=integration))

    def seen_after(self, integration: str, account: str, at_most: int) -> list[str]:
        """Return the accounts of a listing that were seen, by digest, from the first one after this on, in order."""
        query = (
            "SELECT account FROM accounts WHERE integration = :integration AND account > :account "
            "ORDER BY account LIMIT :at_most"
        )
        with self.backend.reading() as reading:
            return reading.column(query, integration=integration, account=account, at_most=at_most)

    def first_seen(self, integration: str) -> dict[str, datetime]:
        """Return when each account of a listing was first seen, by its digest."""
        query = "SELECT account, first_seen FROM accounts WHERE integration = :integration"
        with self.backend.reading() as reading:
            rows = reading.rows(query, integration=integration)
            return {row["account"]: moment(row["first_seen"]) for row in rows}

    # Who gave it

    def given(self, hires: Collection[str] | None = None) -> dict[Key, Given]:
        """Return who gave each grant of some hires, or of all, as far as it is known."""
        with self.backend.reading() as reading:
            return given_in(reading, hires)

    def removed(self, hires: Collection[str]) -> dict[Key, Removed]:
        """Return when access of some hires was no longer wanted, and was gone."""
        names, found = sorted(hires), dict[Key, Removed]()
        with self.backend.reading() as reading:
            for start in range(0, len(names), MANY):
                found |= removed_in(reading, names[start : start + MANY])
        return found

    def given_up_to(self) -> str | None:
        """Return the revision up to which it is known who gave each grant, but for hires that are untraced."""
        note = self.note(GIVEN)
        return None if note is None else note.decode()

    def untraced(self, hires: Collection[str] | None = None) -> dict[str, Untraced]:
        """Return those of some hires, or of all, of whose grants it has yet to be found out who gave them."""
        if hires is None:
            return {hire: _untraced_of(value) for hire, value in self.notes(UNTRACED).items()}
        names, found = [f"{UNTRACED}{hire}" for hire in sorted(hires)], dict[str, Untraced]()
        for start in range(0, len(names), MANY):
            found |= self._untraced("name IN :names", names=names[start : start + MANY])
        return found

    def untraced_after(self, hire: str, at_most: int) -> dict[str, Untraced]:
        """Return such hires from the first one after this on, in their order."""
        which = "name > :first AND name < :end ORDER BY name LIMIT :at_most"
        return self._untraced(which, first=f"{UNTRACED}{hire}", end=after(UNTRACED), at_most=at_most)

    def _untraced(self, which: str, **values: object) -> dict[str, Untraced]:
        with self.backend.reading() as reading:
            rows = list(reading.rows(f"SELECT name, value FROM meta WHERE {which}", **values))
        return {row["name"].removeprefix(UNTRACED): _untraced_of(bytes(row["value"])) for row in rows}

    # Members

    def members(self) -> list[Member]:
        """List the members of a fleet, by name; none if the state is a file."""
        with self.backend.reading() as reading:
            known = list(reading.rows("SELECT * FROM members ORDER BY name"))
            if not known:
                return []
            held: dict[str, list[str]] = {}
            for row in reading.rows(f"SELECT owner, service FROM shards WHERE until > {SERVER_TIME}"):
                held.setdefault(row["owner"], []).append(row["service"])
        return [
            Member(
                row["name"],
                moment(row["since"]),
                moment(row["seen"]),
                tuple(_services(held[row["owner"]])),
                daemon=bool(row["daemon"]),
            )
            for row in known
            if row["owner"] in held
        ]

    # Locks

    def locks(self) -> list[Lock]:
        """Read who is locked out, also those whose time is over and that are not ended yet."""
        with self.backend.reading() as reading:
            return [lock_of(row) for row in reading.rows("SELECT * FROM locks ORDER BY hire")]

    def not_locked_yet(self) -> list[Key]:
        """List the grants of people who are locked that wait for their check to be answered."""
        query = "SELECT hire, access FROM grants WHERE locked = :pending AND action = :none"
        with self.backend.reading() as reading:
            return [_key(row) for row in reading.rows(query, pending=LockState.PENDING, none=Action.NONE)]

    # What is sealed, what is noted, what was asked for

    def sealed(self, name: str) -> bytes | None:
        """Read a sealed value."""
        return self._value("SELECT value FROM sealed WHERE name = :name", name)

    def sealed_values(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Read the sealed values of those of these names that have one."""
        ordered = sorted(names)
        for start in range(0, len(ordered), MANY):
            with self.backend.reading() as reading:
                query = "SELECT name, value FROM sealed WHERE name IN :names"
                rows = list(reading.rows(query, names=ordered[start : start + MANY]))
            yield from ((row["name"], bytes(row["value"])) for row in rows)

    def sealed_names(self) -> list[str]:
        """List the names of all sealed values."""
        with self.backend.reading() as reading:
            return reading.column("SELECT name FROM sealed")

    def note(self, name: str) -> bytes | None:
        """Read a note, which the program makes for itself."""
        return self._value("SELECT value FROM meta WHERE name = :name", name)

    def _value(self, query: str, name: str) -> bytes | None:
        with self.backend.reading() as reading:
            found = reading.value(query, name=name)
        return None if found is None else bytes(found)

    def commands(self) -> list[Command]:
        """List the commands that are not answered yet, oldest first."""
        return [each for _, each in self._commands() if each is not None]

    def _commands(self) -> Iterator[tuple[int, Command | None]]:
        """Read the commands by their numbers; None for one that somebody else wrote, and that cannot be read."""
        with self.backend.reading() as reading:
            for row in list(reading.rows("SELECT * FROM words ORDER BY id")):
                try:
                    yield row["id"], command_of(row)
                except (TypeError, ValueError, OverflowError):
                    yield row["id"], None


def given_in(reading: Reading, hires: Collection[str] | None, access: Collection[str] = ()) -> dict[Key, Given]:
    """Who gave each grant of some hires, or of all, as far as that is known; of these names only, where any are given.

    More names than fit into a statement are no restriction.
    """
    if hires is None:
        return dict(map(given_of, reading.table(SELECT_GIVEN)[1]))
    which, values = "hire IN :hires", dict[str, list[str]]()
    if 0 < len(access) <= MANY:
        which, values = f"{which} AND access IN :access", {"access": sorted(access)}
    names, found = sorted(hires), dict[Key, Given]()
    for start in range(0, len(names), MANY):
        _, some = reading.table(f"{SELECT_GIVEN} WHERE {which}", hires=names[start : start + MANY], **values)
        found.update(map(given_of, some))
    return found


def _untraced_of(note: bytes) -> Untraced:
    since, revision = note.decode().split(" ")
    return Untraced(since or None, revision)


def _key(row: Row) -> Key:
    return Key(row["hire"], row["access"])


def _services(shards: Iterable[str]) -> list[str]:
    return sorted(name for name in shards if not name.startswith(OURS))
