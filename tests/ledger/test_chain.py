"""The chain of the history: what was changed, taken out, cut off or erased is noticed, but for who was forgotten."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.ledger.chain import END, Chain, Link, Names, verify
from reconciler.ledger.entries import Event
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.reading import EPOCH
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key
from reconciler.model.status import EventType
from reconciler.model.value import replace
from tests.ledger.states import NOW, STATE, change, earlier, of_schema


def line(hire: str, second: int = 0, event: EventType = EventType.ADOPTED) -> Event:
    at = NOW + timedelta(seconds=second)
    return Event(at, Key(hire, "tool"), "tool", event, "found", "abc", "Ida <ida@example.com>", "def", ("Joe",))


@pytest.fixture
def state(location: StateLocation) -> StateLocation:
    """Five lines: ada, bob, ada, bob, ada."""
    write_five(location)
    return location


def write_five(state: StateLocation) -> None:
    with closing(state.writer()) as ledger:
        for second in range(5):
            ledger.save((), [line(("ada", "bob")[second % 2], second)])


def verified(state: StateLocation) -> tuple[int, int, str | None]:
    with state.reader() as ledger:
        chain = ledger.history.verify()
    return chain.lines, chain.erased, chain.broken


def test_lines_as_they_were_written_hold(state: StateLocation) -> None:
    assert verified(state) == (5, 0, None)
    with state.reader() as ledger:
        lines = list(ledger.history.lines())
    assert [(each.granted_in, each.approved_by) for each in lines] == [("def", ("Joe",))] * 5
    assert len({each.digest for each in lines}) == 5


@pytest.mark.parametrize(
    ("statement", "first"),
    [
        ("UPDATE events SET detail = 'lost' WHERE id = 3", "line 3 (2026-12-01T09:00:02Z ada/tool "),
        ("UPDATE events SET hire = 'eve' WHERE id = 2", "line 2 ("),
        ("UPDATE events SET at = at + 1 WHERE id = 4", "line 4 ("),
        ("UPDATE events SET approved_by = '[\"Eve\"]' WHERE id = 1", "line 1 ("),
        ("UPDATE events SET granted_in = NULL WHERE id = 5", "line 5 ("),
        ("UPDATE events SET at = 9223372036854775807 WHERE id = 4", "line 4: it has a value that"),
        ("UPDATE events SET data = '9' WHERE id = 2", "line 2: it has a value that"),
        ("DELETE FROM events WHERE id = 2", "line 2 ("),
        ("DELETE FROM events WHERE id = 5", "line 5: it is missing"),
        ("DELETE FROM events", "line 1: it is missing"),
        (
            "UPDATE events SET content = (SELECT content FROM events WHERE id = 1) WHERE id = 5",
            "line 5 (",
        ),
        ("UPDATE events SET id = 10 - id", "line 1 ("),
        ("UPDATE events SET salt = NULL, hire = '', detail = '' WHERE id = 2", "1 line of the history erased"),
        (
            "UPDATE events SET salt = NULL, event = 'forgotten', detail = '9 lines of the history' WHERE id = 2",
            "1 line of the history erased",
        ),
    ],
)
def test_first_line_that_does_not_hold_is_named(state: StateLocation, statement: str, first: str) -> None:
    change(state, statement)
    broken = verified(state)[2]
    assert broken is not None
    assert broken.startswith(first)


@pytest.mark.parametrize(
    "column",
    ["hire", "access", "integration", "event", "revision", "author", "detail", "granted_in", "approved_by", "digest"],
)
def test_no_part_of_a_line_can_be_changed(state: StateLocation, column: str) -> None:
    change(state, f"UPDATE events SET {column} = '[\"changed\"]' WHERE id = 3")
    broken = verified(state)[2]
    assert broken is not None
    assert broken.startswith("line 3 (")


def test_history_of_an_earlier_release_is_whole() -> None:
    """With other digests, nothing that was written before could be verified any more."""
    written = {
        "at": datetime(2026, 12, 1, 9, tzinfo=UTC),
        "hire": "ada",
        "access": "tool",
        "integration": "tool",
        "event": "adopted",
        "revision": "abc",
        "author": "Ida <ida@example.com>",
        "detail": "found",
        "was": None,
        "granted_in": "def",
        "approved_by": ["Joe"],
        "data": None,
        "salt": bytes(range(16)),
        "content": "88efce78d780846eb1c8e614c4ffa48dfe64f58fdd19594d0c882835e2fb9688",
        "digest": "3c9dfa5c0c28a8ce1854b40f717222b7967b3e064686d6f1783cd9c4f8aad8c1",
    }
    end = Link.of(b"1 3c9dfa5c0c28a8ce1854b40f717222b7967b3e064686d6f1783cd9c4f8aad8c1")
    assert verify([written], end, Names(())) == Chain(1, 0, end.digest)


def test_forgotten_person_leaves_the_chain_whole(state: StateLocation) -> None:
    with closing(state.writer()) as ledger:
        ledger.forget("ada", NOW, by="ida@here")
        ledger.save((), [line("bob", 9)])
        told = [(each.key.hire, each.event) for each in ledger.history.lines()]
    assert told == [("bob", "adopted"), ("bob", "adopted"), ("", "forgotten"), ("bob", "adopted")]
    assert verified(state) == (7, 3, None)
    change(state, "UPDATE events SET salt = NULL, at = 0, hire = '', detail = '' WHERE id = 2")
    assert verified(state)[2] == "1 line of the history erased that no `forgotten` line vouches for"


def test_nothing_of_a_forgotten_persons_lines_is_left_but_digests(state: StateLocation) -> None:
    with closing(state.writer()) as ledger:
        ledger.forget("ada", NOW, by="ida@here")
        with ledger.backend.reading() as reading:
            (row,) = reading.rows("SELECT * FROM events WHERE id = 3")
    left = {name for name in row if row[name] and row[name] != EPOCH}
    assert left == {"id", "content", "digest"}


def test_only_a_line_of_forgetting_accounts_for_erased_ones(state: StateLocation) -> None:
    with closing(state.writer()) as ledger:
        ledger.save((), [replace(line("bob", 9), detail="answered 500: 9 lines of the history")])
    change(state, "UPDATE events SET salt = NULL, hire = '', detail = '' WHERE id = 2")
    assert verified(state)[2] == "1 line of the history erased that no `forgotten` line vouches for"


def test_line_that_was_added_past_the_program_is_named(state: StateLocation) -> None:
    with state.reader() as ledger:
        end = ledger.history.end()
    with closing(state.writer()) as ledger:
        ledger.save((), [line("eve", 9)])
    change(state, restored(state, end.as_note()))
    assert verified(state)[2] == "line 6: it was not written by this program"


def test_damaged_note_of_the_end_is_an_error(state: StateLocation) -> None:
    change(state, restored(state, b"many lines"))
    with pytest.raises(LedgerError, match="the note of where the history ends is damaged"):
        verified(state)


def restored(state: StateLocation, note: bytes) -> str:
    """The statement that sets the note of the history's end."""
    value = f"x'{note.hex()}'" if state.file is not None else f"'\\x{note.hex()}'"
    return f"UPDATE meta SET value = {value} WHERE name = '{END}'"


