"""Reading and writing the ledger. Every write is one transaction, on the disk before the call returns.

The caller says what is to be remembered; nothing is decided here. `Ledger.open` makes and migrates the state;
`Ledger.reading` opens what is there without changing a byte of it, and gives an empty one where there is none.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from reconciler.ledger import schema
from reconciler.ledger.hold import holder
from reconciler.model.errors import LedgerError
from reconciler.model.failpoints import Failpoint, Reached, unwatched
from reconciler.model.grant import Key, Outcome, Phase, Record, Step
from reconciler.model.status import Action, Event, Status

__all__ = ["Attempt", "Happening", "Kept", "Ledger", "Part", "Sent", "Word", "state_path"]

Kept = Mapping[str, bytes | None]
"""What is kept sealed from now on, by its name; erased where there is None."""

COLUMNS = tuple(column.name for column in schema.grants.columns)
UNSETTLED = (Phase.RETRYING, Phase.FAILED)
RESYNC = "resync_attempt"


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the history."""

    at: datetime
    key: Key
    integration: str
    event: Event
    detail: str = ""
    revision: str | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a grant.

    `run` is shared by the attempts that continue one another, `total` is how many requests there are in all.
    """

    id: int
    key: Key
    integration: str
    run: int
    kind: str
    number: int
    total: int
    started_at: datetime
    alive_at: datetime
    ended_at: datetime | None
    error: str | None
    revision: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of an attempt, as it was sent and answered; the URL is masked."""

    attempt: int
    place: int
    method: str
    url: str
    sent_at: datetime
    answered_at: datetime | None
    status_code: int | None
    outcome: Outcome
    error: str | None


@dataclass(frozen=True, slots=True)
class Word:
    """What somebody asks of the holder of the state."""

    id: int
    at: datetime
    kind: str
    hire: str | None
    access: str | None
    integration: str | None
    by: str


@dataclass(frozen=True, slots=True)
class Part:
    """Some grants of everybody: those of these integrations, and those of these names whatever they are of."""

    integrations: frozenset[str]
    names: frozenset[str]


def state_path(url: str, root: Path) -> Path:
    """The SQLite file that a `state` setting names, relative to the repository's root.

    Raises LedgerError for another kind of database.
    """
    if not url.startswith("sqlite:///"):
        raise LedgerError(f"state {url.partition(':')[0]}: only sqlite:/// is served by this version")
    return root / url.removeprefix("sqlite:///")


