"""Read the ledger of a state: each part of it has the name of what it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from functools import partial

from reconciler.ledger.browsing import Pages
from reconciler.ledger.entries import Attempt, Command, GrantFilter, Member, Sent, Unanswered
from reconciler.ledger.guard_counts import GuardCounts
from reconciler.ledger.history import History
from reconciler.ledger.lease import OURS
from reconciler.ledger.reading import (
    MANY,
    PAGE,
    SERVER_TIME,
    Backend,
    LedgerPart,
    Reading,
    after,
    in_batches,
    in_pages,
    lowered,
    moment,
    where_of,
)
from reconciler.ledger.rows import RECORD_COLUMNS, SELECT_GIVEN, entry_of, from_json, given_of, record_by_place
from reconciler.model.attribution import Attribution, Unattributed
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.lock import Lock, LockState
from reconciler.model.run import Outcome, Step
from reconciler.model.status import Action, Status
from reconciler.model.value import Frozen

GIVEN = "given_up_to"
"""The name of the note that has the revision up to which it is known who gave each grant, but for `UNTRACED` hires."""

UNTRACED = "untraced/"
"""The prefix of the note, by hire, of what is yet to be found out of who gave its grants."""

LISTED = "listed_at/"
"""The prefix of the note, by integration, of when its listing was last read to its end."""


class LedgerReader:
    """The ledger of one state, for reading only."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.accounts = Accounts(backend)
        self.attempts = Attempts(backend)
        self.commands = Commands(backend)
        self.given = Givers(backend)
        self.grants = Grants(backend)
        self.guard = GuardCounts(backend)
        self.history = History(backend)
        self.locks = Locks(backend)
        self.notes = Notes(backend)
        self.pages = Pages(backend)
        self.sealed = Sealed(backend)

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
                tuple(sorted(name for name in held[row["owner"]] if not name.startswith(OURS))),
                daemon=bool(row["daemon"]),
            )
            for row in known
            if row["owner"] in held
        ]


class Accounts(LedgerPart):
    """The accounts of integrations' listings, by digest."""

    def listed_at(self, integration: str) -> datetime | None:
        """Return when a listing of the integration was last read to its end; None if it never was."""
        note = self._note(f"{LISTED}{integration}")
        return None if note is None else datetime.fromisoformat(note.decode())

    def seen_after(self, integration: str, account: str, at_most: int) -> list[str]:
        """Return the accounts of a listing that were seen from the first one after this on, in order."""
        query = (
            "SELECT account FROM accounts WHERE integration = :integration AND account > :account"
            " ORDER BY account LIMIT :at_most"
        )
        return self._column(query, integration=integration, account=account, at_most=at_most)

    def first_seen(self, integration: str) -> dict[str, datetime]:
        """Return when each account of a listing was first seen."""
        query = "SELECT account, first_seen FROM accounts WHERE integration = :integration"
        return {account: moment(at) for account, at in self._cells(query, integration=integration)}


class Recent(Frozen):
    """The newest attempts at a grant, newest first, with their requests; `earlier` counts the others."""

    attempts: tuple[tuple[Attempt, tuple[Sent, ...]], ...]
    earlier: int = 0


