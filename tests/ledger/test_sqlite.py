"""A state in a SQLite file: made, migrated, damaged, and read without changing a byte."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.ledger import schema
from reconciler.ledger.migrations import MIGRATIONS
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.reading import HEAD
from reconciler.ledger.sqlite.lock import make_folder
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key
from reconciler.model.value import replace
from tests.ledger.states import (
    ADA,
    EARLIER,
    NOW,
    STATE,
    bytes_in,
    earlier,
    of_schema,
    other_process,
    read_all,
    state_file,
)


def test_the_state_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / ".reconciler"
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        ledger.save([ADA])
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_from_nothing_to_the_newest_schema_and_again(tmp_path: Path) -> None:
    StateLocation(STATE, tmp_path).writer().close()
    file = state_file(tmp_path)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("select version_num from alembic_version").fetchall() == [(HEAD,)]
        made = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        for table in schema.metadata.sorted_tables:
            columns = {row[1] for row in database.execute(f"pragma table_info({table.name})")}
            assert columns == {column.name for column in table.columns}, table.name
    assert made - {"alembic_version"} == set(schema.metadata.tables)
    before = file.read_bytes()
    StateLocation(STATE, tmp_path).writer().close()
    assert file.read_bytes() == before, "a ledger that is up to date is left as it is"


def contents(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as database:
        return list(database.iterdump())


def structure(file: Path) -> dict[str, object]:
    """Every table with its columns, their types and what they hold by default, and every index with its columns."""
    with closing(sqlite3.connect(file)) as database:
        names = database.execute("select type, name from sqlite_master where name not like 'sqlite_%'").fetchall()
        return {
            name: {
                row[1:] for row in database.execute(f"pragma {kind}_{'xinfo' if kind == 'index' else 'info'}({name})")
            }
            for kind, name in names
        }


def test_there_is_a_state_of_every_earlier_schema() -> None:
    *earlier_ones, newest = ["0001", *MIGRATIONS]
    assert newest == HEAD
    assert [recipe.stem for recipe in EARLIER] == earlier_ones


@pytest.mark.parametrize("recipe", EARLIER, ids=lambda recipe: str(recipe.stem))
def test_a_state_of_every_earlier_schema_opens_and_is_kept_as_it_was(tmp_path: Path, recipe: Path) -> None:
    file = earlier(recipe, tmp_path)
    before = contents(file)
    assert [found.key for found in read_all(tmp_path)] == [ADA.key], "what only reads takes it as it is"
    assert contents(file) == before
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:
        assert [(found.key, found.email) for found in ledger.grants.records()] == [(ADA.key, ADA.email)]
        assert [(event.event, event.author) for event in ledger.history.lines()] == [
            ("executed", "Ida <ida@example.com>")
        ]
    copy = file.with_name(f"state.db.schema-{recipe.stem}")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert contents(copy) == before, "the program that made it opens this"
    (tmp_path / "new").mkdir()
    StateLocation(STATE, tmp_path / "new").writer().close()
    assert structure(file) == structure(state_file(tmp_path / "new")), "the same as a state that is made now"
    StateLocation(STATE, tmp_path).writer().close()
    assert [each.name for each in file.parent.iterdir() if ".schema-" in each.name] == [copy.name]


@pytest.mark.parametrize(
    ("status", "reason", "code", "cause"),
    [
        ("suspended", "held by the guard until it has counted what the whole pass would change", "counting", None),
        ("suspended", "held by the guard: 30.00 % is over 25 % (6/20)", "tripped", None),
        ("suspended", "suspended: held by the guard: a name", None, None),
        ("blocked", "policy two-keys", "policy", None),
        ("differs", "drift: role: owner, git wants member", "drift", None),
        ("unknown", "answered 500; last seen present on 2026-12-01T09:00:00Z", "last_seen", None),
        ("blocked", "initial data TOKEN is missing: config/initial_data/tool is not there", None, "initial_data"),
        ("unknown", "the token has expired: connect again: `reconcile oauth connect tool`", None, "connection"),
    ],
)
def test_reasons_of_before_get_their_codes(
    tmp_path: Path, status: str, reason: str, code: str | None, cause: str | None
) -> None:
    with closing(sqlite3.connect(earlier(of_schema("0008"), tmp_path))) as database, database:
        database.execute("update grants set status = ?, reason = ?", (status, reason))
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:
        (found,) = ledger.grants.records()
    assert (found.reason, found.code, found.cause) == (reason, code, cause)


def test_a_state_is_not_migrated_where_no_copy_can_be_kept(tmp_path: Path) -> None:
    file = earlier(EARLIER[-1], tmp_path)
    file.with_name(f"state.db.schema-{EARLIER[-1].stem}").mkdir()
    before = contents(file)
    with pytest.raises(LedgerError, match="no copy of it can be kept as"):
        StateLocation(STATE, tmp_path).writer()
    assert contents(file) == before
    assert not list(file.parent.glob("*.part"))


def test_a_state_whose_making_was_cut_off_is_as_good_as_none(tmp_path: Path) -> None:
    file = state_file(tmp_path)
    make_folder(file.parent)
    file.touch()
    assert read_all(tmp_path) == []
    assert file.stat().st_size == 0
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:
        ledger.save([ADA])
    assert read_all(tmp_path) == [ADA]


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    StateLocation(STATE, tmp_path).writer().close()
    with closing(sqlite3.connect(state_file(tmp_path))) as database, database:
        database.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(LedgerError, match=f"its schema is 9999, and this one's is {HEAD}"):
        StateLocation(STATE, tmp_path).writer()
    with pytest.raises(LedgerError, match="newer version"), StateLocation(STATE, tmp_path).reader():
        pass


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: b"no database at all" * 300, id="another file"),
        pytest.param(lambda raw: raw[: len(raw) // 2], id="cut in half"),
        pytest.param(lambda raw: raw[:100] + os.urandom(4096) + raw[4196:], id="overwritten"),
    ],
)
def test_damaged_file_is_reported(tmp_path: Path, damage: object) -> None:
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:
        ledger.save([replace(ADA, key=Key(f"h{number}", "tool")) for number in range(500)])
    file = state_file(tmp_path)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]

    def open_to_write() -> None:
        with closing(StateLocation(STATE, tmp_path).writer()) as opened:
            list(opened.grants.records())

    for read in (open_to_write, lambda: read_all(tmp_path)):
        with pytest.raises(LedgerError, match=r"restore the state|newer") as told:
            read()
        assert "Traceback" not in str(told.value)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / ".reconciler").write_text("a file where the folder should be")
    with pytest.raises(LedgerError, match=r"\.reconciler is no folder: remove it"):
        StateLocation(STATE, tmp_path).writer()


@pytest.mark.parametrize("name", ["plain", "with blank", "per%20cent", "question?mark", "hash#tag", "ümläut", "a'b"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    with closing(StateLocation(STATE, root).writer()) as ledger:
        ledger.save([ADA])
    assert [path.name for path in (root / ".reconciler").glob("[!.]*")] == ["state.db"]
    assert read_all(root) == [ADA]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_reading_beside_a_holder(tmp_path: Path) -> None:
    with other_process(tmp_path):
        before = bytes_in(tmp_path / ".reconciler")
        assert (tmp_path / ".reconciler" / "state.db-wal").stat().st_size > 0
        assert [found.key.hire for found in read_all(tmp_path)] == ["ada"], "what stands in the log counts"
        after = bytes_in(tmp_path / ".reconciler")
        assert {**after, "state.db-shm": ""} == {**before, "state.db-shm": ""}


def test_reading_what_was_closed(tmp_path: Path) -> None:
    with other_process(tmp_path):
        pass
    before = bytes_in(tmp_path / ".reconciler")
    assert set(before) == {".gitignore", "state.db", "state.db.lock"}
    assert [found.key.hire for found in read_all(tmp_path)] == ["ada"]
    assert bytes_in(tmp_path / ".reconciler") == before


def test_reading_what_a_crash_left(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = bytes_in(tmp_path / ".reconciler")
    assert "state.db-wal" in before
    assert [found.key.hire for found in read_all(tmp_path)] == ["ada"]
    assert bytes_in(tmp_path / ".reconciler") == before
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:
        assert [found.key.hire for found in ledger.grants.records()] == ["ada"]


def test_reading_where_there_is_nothing(tmp_path: Path) -> None:
    assert read_all(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_reading_reports_whether_a_process_has_the_state(tmp_path: Path) -> None:
    with other_process(tmp_path), StateLocation(STATE, tmp_path).reader() as ledger:
        assert not ledger.backend.unattended
    with StateLocation(STATE, tmp_path).reader() as ledger:
        assert ledger.backend.unattended


def test_reading_what_another_begins_to_write(tmp_path: Path) -> None:
    """The file is opened as one that nobody changes: what is read of it then is neither old nor new, nor damage."""
    location = StateLocation(STATE, tmp_path)
    with location.locked("here", NOW) as locked:
        locked.ledger.save([replace(ADA, key=Key(f"hire{number:04}", "tool")) for number in range(3000)])
    with location.reader() as ledger:
        records = ledger.grants.records()
        assert next(records).key.hire == "hire0000"
        with location.locked("here", NOW) as locked:
            locked.ledger.forget("hire0001", NOW, by="ida@here")
        with pytest.raises(LedgerError, match="another process wrote to it while it was read: try again"):
            list(records)
    with location.reader() as ledger:
        assert len(list(ledger.grants.records())) == 2999


def test_id_that_is_no_unicode_matches_no_hire(tmp_path: Path) -> None:
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:
        assert list(ledger.grants.records(["\udcff"])) == []


def test_ten_times_the_values_take_ten_times_as_long(tmp_path: Path) -> None:
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:

        def took(number: int) -> int:
            ids = [str(each) for each in range(number)]
            began = time.process_time_ns()
            assert list(ledger.grants.records(ids)) == []
            return time.process_time_ns() - began

        assert min(took(20_000) for _ in range(2)) < 40 * min(took(2_000) for _ in range(5))
