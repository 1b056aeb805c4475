"""The ledger: what is written is read again, and what cannot be written is said clearly."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.ledger import schema
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.store import Attempt, Happening, Ledger, state_path
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key, Outcome, Phase, Record, Step
from reconciler.model.status import Action, Event, Status

NOW = datetime(2026, 12, 1, 9, 0, 0, 123456, tzinfo=UTC)
ADA = Record(
    key=Key("ada", "tool"), email="ada@example.com", integration="tool", service="suite", source="hires/ada.yaml:9"
)
STATE = "sqlite:///.reconciler/state.db"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(STATE, tmp_path)) as opened:
        yield opened


def attempt(record: Record = ADA, *, run: int = 0, number: int = 1) -> Attempt:
    return Attempt(0, record.key, record.integration, run, "execute", number, 2, NOW, NOW, None, None, "abc")


def step(index: int, outcome: Outcome = Outcome.SENT) -> Step:
    return Step(index, f"text{index}", mutates=True, outcome=outcome)


MOMENTS = st.none() | st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
TEXTS = st.text(st.characters(exclude_categories=["C"]), max_size=20)
RECORDS = st.builds(
    Record,
    key=st.just(Key("ada", "tool")),
    email=TEXTS,
    integration=TEXTS,
    service=TEXTS,
    source=TEXTS,
    origin=st.none() | TEXTS,
    phase=st.sampled_from(Phase),
    status=st.sampled_from(Status),
    action=st.sampled_from(Action),
    reason=TEXTS,
    changed=st.booleans(),
    attempts=st.integers(0, 9),
    retry_at=MOMENTS,
    checked_at=MOMENTS,
    executed_at=MOMENTS,
    confirmed_at=MOMENTS,
    healed_at=MOMENTS,
    orphaned_at=MOMENTS,
    last_error=st.none() | TEXTS,
    digest=st.none() | TEXTS,
    snapshot=st.dictionaries(
        TEXTS, TEXTS | st.integers() | st.booleans() | st.none() | st.lists(TEXTS, max_size=3), max_size=4
    ),
    needs=st.lists(TEXTS, max_size=3).map(tuple),
    lost=st.booleans(),
    fresh=st.booleans(),
    revoking=st.booleans(),
    revision=st.none() | TEXTS,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=RECORDS, second=RECORDS)
def test_what_is_saved_is_read(ledger: Ledger, first: Record, second: Record) -> None:
    for record in (first, second):
        ledger.save([record])
        assert ledger.record(record.key) == record


@pytest.mark.parametrize("again", [{}, {"checked_at": NOW}, {"checked_at": NOW, "reason": "seen"}, {"lost": True}])
def test_what_was_looked_at_again_is_written_as_far_as_it_changed(ledger: Ledger, again: dict[str, Any]) -> None:
    """Somebody else's word in between stays, where the look found nothing but the time to write."""
    ledger.save([ADA])
    ledger.save([replace(ADA, fresh=True)])
    ledger.save([replace(ADA, **again)], before={ADA.key: ADA})
    looked = again.keys() <= {"checked_at"}
    assert list(ledger.records()) == [replace(ADA, **again, fresh=looked)]


def test_what_is_not_there_any_more_is_not_made_again_by_a_look(ledger: Ledger) -> None:
    ledger.save([replace(ADA, checked_at=NOW)], before={ADA.key: ADA})
    assert list(ledger.records()) == []


def test_a_word_that_was_heard_takes_none_away_that_got_its_number(ledger: Ledger) -> None:
    ledger.leave_word("run", now=NOW, by="ida@here", hire="ada", access="tool")
    heard = ledger.words()
    ledger.save([], [], heard=heard)
    ledger.leave_word("accept", now=NOW + timedelta(seconds=1), by="ida@here", hire="bob", access="tool")
    ledger.save([], [], heard=heard)
    assert [(word.id, word.kind) for word in ledger.words()] == [(heard[0].id, "accept")]


