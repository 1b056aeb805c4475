"""The ledger that writes: what is written is read again, all or nothing."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.ledger.entries import Event
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.attribution import Unattributed
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.run import Kind, OpenRun, Outcome, Step
from reconciler.model.status import Action, EventType, Status
from reconciler.model.value import replace
from tests.ledger.states import ADA, NOW, STATE, attempt, step

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
    phase=st.sampled_from([phase for phase in Phase if not phase.unsettled]),
    status=st.sampled_from(Status),
    action=st.sampled_from(Action),
    reason=TEXTS,
    changed=st.booleans(),
    attempts=st.integers(0, 9),
    checked_at=MOMENTS,
    executed_at=MOMENTS,
    confirmed_at=MOMENTS,
    healed_at=MOMENTS,
    orphaned_at=MOMENTS,
    last_error=st.none() | TEXTS,
    snapshot=st.dictionaries(
        TEXTS, TEXTS | st.integers() | st.booleans() | st.none() | st.lists(TEXTS, max_size=3), max_size=4
    ),
    needs=st.lists(TEXTS, max_size=3).map(tuple),
    through=st.lists(TEXTS, max_size=3).map(tuple),
    lost=st.booleans(),
    fresh=st.booleans(),
    open=st.none()
    | st.builds(
        OpenRun,
        kind=st.sampled_from(Kind),
        id=st.integers(1, 9),
        digest=st.none() | TEXTS,
        by_hand=st.booleans(),
        retry_at=MOMENTS,
    ),
    revision=st.none() | TEXTS,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=RECORDS, second=RECORDS)
def test_saved_entries_are_read_back(ledger: LedgerWriter, first: Record, second: Record) -> None:
    for record in (first, second):
        ledger.save([record])
        assert ledger.grants.record(record.key) == record


@pytest.mark.parametrize("again", [{}, {"checked_at": NOW}, {"checked_at": NOW, "reason": "seen"}, {"lost": True}])
def test_rechecked_record_writes_changed_columns_only(ledger: LedgerWriter, again: dict[str, Any]) -> None:
    """Somebody else's word in between stays, where the look found nothing but the time to write."""
    ledger.save([ADA])
    ledger.save([replace(ADA, fresh=True)])
    ledger.save([replace(ADA, **again)], before={ADA.key: ADA})
    looked = again.keys() <= {"checked_at"}
    assert list(ledger.grants.records()) == [replace(ADA, **again, fresh=looked)]


def test_recheck_does_not_recreate_a_deleted_record(ledger: LedgerWriter) -> None:
    ledger.save([replace(ADA, checked_at=NOW)], before={ADA.key: ADA})
    assert list(ledger.grants.records()) == []


def test_an_answered_command_does_not_remove_another_of_the_same_id(ledger: LedgerWriter) -> None:
    ledger.commands.enqueue("run", now=NOW, by="ida@here", hire="ada", access="tool")
    answered = ledger.commands.waiting()
    ledger.save([], [], answered=answered)
    ledger.commands.enqueue("accept", now=NOW + timedelta(seconds=1), by="ida@here", hire="bob", access="tool")
    ledger.save([], [], answered=answered)
    assert [command.kind for command in ledger.commands.waiting()] == ["accept"]


def test_an_attempt_step_by_step(ledger: LedgerWriter) -> None:
    """Written before the first request, at each request and answer, and at the end; what is kept goes with it."""
    begun = ledger.attempts.begin(
        ADA, attempt(), [Event(NOW, ADA.key, "tool", EventType.ATTEMPT_STARTED)], kept={"run/ada/tool": b"1"}
    )
    assert begun.run == begun.id > 0
    assert [item.id for item in ledger.attempts.open()] == [begun.id]
    record = ledger.grants.record(ADA.key)
    assert record is not None
    assert record.run.id == begun.run

    ledger.attempts.sending(begun, step(0), "POST", "https://example.com/***", NOW)
    retrying = replace(ADA, open=OpenRun(id=begun.run), phase=Phase.RETRYING)
    ledger.save([retrying])
    assert steps(ledger) == (step(0),)
    later = NOW + timedelta(seconds=5)
    ledger.attempts.answered(begun, 0, Outcome.DONE, later, status_code=201, kept={"run/ada/tool": b"2"})
    ledger.attempts.sending(begun, step(1), "POST", "https://example.com/2", later)
    ledger.attempts.answered(begun, 1, Outcome.REFUSED, later, status_code=500, error="500")
    assert steps(ledger) == (step(0, Outcome.DONE, 201), step(1, Outcome.REFUSED, 500))
    assert ledger.sealed.get("run/ada/tool") == b"2"
    [open_one] = ledger.attempts.open()
    assert open_one.alive_at == later

    ledger.attempts.settle(begun, retrying, [], now=later, error="500")
    assert ledger.attempts.open() == []

    # The attempt that continues it shares its run: what it sends again takes the place of what failed.
    again = ledger.attempts.begin(retrying, attempt(retrying, run=begun.run, number=2), [])
    ledger.attempts.sending(again, step(1), "POST", "https://example.com/2", later)
    ledger.attempts.answered(again, 1, Outcome.DONE, later, status_code=200)
    assert steps(ledger) == (step(0, Outcome.DONE, 201), step(1, Outcome.DONE, 200))
    ledger.attempts.settle(
        again, replace(ADA, phase=Phase.EXECUTED), [], now=later, error=None, kept={"run/ada/tool": None}
    )
    assert ledger.sealed.get("run/ada/tool") is None
    assert [(item.number, [sent.status_code for sent in sents]) for item, sents in ledger.attempts.of(ADA.key)] == [
        (1, [201, 500]),
        (2, [200]),
    ]
    assert [line.event for line in ledger.history.lines()] == [EventType.ATTEMPT_STARTED]