class Ledger:
    """The ledger of one state."""

    def __init__(self, engine: sa.Engine, *, unattended: bool = False, reached: Reached = unwatched) -> None:
        self._engine = engine
        self._reached = reached
        self.unattended = unattended
        """Whether it is read while nobody holds it: then an attempt without an end was cut off by a crash."""

    @classmethod
    def open(cls, url: str, root: Path, reached: Reached = unwatched) -> Ledger:
        """Open the state for writing; make it, private to its owner, where it is not there. The caller holds it."""
        path = state_path(url, root)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            # One that came from a backup may be anybody's to read; SQLite gives its side files the same mode.
            for name in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError, PermissionError):
                    path.with_name(path.name + name).chmod(0o600)
        except OSError as error:
            raise LedgerError(f"{path}: {error.strerror}: the state's folder has to be writable") from error
        ledger = cls(_engine(str(path), writing=True), reached=reached)
        try:
            ledger._migrate()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    @contextmanager
    def reading(cls, url: str, root: Path) -> Iterator[Ledger]:
        """Read the state without changing a byte of it, whether somebody holds it or not."""
        path = state_path(url, root)
        with _readable(path) as source:
            unattended = holder(path) is None
            ledger = cls(_engine(source, writing=False), unattended=unattended)
            try:
                if ledger._version() is None:  # there is none, or its making was cut off
                    ledger.close()
                    ledger = cls(_engine(None, writing=False), unattended=unattended)
                    schema.metadata.create_all(ledger._engine)
                yield ledger
            finally:
                ledger.close()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @contextmanager
    def _writing(self, point: Failpoint) -> Iterator[sa.Connection]:
        self._reached(point, done=False)
        with _faults(), self._engine.begin() as connection:
            yield connection
        self._reached(point, done=True)

    @contextmanager
    def _looking(self) -> Iterator[sa.Connection]:
        with _faults(), self._engine.connect() as connection:
            yield connection

    def _version(self) -> str | None:
        """The version that the state has; None where its tables were never made. Raises LedgerError for another one."""
        with self._looking() as connection:
            if "alembic_version" not in sa.inspect(connection).get_table_names():
                return None
            version: str | None = connection.execute(sa.text("select version_num from alembic_version")).scalar()
        if version is not None and version > schema.HEAD:
            raise LedgerError(f"the state was written by a newer version ({version}): upgrade this program")
        return version

    def _migrate(self) -> None:
        if self._version() == schema.HEAD:
            return
        with self._writing(Failpoint.MIGRATION) as connection:
            from alembic import command
            from alembic.config import Config

            # Python begins a transaction before rows change, but not before tables do.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    # Grants

    def records(
        self, hires: Collection[str] | None = None, emails: Collection[str] = (), part: Part | None = None
    ) -> Iterator[Record]:
        """Every record, or those of some hires and addresses; the unsettled ones with the steps of their run."""
        table = schema.grants
        query = sa.select(table).order_by(table.c.hire, table.c.access)
        if hires is not None:
            addresses = sorted(email.lower() for email in emails)
            query = query.where(table.c.hire.in_(sorted(hires)) | sa.func.lower(table.c.email).in_(addresses))
        if part is not None:
            # As expressions, for which there is no index: the hires' own rows are far fewer than an integration's.
            integration, access = (sa.func.coalesce(column, "") for column in (table.c.integration, table.c.access))
            query = query.where(integration.in_(sorted(part.integrations)) | access.in_(sorted(part.names)))
        with self._looking() as connection:
            for rows in connection.execute(query.execution_options(yield_per=1000)).mappings().partitions():
                steps = self._steps(connection, [row["run"] for row in rows if row["run"] is not None])
                for row in rows:
                    yield _record(row, steps.get(row["run"], ()))

    def record(self, key: Key) -> Record | None:
        """One grant's record."""
        return next((record for record in self.records([key.hire]) if record.key == key), None)

    def due(self, now: datetime) -> list[Key]:
        """The grants whose retry is due and that were not looked at since.

        A check that failed then is not repeated before its turn comes.
        """
        table = schema.grants
        query = sa.select(table.c.hire, table.c.access).where(
            table.c.retry_at <= now,
            table.c.status == Status.RETRYING,
            sa.or_(table.c.checked_at.is_(None), table.c.checked_at < table.c.retry_at),
        )
        with self._looking() as connection:
            return [Key(row.hire, row.access) for row in connection.execute(query)]

    def counts(self) -> Counter[tuple[str, Status]]:
        """How many grants each integration has of each status."""
        table = schema.grants
        query = sa.select(table.c.integration, table.c.status, sa.func.count()).group_by(
            table.c.integration, table.c.status
        )
        with self._looking() as connection:
            return Counter({(name, Status(status)): count for name, status, count in connection.execute(query)})

    def hires(self) -> set[str]:
        """Everybody that the ledger knows."""
        with self._looking() as connection:
            return set(connection.execute(sa.select(schema.grants.c.hire).distinct()).scalars())

    def integrations(self, hires: Collection[str]) -> Iterator[tuple[str, str]]:
        """Which hire has grants of which integration, among these hires."""
        table = schema.grants
        query = sa.select(table.c.hire, table.c.integration).where(table.c.hire.in_(sorted(hires))).distinct()
        with self._looking() as connection:
            yield from ((row.hire, row.integration) for row in connection.execute(query))

    def _steps(self, connection: sa.Connection, runs: list[int]) -> dict[int | None, tuple[Step, ...]]:
        if not runs:
            return {}
        table = schema.requests
        latest: dict[int | None, dict[int, Step]] = {}
        for row in connection.execute(sa.select(table).where(table.c.run.in_(runs)).order_by(table.c.id)):
            step = Step(row.place, row.text, row.mutates, Outcome(row.outcome))
            latest.setdefault(row.run, {})[row.place] = step
        return {run: tuple(steps[place] for place in sorted(steps)) for run, steps in latest.items()}

    def save(
        self,
        records: Iterable[Record],
        happenings: Iterable[Happening] = (),
        point: Failpoint = Failpoint.CHECKED,
        *,
        before: Mapping[Key, Record] | None = None,
        kept: Kept | None = None,
        noted: Mapping[str, bytes] | None = None,
        heard: Iterable[Word] = (),
    ) -> None:
        """Write records and lines of the history; with them what is kept sealed, notes, and words off the list.

        Where a record is as the ledger had it `before`, but for the time of the check, only that is written.
        """
        changed, checked = _apart(records, before or {})
        with self._writing(point) as connection:
            _save(connection, changed, happenings, kept, heard)
            if checked:
                connection.execute(_CHECKED, checked)
            for name, value in (noted or {}).items():
                _put(connection, schema.meta, name, value)

    def drop(self, keys: Iterable[Key], happenings: Iterable[Happening] = (), *, kept: Kept | None = None) -> None:
        """Take grants out that were never executed nor confirmed."""
        with self._writing(Failpoint.DROPPED) as connection:
            for key in keys:
                connection.execute(sa.delete(schema.grants).where(_is(schema.grants, key)))
            _save(connection, (), happenings, kept)

    def rename(self, moves: Mapping[Key, Key], kept: Kept | None = None) -> None:
        """Let rows and their history follow their person to another hire's id; two people may swap theirs."""
        tables = (schema.grants, schema.attempts, schema.events)
        between = {old: Key(f"\0{new.hire}", new.access) for old, new in moves.items()}
        steps = [*between.items(), *((between[old], new) for old, new in moves.items())]
        with self._writing(Failpoint.RENAMED) as connection:
            for (here, there), table in itertools.product(steps, tables):
                connection.execute(sa.update(table).where(_is(table, here)).values(hire=there.hire))
            _save(connection, (), (), kept)

    # Attempts

    def begin(
        self,
        record: Record,
        attempt: Attempt,
        happenings: Iterable[Happening],
        *,
        kept: Kept | None = None,
        heard: Iterable[Word] = (),
    ) -> Attempt:
        """Write an attempt down before its first request leaves, and what must be remembered of it, sealed.

        A `run` of 0 starts a run of its own. The words that asked for it have been heard with that.
        """
        with self._writing(Failpoint.INTENT) as connection:
            values = {
                "hire": attempt.key.hire,
                "access": attempt.key.access,
                "integration": attempt.integration,
                "run": attempt.run,
                "kind": attempt.kind,
                "number": attempt.number,
                "total": attempt.total,
                "started_at": attempt.started_at,
                "alive_at": attempt.alive_at,
                "revision": attempt.revision,
            }
            new = connection.execute(sa.insert(schema.attempts).values(values)).inserted_primary_key
            assert new is not None
            run = attempt.run or new[0]
            connection.execute(sa.update(schema.attempts).where(schema.attempts.c.id == new[0]).values(run=run))
            _save(connection, [replace(record, run=run)], happenings, kept, heard)
        return replace(attempt, id=new[0], run=run)

    def sending(self, attempt: Attempt, step: Step, method: str, url: str, now: datetime) -> None:
        """Write down that a request is about to leave; again where it is sent again."""
        table = schema.requests
        values = {
            "attempt": attempt.id,
            "run": attempt.run,
            "place": step.index,
            "text": step.text,
            "method": method,
            "url": url,
            "mutates": step.mutates,
            "sent_at": now,
            "answered_at": None,
            "status_code": None,
            "outcome": step.outcome,
            "error": None,
        }
        statement = sqlite.insert(table).values(values)
        with self._writing(Failpoint.LEAVING) as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["attempt", "place"],
                    set_={name: statement.excluded[name] for name in values if name not in ("attempt", "place")},
                )
            )
            self._alive(connection, attempt, now)

    def answered(
        self,
        attempt: Attempt,
        place: int,
        outcome: Outcome,
        now: datetime,
        *,
        status_code: int | None = None,
        error: str | None = None,
        kept: Kept | None = None,
    ) -> None:
        """Write down what became of a request, and with it what the run has to remember, sealed."""
        table = schema.requests
        with self._writing(Failpoint.ANSWER) as connection:
            connection.execute(
                sa.update(table)
                .where(table.c.attempt == attempt.id, table.c.place == place)
                .values(answered_at=now, outcome=outcome, status_code=status_code, error=error)
            )
            self._alive(connection, attempt, now)
            _save(connection, (), (), kept)

    @staticmethod
    def _alive(connection: sa.Connection, attempt: Attempt, now: datetime) -> None:
        table = schema.attempts
        connection.execute(sa.update(table).where(table.c.id == attempt.id).values(alive_at=now))

    def settle(
        self,
        attempt: Attempt,
        record: Record,
        happenings: Iterable[Happening],
        *,
        now: datetime,
        error: str | None,
        kept: Kept | None = None,
    ) -> None:
        """Write down how an attempt ended, and erase what no longer has to be remembered."""
        with self._writing(Failpoint.OUTCOME) as connection:
            table = schema.attempts
            connection.execute(sa.update(table).where(table.c.id == attempt.id).values(ended_at=now, error=error))
            _save(connection, [record], happenings, kept)

    def open_attempts(self) -> list[Attempt]:
        """The attempts that have no end: they run now, or a crash cut them off."""
        return self._attempts(schema.attempts.c.ended_at.is_(None))

    def attempts(self, key: Key) -> list[tuple[Attempt, list[Sent]]]:
        """The attempts at one grant, oldest first, with their requests."""
        attempts = self._attempts(_is(schema.attempts, key))
        table = schema.requests
        query = sa.select(table).where(table.c.attempt.in_([attempt.id for attempt in attempts])).order_by(table.c.id)
        sent: dict[int, list[Sent]] = {}
        with self._looking() as connection:
            for row in connection.execute(query):
                sent.setdefault(row.attempt, []).append(
                    Sent(
                        row.attempt,
                        row.place,
                        row.method,
                        row.url,
                        row.sent_at,
                        row.answered_at,
                        row.status_code,
                        Outcome(row.outcome),
                        row.error,
                    )
                )
        return [(attempt, sent.get(attempt.id, [])) for attempt in attempts]

    def _attempts(self, where: sa.ColumnElement[bool]) -> list[Attempt]:
        table = schema.attempts
        with self._looking() as connection:
            return [
                Attempt(
                    row.id,
                    Key(row.hire, row.access),
                    row.integration,
                    row.run,
                    row.kind,
                    row.number,
                    row.total,
                    row.started_at,
                    row.alive_at,
                    row.ended_at,
                    row.error,
                    row.revision,
                )
                for row in connection.execute(sa.select(table).where(where).order_by(table.c.id))
            ]

    # The guard

    def begin_resync(self) -> None:
        """A full resync begins: what the guard counts starts again, with the attempts to come.

        They are counted in the order in which they were written down, which no clock that jumps moves.
        """
        self.put_note(RESYNC, str(self.newest_attempt()).encode())

    def resync(self) -> int:
        """The newest attempt when the last full resync began; 0 where there was none."""
        return int(self.note(RESYNC) or 0)

    def newest_attempt(self) -> int:
        """The number of the attempt that was written down last; 0 where there was none."""
        with self._looking() as connection:
            return _newest(connection)

    def confirmed(self, attempt: int) -> dict[str, int]:
        """How many grants of each integration were confirmed and not revoked at that attempt, or have been since."""
        table, attempts = schema.grants, schema.attempts
        since = sa.exists().where(
            attempts.c.hire == table.c.hire,
            attempts.c.access == table.c.access,
            attempts.c.kind == "revoke",
            attempts.c.id > attempt,
        )
        query = (
            sa.select(table.c.integration, sa.func.count())
            .where(table.c.confirmed_at.is_not(None), sa.or_(table.c.phase != Phase.REVOKED, since))
            .group_by(table.c.integration)
        )
        with self._looking() as connection:
            return {row.integration: row[1] for row in connection.execute(query)}

    def guarded(self) -> dict[str, set[Key]]:
        """The grants of each integration that the guard keeps from being revoked or healed."""
        table = schema.grants
        lost = sa.or_(table.c.lost, table.c.orphaned_at.is_not(None))
        query = sa.select(table.c.integration, table.c.hire, table.c.access).where(table.c.guarded.is_(True), lost)
        found: dict[str, set[Key]] = {}
        with self._looking() as connection:
            for row in connection.execute(query):
                found.setdefault(row.integration, set()).add(Key(row.hire, row.access))
        return found

    def changes_since(self, attempt: int) -> dict[str, set[Key]]:
        """The grants of each integration that were healed or revoked after that attempt."""
        table = schema.attempts
        query = sa.select(table.c.integration, table.c.hire, table.c.access).where(
            table.c.kind.in_(("heal", "revoke")), table.c.id > attempt
        )
        found: dict[str, set[Key]] = {}
        with self._looking() as connection:
            for row in connection.execute(query):
                found.setdefault(row.integration, set()).add(Key(row.hire, row.access))
        return found

    # History

    def history(
        self, *, hires: Collection[str] = (), integrations: Collection[str] = (), since: datetime | None = None
    ) -> Iterator[Happening]:
        """What happened, oldest first."""
        table = schema.events
        query = sa.select(table).order_by(table.c.id)
        if hires:
            query = query.where(table.c.hire.in_(sorted(hires)))
        if integrations:
            query = query.where(table.c.integration.in_(sorted(integrations)))
        if since is not None:
            query = query.where(table.c.at >= since)
        with self._looking() as connection:
            for row in connection.execute(query.execution_options(yield_per=1000)):
                key = Key(row.hire, row.access)
                yield Happening(row.at, key, row.integration, Event(row.event), row.detail, row.revision, row.author)

    def forget(self, hire: str, now: datetime) -> int:
        """Erase a person; what stays is that somebody was forgotten. Returns how many grants that were."""
        resync = self.resync()
        with self._writing(Failpoint.FORGOTTEN) as connection:
            runs = sa.select(schema.attempts.c.id).where(schema.attempts.c.hire == hire)
            connection.execute(sa.delete(schema.requests).where(schema.requests.c.attempt.in_(runs)))
            name = schema.sealed.c.name
            for kind in ("run", "notice", "stored"):
                theirs = sa.or_(name == f"{kind}/{hire}", name.startswith(f"{kind}/{hire}/", autoescape=True))
                connection.execute(sa.delete(schema.sealed).where(theirs))
            connection.execute(sa.delete(schema.words).where(schema.words.c.hire == hire))
            count = 0
            for table in (schema.attempts, schema.events, schema.grants):
                count = connection.execute(sa.delete(table).where(table.c.hire == hire)).rowcount
            if (newest := _newest(connection)) < resync:  # the numbers above it are given again
                _put(connection, schema.meta, RESYNC, str(newest).encode())
            gone = Happening(now, Key("", ""), "", Event.FORGOTTEN, f"a person with {count} grants")
            _save(connection, (), [gone])
        self._reached(Failpoint.WIPED, done=False)
        with _faults(), self._engine.connect() as connection:
            # What was deleted must not be read back from the file's free pages.
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("VACUUM"))
        self._reached(Failpoint.WIPED, done=True)
        return count

    # What is sealed, what is noted, what was asked for

    def sealed(self, name: str) -> bytes | None:
        """A sealed value."""
        return self._get(schema.sealed, name)

    def put_sealed(self, name: str, value: bytes, point: Failpoint = Failpoint.SEALED) -> None:
        """Keep a sealed value."""
        with self._writing(point) as connection:
            _put(connection, schema.sealed, name, value)

    def sealed_names(self) -> list[str]:
        """The names of everything that is kept sealed."""
        with self._looking() as connection:
            return list(connection.execute(sa.select(schema.sealed.c.name)).scalars())

    def erase(self, name: str) -> None:
        """Erase a sealed value."""
        with self._writing(Failpoint.SEALED) as connection:
            connection.execute(sa.delete(schema.sealed).where(schema.sealed.c.name == name))

    def note(self, name: str) -> bytes | None:
        """A note that the program made for itself."""
        return self._get(schema.meta, name)

    def put_note(self, name: str, value: bytes, point: Failpoint = Failpoint.NOTE) -> None:
        """Make a note."""
        with self._writing(point) as connection:
            _put(connection, schema.meta, name, value)

    def _get(self, table: sa.Table, name: str) -> bytes | None:
        with self._looking() as connection:
            found = connection.execute(sa.select(table.c.value).where(table.c.name == name)).scalar()
        return None if found is None else bytes(found)

    def leave_word(
        self,
        kind: str,
        *,
        now: datetime,
        by: str,
        hire: str | None = None,
        access: str | None = None,
        integration: str | None = None,
    ) -> None:
        """Ask something of whoever holds the state."""
        values = {"at": now, "kind": kind, "hire": hire, "access": access, "integration": integration, "by": by}
        with self._writing(Failpoint.WORD) as connection:
            connection.execute(sa.insert(schema.words).values(values))

    def words(self) -> list[Word]:
        """What was asked and not yet answered, oldest first."""
        with self._looking() as connection:
            rows = connection.execute(sa.select(schema.words).order_by(schema.words.c.id))
            return [Word(row.id, row.at, row.kind, row.hire, row.access, row.integration, row.by) for row in rows]