def test_line_with_a_nul_holds_on_either_database(state: StateLocation) -> None:
    with closing(state.writer()) as ledger:
        ledger.save((), [replace(line("eve"), detail="answered 500 \0 and no more", approved_by=("J\0",))])
        assert [*ledger.history.lines()][-1].detail == "answered 500 ␀ and no more"
    assert verified(state) == (6, 0, None)


def test_renamed_person_leaves_the_chain_whole(state: StateLocation) -> None:
    swapped = {Key("ada", "tool"): Key("bob", "tool"), Key("bob", "tool"): Key("ada", "tool")}
    with closing(state.writer()) as ledger:
        rename(ledger, swapped)
        assert [each.key.hire for each in ledger.history.lines()] == ["bob", "ada", "bob", "ada", "bob", "bob", "ada"]
        assert ledger.history.verify().broken is None
        rename(ledger, {Key("ada", "tool"): Key("lovelace", "tool~7")})
        told = [(each.key.hire, each.detail) for each in ledger.history.lines() if each.event is EventType.RENAMED]
        assert told == [("bob", "was ada/tool"), ("lovelace", "was bob/tool"), ("lovelace", "was ada/tool")]
        assert ledger.history.verify().broken is None
        ledger.forget("lovelace", NOW, by="ida@here")
    assert verified(state) == (9, 4, None)