def test_an_attempt_step_by_step(ledger: Ledger) -> None:
    """Written before the first request, at each request and answer, and at the end; what is kept goes with it."""
    begun = ledger.begin(
        ADA, attempt(), [Happening(NOW, ADA.key, "tool", Event.ATTEMPT_STARTED)], kept={"run/ada/tool": b"1"}
    )
    assert begun.run == begun.id > 0
    assert [item.id for item in ledger.open_attempts()] == [begun.id]
    record = ledger.record(ADA.key)
    assert record is not None
    assert record.run == begun.run

    ledger.sending(begun, step(0), "POST", "https://example.com/***", NOW)
    retrying = replace(ADA, run=begun.run, phase=Phase.RETRYING)
    ledger.save([retrying])
    assert steps(ledger) == (step(0),)
    later = NOW + timedelta(seconds=5)
    ledger.answered(begun, 0, Outcome.DONE, later, status_code=201, kept={"run/ada/tool": b"2"})
    ledger.sending(begun, step(1), "POST", "https://example.com/2", later)
    ledger.answered(begun, 1, Outcome.REFUSED, later, status_code=500, error="500")
    assert steps(ledger) == (step(0, Outcome.DONE), step(1, Outcome.REFUSED))
    assert ledger.sealed("run/ada/tool") == b"2"
    [open_one] = ledger.open_attempts()
    assert open_one.alive_at == later

    ledger.settle(begun, retrying, [], now=later, error="500")
    assert ledger.open_attempts() == []

    # The attempt that continues it shares its run: what it sends again takes the place of what failed.
    again = ledger.begin(retrying, attempt(retrying, run=begun.run, number=2), [])
    ledger.sending(again, step(1), "POST", "https://example.com/2", later)
    ledger.answered(again, 1, Outcome.DONE, later, status_code=200)
    assert steps(ledger) == (step(0, Outcome.DONE), step(1, Outcome.DONE))
    ledger.settle(again, replace(ADA, phase=Phase.EXECUTED), [], now=later, error=None, kept={"run/ada/tool": None})
    assert ledger.sealed("run/ada/tool") is None
    assert [(item.number, [sent.status_code for sent in sents]) for item, sents in ledger.attempts(ADA.key)] == [
        (1, [201, 500]),
        (2, [200]),
    ]
    assert [line.event for line in ledger.history()] == [Event.ATTEMPT_STARTED]


def steps(ledger: Ledger) -> tuple[Step, ...]:
    record = ledger.record(ADA.key)
    assert record is not None
    return record.steps


@pytest.mark.parametrize(
    ("record", "due"),
    [
        pytest.param({"retry_at": NOW, "status": Status.RETRYING}, True, id="now"),
        pytest.param({"retry_at": NOW + timedelta(seconds=1), "status": Status.RETRYING}, False, id="a second early"),
        pytest.param(
            {"retry_at": NOW, "status": Status.RETRYING, "checked_at": NOW},
            False,
            id="checked since: waits for its turn",
        ),
        pytest.param(
            {"retry_at": NOW, "status": Status.RETRYING, "checked_at": NOW - timedelta(hours=1)},
            True,
            id="checked before",
        ),
        pytest.param({"retry_at": NOW, "status": Status.SUSPENDED}, False, id="suspended"),
        pytest.param({"status": Status.FAILED}, False, id="failed"),
    ],
)
def test_what_is_due(ledger: Ledger, record: dict[str, object], due: bool) -> None:
    ledger.save([replace(ADA, **record)])  # type: ignore[arg-type]
    assert ledger.due(NOW) == ([ADA.key] if due else [])


def test_words_notes_and_sealed_values(ledger: Ledger) -> None:
    ledger.leave_word("retry", now=NOW, by="ida@here", hire="ada")
    ledger.leave_word("run", now=NOW, by="ida@here", hire="ada", access="tool")
    first, second = ledger.words()
    assert (first.kind, first.hire, first.access, second.access) == ("retry", "ada", None, "tool")
    ledger.save((), heard=[first])
    assert ledger.words() == [second]
    ledger.put_note("n", b"1")
    ledger.put_note("n", b"2")
    assert (ledger.note("n"), ledger.note("other")) == (b"2", None)
    ledger.put_sealed("s", b"1")
    assert ledger.sealed_names() == ["s"]
    ledger.erase("s")
    assert ledger.sealed("s") is None