def _newest(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.max(schema.attempts.c.id))).scalar() or 0)


def _is(table: sa.Table, key: Key) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.hire == key.hire, table.c.access == key.access)


_RECORD_FIELDS = tuple(item.name for item in fields(Record) if item.name not in ("key", "steps"))


def _record(row: sa.RowMapping, steps: tuple[Step, ...]) -> Record:
    values = {name: row[name] for name in _RECORD_FIELDS}
    values["phase"] = Phase(row["phase"])
    values["status"] = Status(row["status"])
    values["action"] = Action(row["action"])
    values["needs"] = tuple(row["needs"])
    return Record(key=Key(row["hire"], row["access"]), steps=steps, **values)


def _row(record: Record) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in _RECORD_FIELDS}
    return {**row, "hire": record.key.hire, "access": record.key.access, "needs": list(record.needs)}


_BUT_WHEN_CHECKED = attrgetter("key", *(name for name in _RECORD_FIELDS if name != "checked_at"))
_CHECKED = (
    sa.update(schema.grants)
    .where(schema.grants.c.hire == sa.bindparam("whose"), schema.grants.c.access == sa.bindparam("which"))
    .values(checked_at=sa.bindparam("moment"))
)


def _apart(records: Iterable[Record], before: Mapping[Key, Record]) -> tuple[list[Record], list[dict[str, Any]]]:
    """The records that have changed, and the parameters of `_CHECKED` for those that were only looked at again."""
    changed, checked = [], []
    for record in records:
        known = before.get(record.key)
        if known is None or _BUT_WHEN_CHECKED(known) != _BUT_WHEN_CHECKED(record):
            changed.append(record)
        elif known.checked_at != record.checked_at:
            checked.append({"whose": record.key.hire, "which": record.key.access, "moment": record.checked_at})
    return changed, checked


