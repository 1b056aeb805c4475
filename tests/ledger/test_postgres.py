"""A state on a PostgreSQL server: made by one of many, migrated by a person, refused where it does not fit."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from reconciler.ledger.opening import StateLocation
from reconciler.ledger.postgres import reading as postgres
from reconciler.ledger.postgres import writing as postgres_writing
from reconciler.ledger.postgres.reading import Server
from reconciler.ledger.reading import HEAD
from reconciler.model.errors import LedgerError
from reconciler.model.value import replace
from reconciler.repository.git.checkout import Checkout
from tests.ledger.states import ADA, OLDER, as_older, change
from tests.postgres import Databases, Wire
from tests.servers import eventually

TABLES = "select schemaname || '.' || tablename from pg_tables where tablename in ('grants', 'meta')"
CONNECTED = (
    "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'reconciler %'"
)
VERSION = "select version_num from reconciler.alembic_version"
HOUR = timedelta(hours=1)


@pytest.fixture
def empty(databases: Databases, tmp_path: Path) -> Iterator[StateLocation]:
    """A database without the ledger's schema."""
    with databases.made("empty") as url:
        yield StateLocation(url, tmp_path)


@pytest.fixture
def made(databases: Databases, tmp_path: Path) -> Iterator[StateLocation]:
    """A database with the ledger's tables, and ada in them."""
    with databases.made() as url:
        location = StateLocation(url, tmp_path)
        with closing(location.writer()) as ledger:
            ledger.save([ADA])
        yield location


def name(location: StateLocation) -> str:
    return location.url.partition("@/")[2].partition("?")[0]


def refused(location: StateLocation) -> str:
    """What whoever opens the state is told, to read or to write; nothing of the machine's own is in it."""
    with pytest.raises(LedgerError) as told:
        location.writer().close()
    with pytest.raises(LedgerError) as again, location.reader():
        pass
    assert str(told.value) == str(again.value)
    assert "Traceback" not in str(told.value)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_members_that_start_together_make_one_state(databases: Databases, empty: StateLocation) -> None:
    def start(number: int) -> str | None:
        with closing(empty.writer()) as ledger:
            ledger.notes.put(f"n{number}", b"here")
            return ledger.history.verify().broken

    with ThreadPoolExecutor(5) as together:
        assert list(together.map(start, range(5))) == [None] * 5
    assert databases.execute(VERSION, name(empty)) == [(HEAD,)]
    assert sorted(databases.execute(TABLES, name(empty))) == [("reconciler.grants",), ("reconciler.meta",)]


@pytest.mark.parametrize(
    ("template", "sent"),
    [
        ("empty", b"SELECT pg_advisory_xact_lock(%d)" % postgres_writing._MIGRATING),
        ("made", b"INSERT INTO meta (name, value) VALUES ('repository', 'c0ffee')"),
    ],
    ids=["while it makes the tables", "while it notes the repository"],
)
def test_interrupted_first_start_blocks_no_later_start(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, sent: bytes
) -> None:
    monkeypatch.setattr(postgres_writing, "IDLE", timedelta(seconds=0.1))
    with databases.made(template) as url, closing(Server(url).connect()) as dead:
        dead.pgconn.enter_pipeline_mode()
        dead.pgconn.send_query_params(sent, None)
        dead.pgconn.send_flush_request()
        dead.pgconn.flush()
        time.sleep(0.3)
        with closing(StateLocation(url, tmp_path, repository=_Repository("c0ffee")).writer()) as ledger:
            assert ledger.notes.get("repository") == b"c0ffee"


def test_reading_creates_nothing(databases: Databases, empty: StateLocation, tmp_path: Path) -> None:
    with empty.reader() as ledger:
        assert list(ledger.grants.records()) == []
        assert ledger.backend.unattended
    assert not empty.exists()
    assert databases.execute(TABLES, name(empty)) == []
    assert list(tmp_path.iterdir()) == []


def test_connection_in_use_while_the_state_is_closed_is_closed_when_it_is_returned(
    databases: Databases, made: StateLocation
) -> None:
    ledger = made.writer()
    with ledger.backend.writing() as connection:
        ledger.close()
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1, "what is under way is not cut off"
        assert databases.execute(CONNECTED, name(made)) == [(1,)]
    eventually(lambda: databases.execute(CONNECTED, name(made)) == [(0,)])
    with pytest.raises(LedgerError, match="it was closed meanwhile"):
        ledger.save([ADA])
    assert databases.execute(CONNECTED, name(made)) == [(0,)]