def steps(ledger: LedgerWriter) -> tuple[Step, ...]:
    record = ledger.grants.record(ADA.key)
    assert record is not None
    return record.run.steps


def test_words_notes_and_sealed_values(ledger: LedgerWriter) -> None:
    ledger.commands.enqueue("retry", now=NOW, by="ida@here", hire="ada")
    ledger.commands.enqueue("run", now=NOW, by="ida@here", hire="ada", access="tool")
    first, second = ledger.commands.waiting()
    assert (first.kind, first.hire, first.access, second.access) == ("retry", "ada", None, "tool")
    ledger.save((), answered=[first])
    assert ledger.commands.waiting() == [second]
    ledger.notes.put("n", b"1")
    ledger.notes.put("n", b"2")
    assert (ledger.notes.get("n"), ledger.notes.get("other")) == (b"2", None)
    ledger.sealed.put("s", b"1")
    assert ledger.sealed.names() == ["s"]
    ledger.sealed.put("s", None)
    assert ledger.sealed.get("s") is None


def test_hires_whose_givers_are_yet_to_be_found_out(ledger: LedgerWriter) -> None:
    ledger.given.retrace(["ada", "bob"], None, "first")
    ledger.given.retrace(["ada", "cyd", "dan"], "first", "second", ended=True)
    assert ledger.given.up_to() == "second"
    adas, bobs, cyds = Unattributed(None, "second"), Unattributed(None, "first"), Unattributed("first", "second")
    assert ledger.given.untraced() == {"ada": adas, "bob": bobs, "cyd": cyds, "dan": cyds}
    assert ledger.given.untraced(["bob", "eve"]) == {"bob": bobs}
    assert ledger.given.untraced_after("ada", 2) == {"bob": bobs, "cyd": cyds}
    ledger.given.save(
        [], {"ada": Unattributed(None, "first"), "bob": bobs}
    )  # of ada, another member saw a newer commit
    ledger.forget("dan", NOW, by="ida@here")
    assert ledger.given.untraced() == {"ada": adas, "cyd": cyds}


def test_all_or_nothing(ledger: LedgerWriter) -> None:
    broken = replace(ADA, key=Key("bob", "tool"), email=None)  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match=r"(?i)not.null constraint"):
        ledger.save([ADA, broken], [Event(NOW, ADA.key, "tool", EventType.ADOPTED)])
    assert list(ledger.grants.records()) == []
    assert list(ledger.history.lines()) == []


def test_forgotten_person_is_in_no_byte_of_the_state(tmp_path: Path) -> None:
    mark = "zebedee"
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:
        for stem in (mark, "zebed_e", "ada"):
            record = replace(
                ADA,
                key=Key(stem, "tool"),
                email=f"{stem}@example.com",
                source=f"hires/{stem}.yaml:3",
                snapshot={"first_name": stem, "manager": mark if stem == mark else "Grace"},
                reason=f"about {stem}",
            )
            ledger.save([record], [Event(NOW, record.key, "tool", EventType.ADOPTED, f"{stem} was found")])
            begun = ledger.attempts.begin(record, attempt(record), [], kept={f"run/{stem}/tool": stem.encode()})
            ledger.attempts.sending(begun, step(0), "POST", f"https://example.com/{stem}", NOW)
            ledger.attempts.answered(begun, 0, Outcome.REFUSED, NOW, error=f"no {stem}")
            ledger.attempts.settle(begun, record, [], now=NOW, error=f"no {stem}")
            for kind in ("stored", "notice"):
                ledger.sealed.put(f"{kind}/{stem}" + ("/tool" if kind == "notice" else ""), stem.encode())
            ledger.commands.enqueue("retry", now=NOW, by="ida@here", hire=stem)
        assert ledger.forget(mark, NOW, by="ida@here") == 1
    for file in (tmp_path / ".reconciler").iterdir():
        assert mark.encode() not in file.read_bytes().lower(), file.name
    with closing(StateLocation(STATE, tmp_path).writer()) as ledger:
        assert {record.key.hire for record in ledger.grants.records()} == {"ada", "zebed_e"}
        assert {name for name in ledger.sealed.names() if "ada" in name} == {
            "notice/ada/tool",
            "run/ada/tool",
            "stored/ada",
        }
        assert len(ledger.sealed.names()) == 6, "a name with a sign that SQL takes for a wildcard took another along"
        events = list(ledger.history.lines())
        assert [line.event for line in events] == [EventType.ADOPTED, EventType.ADOPTED, EventType.FORGOTTEN]
        assert "1" in events[-1].detail
