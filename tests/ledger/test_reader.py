"""The ledger that can only be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from datetime import timedelta
from inspect import getmembers, isfunction
from operator import attrgetter
from pathlib import Path

import pytest

from reconciler.ledger import schema
from reconciler.ledger.backend import engine_over
from reconciler.ledger.browsing import Chosen, Page
from reconciler.ledger.guard_counts import Held, Since
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.reading import EmptyBackend, LedgerPart
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
    assert ledger.grants.due(NOW) == ([ADA.key] if due else [])


def test_hires_in_pages(ledger: LedgerWriter) -> None:
    hires = ["ada", "bob", "zoe"]
    ledger.save([but(ADA, key=Key(hire, access)) for hire in reversed(hires) for access in ("a", "b")])
    assert ledger.grants.hires_after("", 2) == hires[:2]
    assert ledger.grants.hires_after("bob", 2) == hires[2:]
    assert ledger.grants.hires_after("zoe", 2) == []
    assert (ledger.grants.hires_with(["b", "c"]), ledger.grants.hires_with([])) == ({*hires}, set())


def test_grants_that_the_guard_holds_are_counted_by_what_would_be_done(ledger: LedgerWriter) -> None:
    def held(hire: str, **values: object) -> Record:
        return but(ADA, key=Key(hire, "tool"), guarded=True, reason="held by the guard", **values)

    ann, ben, eve = held("ann"), held("ben"), held("eve", takes=True)
    ledger.save([ann, ben, eve, held("cat", takes=True), ADA])
    ledger.attempts.begin(ann, replace(attempt(ann), kind="update"), [])
    ledger.attempts.begin(ben, replace(attempt(ben), kind="heal"), [])
    new, gone = Held("tool", takes=False), Held("tool", takes=True)
    assert sorted(ledger.guard.held_alike(Since(0, 0))) == [(new, 2, 1, 1), (gone, 2, 0, 0)]
    assert (new, 2, 0, 0) in ledger.guard.held_alike(
        Since(ledger.guard.newest_attempt(), ledger.guard.newest_attempt())
    )
    assert sorted(ledger.guard.held_of(["ann", "eve", "ada"]), key=str) == [(new, ann.key), (gone, eve.key)]
    assert ledger.guard.held() == {"tool": 4}
    assert ledger.guard.uncounted() == {}
    ledger.save([replace(ann, code=ReasonCode.COUNTING), replace(ben, code=ReasonCode.TRIPPED)])
    assert ledger.guard.uncounted() == {"tool": {ann.key}}


def test_what_was_checked_since_a_moment_is_told_from_what_was_not(ledger: LedgerWriter) -> None:
    later, keys = NOW + timedelta(hours=1), [Key(hire, "tool") for hire in ("ann", "ben", "cat", "dan")]
    ann, ben, cat, dan = (but(ADA, key=key, checked_at=later) for key in keys)
    ledger.save([ann, replace(ben, checked_at=NOW - timedelta(hours=1)), replace(cat, status=Status.UNKNOWN)])
    assert ledger.guard.answered_since(keys, NOW) == {ann.key}
    assert ledger.guard.lacks_check("tool", NOW)
    ledger.save(
        [
            replace(ben, checked_at=None, attempts=1),
            replace(dan, checked_at=NOW - timedelta(hours=1), status=Status.BLOCKED),
        ]
    )
    assert ledger.guard.answered_since(keys, NOW) == {ann.key, ben.key}, "one without a check was tried"
    assert not ledger.guard.lacks_check("tool", NOW)


def test_more_hires_than_a_statement_has_values(ledger: LedgerWriter) -> None:
    ledger.save([ADA])
    assert [*ledger.grants.records(["ada", *(f"h{number}" for number in range(70_000))])] == [ADA]


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
    assert [*ledger.grants.records([], [asked])] == [found]


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
        assert list(reader.grants.records()) == ([ADA] if there else [])
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


READINGS: dict[str, tuple[object, ...]] = {
    "accounts.first_seen": ("tool",),
    "accounts.listed_at": ("tool",),
    "accounts.seen_after": ("tool", "", 2),
    "attempts.of": (ADA.key,),
    "attempts.recent": ("ada", 3),
    "given.unanswered": (2,),
    "given.untraced_after": ("", 2),
    "grants.due": (NOW,),
    "grants.expiring": (NOW,),
    "grants.hires_after": ("", 2),
    "grants.hires_with": (["tool"],),
    "grants.integrations": (["ada"],),
    "grants.origins_after": (Key("", ""),),
    "grants.orphans": ("tool",),
    "grants.record": (ADA.key,),
    "guard.answered_since": ([ADA.key], NOW),
    "guard.changes_since": (Since(0, 0),),
    "guard.confirmed": (Since(0, 0),),
    "guard.held_alike": (Since(0, 0),),
    "guard.held_of": (["ada"],),
    "guard.lacks_check": ("tool", NOW),
    "guard.taken_from": ({"ada"},),
    "guard.made_since": (Since(0, 0),),
    "history.has_line": ("digest",),
    "history.page": (Page(),),
    "history.removals": (["ada"],),
    "history.untold": ([ADA],),
    "notes.beginning": ("prefix",),
    "notes.get": ("name",),
    "pages.count_grants": (Chosen(),),
    "pages.count_people": (Chosen(),),
    "pages.ending": (NOW, NOW, 3),
    "pages.grants": (Chosen(), Page()),
    "pages.holding": ("tool", ["owner"], 2),
    "pages.people": (Chosen(), Page()),
    "pages.waiting": (3,),
    "sealed.get": ("name",),
    "sealed.several": (["name"],),
}
"""What a reading is given, where it takes something."""


def readings() -> Iterator[str]:
    yield "members"
    for part, found in vars(LedgerReader(EmptyBackend())).items():
        if isinstance(found, LedgerPart):
            yield from (f"{part}.{name}" for name, _ in getmembers(type(found), isfunction) if name[0] != "_")


@pytest.mark.parametrize("name", sorted(readings()))
def test_no_state_reads_like_one_without_rows(name: str) -> None:
    def found(reader: LedgerReader) -> object:
        result = attrgetter(name)(reader)(*READINGS.get(name, ()))
        return list(result) if isinstance(result, Iterator) else result

    with closing(sqlite3.connect(":memory:")) as connection:
        with engine_over(connection).begin() as transaction:
            schema.metadata.create_all(transaction)
        assert found(LedgerReader(EmptyBackend())) == found(LedgerReader(SqliteBackend(connection)))