def test_connection_that_is_cut_is_one_error_and_no_traceback(
    made: StateLocation, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(made.writer()) as ledger:

        def ask() -> None:
            with ledger.backend.reading() as reading:
                change(made, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
                reading.value("SELECT 1")

        with pytest.raises(LedgerError, match="it is tried again"):
            ask()
        assert caplog.text == ""
        assert list(ledger.grants.records()) == [ADA]


def test_newer_schema_is_refused_with_both_numbers(made: StateLocation) -> None:
    with closing(made.writer()) as ledger:
        change(made, "update alembic_version set version_num = '9999'")
        assert f"its schema is 9999, and this one's is {HEAD}" in refused(made)
        change(made, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
        with pytest.raises(LedgerError, match="9999"):  # who was cut off while others migrated writes nothing more
            ledger.save([ADA])


def test_older_schema_waits_for_a_person_who_has_a_copy(
    databases: Databases, made: StateLocation, tmp_path: Path
) -> None:
    change(made, *as_older(tmp_path))
    told = refused(made)
    assert f"the state's schema is {OLDER}, and this program's is {HEAD}" in told
    assert "pg_dump --schema=reconciler" in told
    assert "reconcile --yes-really" in told
    with closing(made.writer(migrate=True)) as ledger:
        assert list(ledger.grants.records()) == [replace(ADA, hire_email=ADA.email)]
    assert databases.execute(VERSION, name(made)) == [(HEAD,)]


def test_older_program_has_to_be_gone_before_a_migration(databases: Databases, made: StateLocation) -> None:
    import psycopg

    change(made, f"update alembic_version set version_num = '{OLDER}'")
    with (
        psycopg.connect(made.url, application_name=f"reconciler {OLDER} 7@cellar"),
        pytest.raises(LedgerError, match=rf"older programs have it open \(reconciler {OLDER} 7@cellar\): stop them"),
    ):
        made.writer(migrate=True)
    assert databases.execute(VERSION, name(made)) == [(OLDER,)]


def test_missing_database_rights_are_reported_with_the_grant_to_make(
    databases: Databases, empty: StateLocation
) -> None:
    databases.execute("create role guest login")
    try:
        guest = StateLocation(databases.url(name(empty), "guest"), empty.root)
        with pytest.raises(LedgerError, match=r"permission denied for database .*: make the schema for this user"):
            guest.writer()
        databases.execute("create schema reconciler authorization guest", name(empty))
        guest.writer().close()
        assert guest.exists()
    finally:
        databases.execute("drop owned by guest", name(empty))
        databases.execute("drop role guest")


@pytest.mark.parametrize(
    ("user", "database", "told"),
    [
        ("postgres", "nonesuch", 'database "nonesuch" does not exist: make the database'),
        ("nobody-of-us", "made", 'role "nobody-of-us" does not exist: make the user'),
    ],
)
def test_missing_user_or_database_is_named(
    databases: Databases, tmp_path: Path, user: str, database: str, told: str
) -> None:
    assert told in refused(StateLocation(databases.url(database, user), tmp_path))


def test_server_that_does_not_listen_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "CONNECT", HOUR)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    told = refused(StateLocation(f"postgresql://me@127.0.0.1:{port}/x", tmp_path))
    assert "see that the server runs, and that `state` names it" in told


def test_password_is_in_no_message(databases: Databases, tmp_path: Path) -> None:
    """Where the server wants one, it is the initial data's; a wrong one is not repeated."""
    secret = "correct horse battery"
    databases.execute(f"create role keyed login superuser password '{secret}'")
    rules = databases.socket.parent / "pg_hba.conf"
    before = rules.read_text()
    try:
        rules.write_text("local all keyed scram-sha-256\n" + before)
        databases.execute("select pg_reload_conf()")
        url = databases.url("made", "keyed")
        assert StateLocation(url, tmp_path, lambda: secret).exists()
        wrong = refused(StateLocation(url, tmp_path, lambda: secret + "!"))
        assert "password authentication failed" in wrong
        assert "STATE_PASSWORD" in wrong
        assert secret not in wrong
        assert "STATE_PASSWORD" in refused(StateLocation(url, tmp_path))
    finally:
        rules.write_text(before)
        databases.execute("select pg_reload_conf()")
        databases.execute("drop role keyed")


def test_server_that_is_too_old_is_refused(databases: Databases, made: StateLocation) -> None:
    (version,) = databases.execute("show server_version")[0]
    old = "13." + "9" * (len(version) - 3)
    with Wire(databases, {f"server_version\0{version}\0".encode(): f"server_version\0{old}\0".encode()}) as wire:
        told = refused(StateLocation(wire.url(name(made)), made.root))
    assert told.endswith("the server is PostgreSQL 13, and 14 is the oldest served")


def test_clock_that_is_far_off_is_refused(databases: Databases, made: StateLocation) -> None:
    year = datetime.now(UTC).year
    with Wire(databases, {f"{year}-".encode(): f"{year - 1}-".encode()}) as wire:
        told = refused(StateLocation(wire.url(name(made)), made.root))
    assert "this machine's clock is 315" in told
    assert "s ahead of the database server's: set both by NTP" in told


def test_server_that_stops_answering_is_given_up(
    databases: Databases, made: StateLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_writing, "UNREACHABLE", HOUR)
    with Wire(databases) as wire, closing(StateLocation(wire.url(name(made)), made.root).writer()) as ledger:
        wire.silent.set()
        with monkeypatch.context() as patch:
            patch.setattr(postgres.Connection, "patience", timedelta(seconds=0.3))
            with pytest.raises(LedgerError, match="see that the server runs"):
                ledger.save([ADA])
        wire.silent.clear()
        wire.cut()
        asked = wire.round_trips
        with pytest.raises(LedgerError, match="see that the server runs"):
            ledger.save([ADA])
        assert wire.round_trips == asked, "it is not asked again at once"
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + HOUR.total_seconds())
        monkeypatch.setattr(postgres_writing, "time", later)
        ledger.save([ADA])


def test_state_is_one_repositorys(made: StateLocation) -> None:
    ours, theirs = _Repository("a" * 40), _Repository("b" * 40)
    StateLocation(made.url, made.root, repository=ours).writer().close()
    told = refused(StateLocation(made.url, made.root, repository=theirs))
    assert f"the state is another repository's: that one's first commit is {'a' * 12}" in told
    with StateLocation(made.url, made.root, repository=ours).reader() as ledger:
        assert list(ledger.grants.records()) == [ADA]


class _Repository(Checkout):
    """With one commit."""

    def __init__(self, commit: str) -> None:
        self._first = commit

    def first_commit(self) -> str:
        return self._first

    def may_have(self, commit: str) -> bool:
        return commit == self._first