class Attempts(LedgerPart):
    """The attempts at grants, and the requests that were sent."""

    def open(self) -> list[Attempt]:
        """Read the attempts without an end: they run now, or a crash interrupted them."""
        return [
            entry_of(Attempt, row) for row in self._rows("SELECT * FROM attempts WHERE ended_at IS NULL ORDER BY id")
        ]

    def interrupted(self) -> list[Attempt]:
        """Read the attempts that a crash interrupted: those without an end, where no process has the state."""
        return self.open() if self._backend.unattended else []

    def of(self, key: Key) -> list[tuple[Attempt, tuple[Sent, ...]]]:
        """Read the attempts at one grant, oldest first, with their requests."""
        query = "SELECT * FROM attempts WHERE hire = :hire AND access = :access ORDER BY id"
        attempts = [entry_of(Attempt, row) for row in self._rows(query, hire=key.hire, access=key.access)]
        return self._with_requests(attempts)

    def recent(self, hire: str, each: int) -> dict[Key, Recent]:
        """Read the newest attempts at each grant of a hire, at most `each`."""
        query = (
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY access ORDER BY id DESC) AS number_back,"
            " count(*) OVER (PARTITION BY access) AS of_all FROM attempts WHERE hire = :hire) AS numbered"
            " WHERE number_back <= :each ORDER BY id DESC"
        )
        rows = self._rows(query, hire=hire, each=each)
        totals = {row["access"]: row["of_all"] for row in rows}
        found: dict[Key, list[tuple[Attempt, tuple[Sent, ...]]]] = {}
        for attempt, sent in self._with_requests([entry_of(Attempt, row) for row in rows]):
            found.setdefault(attempt.key, []).append((attempt, sent))
        return {key: Recent(tuple(some), totals[key.access] - len(some)) for key, some in found.items()}

    def _with_requests(self, attempts: Collection[Attempt]) -> list[tuple[Attempt, tuple[Sent, ...]]]:
        found: dict[int, list[Sent]] = {}
        query = "SELECT * FROM requests WHERE attempt IN :attempts ORDER BY id"
        for row in self._rows(query, attempts=[attempt.id for attempt in attempts]):
            found.setdefault(row["attempt"], []).append(entry_of(Sent, row))
        return [(attempt, tuple(found.get(attempt.id, ()))) for attempt in attempts]


class Givers(LedgerPart):
    """Who gave grants."""

    def of(self, hires: Collection[str] | None = None) -> dict[Key, Attribution]:
        """Return who gave each grant of some hires, or of all, as far as it is known."""
        with self._backend.reading() as reading:
            return given_in(reading, hires)

    def up_to(self) -> str | None:
        """Return the revision up to which it is known who gave each grant, but for hires that are untraced."""
        note = self._note(GIVEN)
        return None if note is None else note.decode()

    def untraced(self, hires: Collection[str] | None = None) -> dict[str, Unattributed]:
        """Return those of some hires, or of all, of whose grants it has yet to be found out who gave them."""
        if hires is None:
            return self._untraced("name > :first AND name < :end ORDER BY name", first=UNTRACED, end=after(UNTRACED))
        found: dict[str, Unattributed] = {}
        for names in in_batches(f"{UNTRACED}{hire}" for hire in hires):
            found |= self._untraced("name IN :names", names=names)
        return found

    def untraced_after(self, hire: str, at_most: int) -> dict[str, Unattributed]:
        """Return such hires from the first one after this on, in their order."""
        which = "name > :first AND name < :end ORDER BY name LIMIT :at_most"
        return self._untraced(which, first=f"{UNTRACED}{hire}", end=after(UNTRACED), at_most=at_most)

    def _untraced(self, which: str, **values: object) -> dict[str, Unattributed]:
        rows = self._cells(f"SELECT name, value FROM meta WHERE {which}", **values)
        said = ((name.removeprefix(UNTRACED), bytes(value).decode().split(" ")) for name, value in rows)
        return {hire: Unattributed(since or None, revision) for hire, (since, revision) in said}

    def unanswered(self, at_most: int) -> list[Unanswered]:
        """Return the newest commits that the forge has not answered for."""
        query = (
            "SELECT revision, merges, asked_at FROM pulls WHERE settled = :settled"
            " ORDER BY committed_at DESC, revision LIMIT :at_most"
        )
        rows = self._cells(query, settled=False, at_most=at_most)
        return [Unanswered(revision, tuple(from_json(merges)), moment(asked)) for revision, merges, asked in rows]


class Commands(LedgerPart):
    """Commands to the process that has the state."""

    def waiting(self) -> list[Command]:
        """List the commands that are not answered yet, oldest first."""
        return [each for _, each in self._numbered() if each is not None]

    def _numbered(self) -> Iterator[tuple[int, Command | None]]:
        """Read the commands by their numbers; None for one that somebody else wrote, and that cannot be read."""
        for row in self._rows("SELECT * FROM words ORDER BY id"):
            try:
                yield row["id"], entry_of(Command, row)
            except (TypeError, ValueError, LedgerError):
                yield row["id"], None


class Locks(LedgerPart):
    """Who is locked out."""

    def all(self) -> list[Lock]:
        """Read who is locked out, also those whose time is over and that are not ended yet."""
        return [entry_of(Lock, row) for row in self._rows("SELECT * FROM locks ORDER BY hire")]


