"""The ledger that can only be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from datetime import timedelta
from inspect import getmembers, isfunction
from pathlib import Path

import pytest

from reconciler.ledger import schema
from reconciler.ledger.browsing import Chosen, Page
from reconciler.ledger.empty import EmptyBackend
from reconciler.ledger.guard_counts import Held, Since
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sqlite.engine import engine_over
from reconciler.ledger.sqlite.reading import SqliteBackend
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key, Record
from reconciler.model.status import ReasonCode, Status
from reconciler.model.value import replace
from tests.ledger.states import ADA, NOW, STATE, attempt
from tests.records import but


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
def test_due_grants(ledger: LedgerWriter, record: dict[str, object], due: bool) -> None:
    ledger.save([but(ADA, **record)])
    assert ledger.due(NOW) == ([ADA.key] if due else [])


def test_hires_in_pages(ledger: LedgerWriter) -> None:
    hires = ["ada", "bob", "zoe"]
    ledger.save([but(ADA, key=Key(hire, access)) for hire in reversed(hires) for access in ("a", "b")])
    assert ledger.hires_after("", 2) == hires[:2]
    assert ledger.hires_after("bob", 2) == hires[2:]
    assert ledger.hires_after("zoe", 2) == []


def test_grants_that_the_guard_holds_are_counted_by_what_would_be_done(ledger: LedgerWriter) -> None:
    def held(hire: str, **values: object) -> Record:
        return but(ADA, key=Key(hire, "tool"), guarded=True, reason="held by the guard", **values)

    wants, differs = {"role": "admin"}, {"role": ["member", "admin"]}
    ann, ben, eve = held("ann"), held("ben"), held("eve", as_wanted_at=NOW, wants=wants, differs=differs)
    ledger.save([ann, ben, eve, held("cat", lost=True), held("dan", orphaned_at=NOW), ADA])
    ledger.begin(ann, replace(attempt(ann), kind="update"), [])
    ledger.begin(ben, replace(attempt(ben), kind="heal"), [])
    new = Held("tool", gone=False, was_as_wanted=False, wants={}, differs={})
    gone, changed = new._replace(gone=True), Held("tool", gone=False, was_as_wanted=True, wants=wants, differs=differs)
    assert sorted(ledger.held_alike(Since(0, 0)), key=str) == [(new, 2, 1, 1), (changed, 1, 0, 0), (gone, 2, 0, 0)]
    assert (new, 2, 0, 0) in ledger.held_alike(Since(ledger.newest_attempt(), ledger.newest_attempt()))
    assert sorted(ledger.held_of(["ann", "eve", "ada"]), key=str) == [(new, ann.key), (changed, eve.key)]
    assert ledger.held() == {"tool": 5}
    assert ledger.uncounted() == {}
    ledger.save([replace(ann, code=ReasonCode.COUNTING), replace(ben, code=ReasonCode.TRIPPED)])
    assert ledger.uncounted() == {"tool": {ann.key}}


def test_what_was_checked_since_a_moment_is_told_from_what_was_not(ledger: LedgerWriter) -> None:
    later, keys = NOW + timedelta(hours=1), [Key(hire, "tool") for hire in ("ann", "ben", "cat", "dan")]
    ann, ben, cat, dan = (but(ADA, key=key, checked_at=later) for key in keys)
    ledger.save([ann, replace(ben, checked_at=NOW - timedelta(hours=1)), replace(cat, status=Status.UNKNOWN)])
    assert ledger.answered_since(keys, NOW) == {ann.key}
    assert ledger.lacks_check("tool", NOW)
    ledger.save(
        [replace(ben, checked_at=None), replace(dan, checked_at=NOW - timedelta(hours=1), status=Status.BLOCKED)]
    )
    assert ledger.answered_since(keys, NOW) == {ann.key, ben.key}, "for one without a check nobody waits"
    assert not ledger.lacks_check("tool", NOW)


def test_more_hires_than_a_statement_has_values(ledger: LedgerWriter) -> None:
    ledger.save([ADA])
    assert [*ledger.records(["ada", *(f"h{number}" for number in range(70_000))])] == [ADA]


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("Ada@Example.com", "aDA@example.com"),
        ("ÉVA@example.com", "ÉVA@example.com"),
        ("ÉVA@example.com", "éva@Example.com"),
        ("zoë@exämple.com", "ZoË@EXÄMPLE.com"),
        ("Ёлка.Снегова@example.com", "ёлка.снегова@example.com"),
        ("ЁЛКА.СНЕГОВА@example.com", "ёлка.снегова@example.com"),
        ("straße@example.com", "STRAßE@example.com"),
    ],
)
def test_address_is_found_in_any_case(ledger: LedgerWriter, stored: str, asked: str) -> None:
    ledger.save([found := but(ADA, email=stored)])
    assert [*ledger.records([], [asked])] == [found]


@pytest.mark.parametrize("there", [True, False], ids=["a state", "no state"])
def test_reader_has_no_way_to_write(tmp_path: Path, *, there: bool) -> None:
    """mypy wants the `type: ignore`, since a reader has no such method, and SQLite refuses what goes past the type.

    Where there is no state, nothing is behind the reader that could be written to.
    """
    if there:
        with closing(StateLocation(STATE, tmp_path).writer()) as writer:
            writer.save([ADA])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with StateLocation(STATE, tmp_path).reader() as reader:
        assert type(reader) is LedgerReader
        with pytest.raises(AttributeError):
            reader.save([ADA])  # type: ignore[attr-defined]
        for statement in ("INSERT INTO meta (name, value) VALUES ('n', '')", "DELETE FROM grants"):
            refused = pytest.raises(LedgerError, match="readonly") if there else nullcontext()
            with refused, reader.backend.reading() as reading:
                reading.value(statement)
        assert list(reader.records()) == ([ADA] if there else [])
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


READINGS: dict[str, tuple[object, ...]] = {
    "answered_since": ([ADA.key], NOW),
    "attempts": (ADA.key,),
    "confirmed": (Since(0, 0),),
    "removed": (["ada"],),
    "untold": ([ADA],),
    "changes_since": (Since(0, 0),),
    "count_grants": (Chosen(),),
    "count_people": (Chosen(),),
    "due": (NOW,),
    "ending": (NOW, NOW, 3),
    "expiring": (NOW,),
    "first_seen": ("tool",),
    "grants": (Chosen(), Page()),
    "has_line": ("digest",),
    "held_alike": (Since(0, 0),),
    "held_of": (["ada"],),
    "hires_after": ("", 2),
    "holding": ("tool", ["owner"], 2),
    "history_page": (Page(),),
    "integrations": (["ada"],),
    "lacks_check": ("tool", NOW),
    "listed_at": ("tool",),
    "made_since": (Since(0, 0),),
    "note": ("name",),
    "notes": ("prefix",),
    "people": (Chosen(), Page()),
    "recent_attempts": ("ada", 3),
    "record": (ADA.key,),
    "sealed": ("name",),
    "origins_after": (Key("", ""),),
    "sealed_values": (["name"],),
    "seen": ("tool",),
    "seen_after": ("tool", "", 2),
    "untraced_after": ("", 2),
    "waiting": (3,),
}
"""What a reading is given, where it takes something."""


@pytest.mark.parametrize(
    "name",
    sorted(name for name, _ in getmembers(LedgerReader, isfunction) if name[0] != "_"),
)
def test_no_state_reads_like_one_without_rows(name: str) -> None:
    def found(reader: LedgerReader) -> object:
        result = getattr(reader, name)(*READINGS.get(name, ()))
        return list(result) if isinstance(result, Iterator) else result

    with closing(sqlite3.connect(":memory:")) as connection:
        with engine_over(connection).begin() as transaction:
            schema.metadata.create_all(transaction)
        assert found(LedgerReader(EmptyBackend())) == found(LedgerReader(SqliteBackend(connection)))