def _save(
    connection: sa.Connection,
    records: Iterable[Record],
    happenings: Iterable[Happening],
    kept: Kept | None = None,
    heard: Iterable[Word] = (),
) -> None:
    rows = [_row(record) for record in records]
    if rows:
        statement = sqlite.insert(schema.grants)
        update = {name: statement.excluded[name] for name in COLUMNS if name not in ("hire", "access")}
        connection.execute(statement.on_conflict_do_update(index_elements=["hire", "access"], set_=update), rows)
    lines = [
        {
            "at": item.at,
            "hire": item.key.hire,
            "access": item.key.access,
            "integration": item.integration,
            "event": item.event,
            "revision": item.revision,
            "author": item.author,
            "detail": item.detail,
        }
        for item in happenings
    ]
    if lines:
        connection.execute(sa.insert(schema.events), lines)
    for name, value in (kept or {}).items():
        if value is None:
            connection.execute(sa.delete(schema.sealed).where(schema.sealed.c.name == name))
        else:
            _put(connection, schema.sealed, name, value)
    for word in heard:  # its number may be another's by now
        connection.execute(sa.delete(schema.words).where(schema.words.c.id == word.id, schema.words.c.at == word.at))


def _put(connection: sa.Connection, table: sa.Table, name: str, value: bytes) -> None:
    statement = sqlite.insert(table).values(name=name, value=value)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value})
    )