class Sealed(LedgerPart):
    """Values that are sealed, by name."""

    def get(self, name: str) -> bytes | None:
        """Read a value; None if there is none."""
        found = self._value("SELECT value FROM sealed WHERE name = :name", name=name)
        return None if found is None else bytes(found)

    def several(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Read the values of those of these names that have one."""
        for some in in_batches(names):
            rows = self._cells("SELECT name, value FROM sealed WHERE name IN :names", names=some)
            yield from ((name, bytes(value)) for name, value in rows)

    def names(self, prefix: str = "") -> list[str]:
        """List the names of all values, or of those that begin with a prefix."""
        if not prefix:
            return self._column("SELECT name FROM sealed")
        query = "SELECT name FROM sealed WHERE name >= :first AND name < :end"
        return self._column(query, first=prefix, end=after(prefix))


class Notes(LedgerPart):
    """Notes, which the program makes for itself, by name."""

    def get(self, name: str) -> bytes | None:
        """Read a note; None if there is none."""
        return self._note(name)

    def beginning(self, prefix: str) -> dict[str, bytes]:
        """Read the notes whose names begin with a prefix, by the rest of the name."""
        query = "SELECT name, value FROM meta WHERE name >= :first AND name < :end ORDER BY name"
        rows = self._cells(query, first=prefix, end=after(prefix))
        return {name.removeprefix(prefix): bytes(value) for name, value in rows}


def given_in(reading: Reading, hires: Collection[str] | None, access: Collection[str] = ()) -> dict[Key, Attribution]:
    """Who gave each grant of some hires, or of all, as far as that is known; of these names only, where any are given.

    More names than fit into a statement are no restriction.
    """
    if hires is None:
        return dict(map(given_of, reading.cells(SELECT_GIVEN)))
    which, values = "hire IN :hires", dict[str, list[str]]()
    if 0 < len(access) <= MANY:
        which, values = f"{which} AND access IN :access", {"access": sorted(access)}
    found: dict[Key, Attribution] = {}
    for names in in_batches(hires):
        found.update(map(given_of, reading.cells(f"{SELECT_GIVEN} WHERE {which}", hires=names, **values)))
    return found


# --- grants -----------------------------------------------------------------------------------------------------------

_RUN = RECORD_COLUMNS.index("run")


class Grants(LedgerPart):
    """The records of grants, and whose they are."""

    def records(
        self, hires: Collection[str] | None = None, emails: Collection[str] = (), only: GrantFilter | None = None
    ) -> Iterator[Record]:
        """Read every record, or those of some hires, and of accounts or hires with some addresses.

        Unsettled ones have the steps of their run.
        """
        where, values = list[str](), dict[str, object]()
        if hires is not None:
            where.append("(hire IN :hires OR lower(email) IN :emails OR lower(hire_email) IN :emails)")
            spellings = {spelling for email in emails for spelling in lowered(email)}
            values |= {"hires": sorted(hires), "emails": sorted(spellings)}
        if only is not None:
            # As expressions, which no index matches: hires have far fewer rows than an integration.
            where.append("(coalesce(integration, '') IN :integrations OR coalesce(access, '') IN :names)")
            values |= {"integrations": sorted(only.integrations), "names": sorted(only.names)}
        query = f"SELECT {', '.join(RECORD_COLUMNS)} FROM grants"
        if hires is None:
            where.append("(hire, access) > (:last_hire, :last_access)")
            page = f"{query}{where_of(where)} ORDER BY hire, access LIMIT :size"
            found = in_pages(partial(self._cells, page, **values), last_hire="", last_access="")
        else:
            found = iter([self._cells(f"{query}{where_of(where)} ORDER BY hire, access", **values)])
        for rows in found:
            steps = self._steps([row[_RUN] for row in rows if row[_RUN] is not None])
            for row in rows:
                yield record_by_place(row, steps.get(row[_RUN], ()))

    def _steps(self, runs: list[int]) -> dict[int | None, tuple[Step, ...]]:
        if not runs:
            return {}
        latest: dict[int | None, dict[int, Step]] = {}
        for row in self._rows("SELECT * FROM requests WHERE run IN :runs ORDER BY id", runs=runs):
            outcome, status = Outcome(row["outcome"]), row["status_code"]
            step = Step(row["place"], row["text"], bool(row["mutates"]), outcome, status)
            latest.setdefault(row["run"], {})[row["place"]] = step
        return {run: tuple(steps[place] for place in sorted(steps)) for run, steps in latest.items()}

    def record(self, key: Key) -> Record | None:
        """Read one grant's record."""
        return next((record for record in self.records([key.hire]) if record.key == key), None)

    def orphans(self, integration: str) -> list[Record]:
        """Read the grants of an integration that git no longer wants, without the steps of their runs."""
        query = (
            f"SELECT {', '.join(RECORD_COLUMNS)} FROM grants"
            " WHERE integration = :integration AND phase <> :revoked AND orphaned_at IS NOT NULL"
        )
        return [record_by_place(row, ()) for row in self._cells(query, integration=integration, revoked=Phase.REVOKED)]

    def origins_after(self, key: Key) -> tuple[list[tuple[str, str, tuple[str, ...]]], Key | None]:
        """Read whose the next grants are, with the address and the sequences that gave each, and the last one's key.

        None where there are no more.
        """
        query = (
            "SELECT hire, access, email, origin, through FROM grants WHERE (hire, access) > (:hire, :access)"
            " ORDER BY hire, access LIMIT :at_most"
        )
        rows = self._cells(query, hire=key.hire, access=key.access, at_most=PAGE)
        last = Key(*rows[-1][:2]) if len(rows) == PAGE else None
        found = (
            (hire, email, () if origin is None else (origin, *from_json(through, list)))
            for hire, _, email, origin, through in rows
        )
        return list(found), last

    def due(self, now: datetime) -> list[Key]:
        """List the grants whose retry is due and that were not checked since.

        A check that failed then is not repeated before its turn comes.
        """
        query = (
            "SELECT hire, access FROM grants WHERE retry_at <= :now"
            " AND (status = :retrying OR (locked = :pending AND action = :waits))"
            " AND (checked_at IS NULL OR checked_at < retry_at)"
        )
        pending = {"pending": LockState.PENDING, "waits": Action.WAIT}
        return [Key(*cells) for cells in self._cells(query, now=now, retrying=Status.RETRYING, **pending)]

    def expiring(self, now: datetime) -> list[Key]:
        """List the grants whose time is over, and those of them that are to be asked for again."""
        return [
            Key(*cells) for cells in self._cells("SELECT hire, access FROM grants WHERE expire_at <= :now", now=now)
        ]

    def not_locked_yet(self) -> list[Key]:
        """List the grants of people who are locked that wait for their check to be answered."""
        query = "SELECT hire, access FROM grants WHERE locked = :pending AND action = :none"
        return [Key(*cells) for cells in self._cells(query, pending=LockState.PENDING, none=Action.NONE)]

    def counts(self) -> Counter[tuple[str, Status]]:
        """Count the grants of each integration and status."""
        query = "SELECT integration, status, count(*) FROM grants GROUP BY integration, status"
        return Counter({(name, Status(status)): count for name, status, count in self._cells(query)})

    def hires(self) -> set[str]:
        """List every hire in the ledger."""
        return set(self._column("SELECT DISTINCT hire FROM grants"))

    def hires_after(self, hire: str, at_most: int) -> list[str]:
        """List the hires in the ledger from the first one after this on, in their order."""
        query = "SELECT DISTINCT hire FROM grants WHERE hire > :hire ORDER BY hire LIMIT :at_most"
        return self._column(query, hire=hire, at_most=at_most)

    def hires_with(self, names: Iterable[str]) -> set[str]:
        """List the hires that have an entry of one of these names."""
        query = "SELECT DISTINCT hire FROM grants WHERE access IN :names"
        return {hire for some in in_batches(names) for hire in self._column(query, names=some)}

    def names(self) -> set[str]:
        """List every hire, access and integration in the ledger."""
        query = "SELECT hire FROM grants UNION SELECT access FROM grants UNION SELECT integration FROM grants"
        return set(self._column(query))

    def integrations(self, hires: Collection[str]) -> list[tuple[str, str]]:
        """List pairs of a hire and an integration of which it has grants, among these hires."""
        query = "SELECT DISTINCT hire, integration FROM grants WHERE hire IN :hires"
        return [(hire, name) for hire, name in self._cells(query, hires=sorted(hires))]