def test_all_or_nothing(ledger: Ledger) -> None:
    broken = replace(ADA, key=Key("bob", "tool"), email=None)  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match="NOT NULL"):
        ledger.save([ADA, broken], [Happening(NOW, ADA.key, "tool", Event.ADOPTED)])
    assert list(ledger.records()) == []
    assert list(ledger.history()) == []


# Opening


def test_the_state_is_its_owners_alone(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / ".reconciler"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    ledger.save([ADA])
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_from_nothing_to_the_newest_schema_and_again(tmp_path: Path) -> None:
    Ledger.open(STATE, tmp_path).close()
    file = state_path(STATE, tmp_path)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("select version_num from alembic_version").fetchall() == [(schema.HEAD,)]
        made = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        for table in schema.metadata.sorted_tables:
            columns = {row[1] for row in database.execute(f"pragma table_info({table.name})")}
            assert columns == {column.name for column in table.columns}, table.name
    assert made - {"alembic_version"} == set(schema.metadata.tables)
    before = file.read_bytes()
    Ledger.open(STATE, tmp_path).close()
    assert file.read_bytes() == before, "a ledger that is up to date is left as it is"


def test_an_older_state_is_brought_up_to_date(tmp_path: Path) -> None:
    with closing(Ledger.open(STATE, tmp_path)) as ledger:
        ledger.save([ADA])
    with closing(sqlite3.connect(state_path(STATE, tmp_path))) as database, database:
        database.execute("drop index grants_guarded")
        database.execute("update alembic_version set version_num = '0001'")
    assert read_all(tmp_path) == [ADA], "what only reads takes it as it is"
    Ledger.open(STATE, tmp_path).close()
    with closing(sqlite3.connect(state_path(STATE, tmp_path))) as database:
        assert database.execute("select version_num from alembic_version").fetchall() == [(schema.HEAD,)]
        assert database.execute("select 1 from sqlite_master where name = 'grants_guarded'").fetchall() == [(1,)]
    assert read_all(tmp_path) == [ADA]


def test_a_state_from_before_entries_could_be_kept_is_read_and_brought_up_to_date(tmp_path: Path) -> None:
    with closing(Ledger.open(STATE, tmp_path)) as ledger:
        ledger.save([ADA])
    file = state_path(STATE, tmp_path)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("alter table grants drop column keep")
        database.execute("update alembic_version set version_num = '0002'")
    before = file.read_bytes()
    assert read_all(tmp_path) == [ADA]
    assert file.read_bytes() == before, "what only reads changes nothing"
    with closing(Ledger.open(STATE, tmp_path)) as ledger:
        ledger.save([replace(ADA, keep=True)])
    assert read_all(tmp_path) == [replace(ADA, keep=True)]


def test_a_state_whose_making_was_cut_off_is_as_good_as_none(tmp_path: Path) -> None:
    file = state_path(STATE, tmp_path)
    file.parent.mkdir()
    file.touch()
    assert read_all(tmp_path) == []
    assert file.stat().st_size == 0
    with closing(Ledger.open(STATE, tmp_path)) as ledger:
        ledger.save([ADA])
    assert read_all(tmp_path) == [ADA]


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    Ledger.open(STATE, tmp_path).close()
    with closing(sqlite3.connect(state_path(STATE, tmp_path))) as database, database:
        database.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(LedgerError, match="newer version"):
        Ledger.open(STATE, tmp_path)
    with pytest.raises(LedgerError, match="newer version"), Ledger.reading(STATE, tmp_path):
        pass


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: b"no database at all" * 300, id="another file"),
        pytest.param(lambda raw: raw[: len(raw) // 2], id="cut in half"),
        pytest.param(lambda raw: raw[:100] + os.urandom(4096) + raw[4196:], id="overwritten"),
    ],
)
def test_a_damaged_file_is_said_to_be(tmp_path: Path, damage: object) -> None:
    with closing(Ledger.open(STATE, tmp_path)) as ledger:
        ledger.save([replace(ADA, key=Key(f"h{number}", "tool")) for number in range(500)])
    file = state_path(STATE, tmp_path)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    for read in (lambda: list(Ledger.open(STATE, tmp_path).records()), lambda: read_all(tmp_path)):
        with pytest.raises(LedgerError, match=r"restore the state|newer") as told:
            read()
        assert "Traceback" not in str(told.value)