@contextmanager
def _faults() -> Iterator[None]:
    """A full disk, a locked or a damaged file, as one clear error."""
    try:
        yield
    except DBAPIError as error:
        cause = str(error.orig)
        step = "restore the state from a copy, or move it away: accounts that exist are then adopted"
        if "full" in cause:
            step = "make room on the disk"
        elif "locked" in cause or "busy" in cause:
            step = "another program has it open: stop that, then try again"
        elif "I/O" in cause:
            step = "see to the disk, or to the quota; then try again"
        elif "unable to open" in cause or "readonly" in cause:
            step = "check its folder and permissions"
        raise LedgerError(f"the ledger: {cause}: {step}") from error


def _engine(database: str | None, *, writing: bool) -> sa.Engine:
    """An engine on a file, by its path or as an SQLite URI; in memory for None."""
    query = {"uri": "true"} if database is not None and database.startswith("file:") else {}
    # Not put together as text: a path may hold any sign.
    url = sa.URL.create("sqlite", database=database, query=query)
    # One connection: the ledger has one writer, and readers each open their own.
    engine = sa.create_engine(url, poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False})

    def prepare(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 5000")
        if writing:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")

    sa.event.listen(engine, "connect", prepare)
    return engine


@contextmanager
def _readable(path: Path) -> Iterator[str | None]:
    """Where to read a state from so that not even its side files change; None where there is no state.

    A held state is read beside its holder. One that nobody holds is opened as immutable; where a crash left a
    write-ahead log, both are copied first, since reading it in place would roll it into the file.
    """
    if not path.exists():
        yield None
    elif holder(path) is not None:
        yield f"file:{quote(str(path))}?mode=ro"
    elif not path.with_name(path.name + "-wal").exists():
        yield f"file:{quote(str(path))}?mode=ro&immutable=1"
    else:
        with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:
            for name in (path.name, path.name + "-wal"):
                shutil.copyfile(path.with_name(name), Path(folder, name))
            yield f"file:{quote(str(Path(folder, path.name)))}?mode=ro"