def rename(ledger: LedgerWriter, moves: dict[Key, Key]) -> None:
    ledger.rename(
        moves,
        [replace(line("ada"), key=new, event=EventType.RENAMED, detail=f"was {old}") for old, new in moves.items()],
    )


def test_line_that_was_moved_to_another_person_is_named(state: StateLocation) -> None:
    """By the column of an earlier name, which no digest covers: only a line of the history moves lines."""
    change(state, "UPDATE events SET was = 'ada/tool', hire = 'eve' WHERE id = 3")
    assert (
        verified(state)[2]
        == "line 3 (2026-12-01T09:00:02Z eve/tool adopted): it was moved to another name: it is about ada/tool"
    )


def test_line_that_did_not_move_with_its_person_is_named(state: StateLocation) -> None:
    with closing(state.writer()) as ledger:
        rename(ledger, {Key("ada", "tool"): Key("lovelace", "tool")})
    change(state, "UPDATE events SET was = NULL, hire = 'ada' WHERE id = 3")
    assert (verified(state)[2] or "").startswith("line 3 (2026-12-01T09:00:02Z ada/tool adopted): it was moved")


def test_renames_of_an_older_state_become_lines(tmp_path: Path) -> None:
    """Of entries that swapped their names to and fro, with lines in between."""
    file = earlier(of_schema("0008"), tmp_path)
    with closing(sqlite3.connect(file)) as database:
        database.executescript(Path(__file__).with_name("renamed.sql").read_text())
    state = StateLocation(STATE, tmp_path)
    assert verified(state) == (7, 0, None), "a copy in memory is brought up to date to be read"
    state.writer().close()
    assert verified(state) == (7, 0, None)
    change(state, "UPDATE events SET access = 'tool' WHERE id = 3")
    assert (verified(state)[2] or "").startswith("line 3 (2026-12-01T09:00:03Z ada/tool adopted): it was moved")


def test_lines_of_an_older_state_are_chained(tmp_path: Path) -> None:
    earlier(of_schema("0004"), tmp_path)
    state = StateLocation(STATE, tmp_path)
    more = "INSERT INTO events SELECT id + {}, at, 'bob', access, integration, event, NULL, author, 'x' FROM events"
    change(state, *(more.format(count) for count in (1, 2)), "DELETE FROM events WHERE id = 3")
    change(state, more.format(4))
    assert verified(state) == (6, 0, None), "a copy in memory is brought up to date to be read"
    with closing(state.writer()) as ledger:
        ledger.save((), [line("bob", 9)])
        assert len(list(ledger.history.lines())) == 7
    assert verified(state) == (7, 0, None)


def test_writer_meanwhile_breaks_nothing(state: StateLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(state.writer()) as ledger:
        _write_while_it_is_verified(ledger, monkeypatch)
        assert ledger.history.verify().broken is None


def _write_while_it_is_verified(ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.ledger import chain

    whole = chain._broken
    more = iter(range(3))

    def broken(*arguments: object) -> str | None:
        if (second := next(more, None)) is not None:
            ledger.save((), [line("eve", 60 + second)])
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(chain, "_broken", broken)