def read_all(root: Path) -> list[Record]:
    with Ledger.reading(STATE, root) as ledger:
        return list(ledger.records())


@pytest.mark.parametrize("there", [True, False], ids=["a state", "no state"])
def test_reader_has_no_way_to_write(tmp_path: Path, *, there: bool) -> None:
    """mypy wants the `type: ignore`, since a reader has no such method, and SQLite refuses what goes past the type."""
    if there:
        with closing(Ledger.open(STATE, tmp_path)) as writer:
            writer.save([ADA])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with Ledger.reading(STATE, tmp_path) as reader:
        assert type(reader) is LedgerReader
        with pytest.raises(AttributeError):
            reader.save([ADA])  # type: ignore[attr-defined]
        for statement in (sa.insert(schema.meta).values(name="n", value=b""), sa.delete(schema.grants)):
            with pytest.raises(LedgerError, match="readonly"), reader._backend.writing() as connection:
                connection.execute(statement)
        assert list(reader.records()) == ([ADA] if there else [])
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / ".reconciler").write_text("a file where the folder should be")
    with pytest.raises(LedgerError, match="has to be writable"):
        Ledger.open(STATE, tmp_path)


@pytest.mark.parametrize("name", ["plain", "with blank", "per%20cent", "question?mark", "hash#tag", "ümläut", "a'b"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    with closing(Ledger.open(STATE, root)) as ledger:
        ledger.save([ADA])
    assert [path.name for path in (root / ".reconciler").iterdir()] == ["state.db"]
    assert read_all(root) == [ADA]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_another_kind_of_database() -> None:
    with pytest.raises(LedgerError, match="postgresql"):
        state_path("postgresql://user:secret-word@db/state", Path())


# Forgetting


def test_who_is_forgotten_is_in_no_byte_of_the_state(tmp_path: Path) -> None:
    mark = "zebedee"
    with closing(Ledger.open(STATE, tmp_path)) as ledger:
        for stem in (mark, "zebed_e", "ada"):
            record = replace(
                ADA,
                key=Key(stem, "tool"),
                email=f"{stem}@example.com",
                source=f"hires/{stem}.yaml:3",
                snapshot={"first_name": stem, "manager": mark if stem == mark else "Grace"},
                reason=f"about {stem}",
            )
            ledger.save([record], [Happening(NOW, record.key, "tool", Event.ADOPTED, f"{stem} was found")])
            begun = ledger.begin(record, attempt(record), [], kept={f"run/{stem}/tool": stem.encode()})
            ledger.sending(begun, step(0), "POST", f"https://example.com/{stem}", NOW)
            ledger.answered(begun, 0, Outcome.REFUSED, NOW, error=f"no {stem}")
            ledger.settle(begun, record, [], now=NOW, error=f"no {stem}")
            for kind in ("stored", "notice"):
                ledger.put_sealed(f"{kind}/{stem}" + ("/tool" if kind == "notice" else ""), stem.encode())
            ledger.leave_word("retry", now=NOW, by="ida@here", hire=stem)
        assert ledger.forget(mark, NOW) == 1
    for file in (tmp_path / ".reconciler").iterdir():
        assert mark.encode() not in file.read_bytes().lower(), file.name
    with closing(Ledger.open(STATE, tmp_path)) as ledger:
        assert {record.key.hire for record in ledger.records()} == {"ada", "zebed_e"}
        assert {name for name in ledger.sealed_names() if "ada" in name} == {
            "notice/ada/tool",
            "run/ada/tool",
            "stored/ada",
        }
        assert len(ledger.sealed_names()) == 6, "a name with a sign that SQL takes for a wildcard took another along"
        events = list(ledger.history())
        assert [line.event for line in events] == [Event.ADOPTED, Event.ADOPTED, Event.FORGOTTEN]
        assert "1" in events[-1].detail
