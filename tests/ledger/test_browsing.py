"""Reading the ledger page by page: who is on a page, in which order, what waits for a person."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reconciler.ledger.browsing import Chosen, Page
from reconciler.ledger.entries import Event
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.grant import Key, Record
from reconciler.model.status import Action, EventType, ReasonCode, Status
from reconciler.model.value import replace
from tests.ledger.states import ADA, NOW


def record(hire: str, access: str = "tool", status: Status = Status.PRESENT, **changes: object) -> Record:
    made = replace(ADA, key=Key(hire, access), email=f"{hire}@Example.com", integration=access, status=status)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def people(ledger: LedgerWriter) -> LedgerWriter:
    """Seven people with a tool, of whom the first two have a chat as well."""
    found = [record(f"h{number}", checked_at=NOW + timedelta(hours=number)) for number in range(7)]
    found += [record("h0", "chat", Status.FAILED), record("h1", "chat", Status.SCHEDULED)]
    ledger.save(found)
    return ledger


def test_people_come_page_by_page_with_all_their_grants_counted(people: LedgerWriter) -> None:
    first, last = (people.pages.people(Chosen(), Page(number, 3)) for number in (1, 3))
    assert [each.hire for each in first] == ["h0", "h1", "h2"]
    assert [each.hire for each in last] == ["h6"]
    assert dict(first[0].counts) == {Status.PRESENT: 1, Status.FAILED: 1}
    assert [each.checked_at for each in first] == [NOW, NOW + timedelta(hours=1), NOW + timedelta(hours=2)]
    assert people.pages.people(Chosen(), Page(4, 3)) == []


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        (Chosen(), 7),
        (Chosen(text="H3"), 1),
        (Chosen(text="example.COM"), 7),
        (Chosen(text="%"), 0),
        (Chosen(text="_"), 0),
        (Chosen(hires=["h1", "h2", "nobody"]), 2),
        (Chosen(integrations=["chat"]), 2),
        (Chosen(statuses=[Status.FAILED, Status.SCHEDULED]), 2),
        (Chosen(integrations=["tool"], statuses=[Status.FAILED]), 0),
    ],
)
def test_filters_choose_people(people: LedgerWriter, chosen: Chosen, wanted: int) -> None:
    assert people.pages.count_people(chosen) == len(people.pages.people(chosen, Page())) == wanted


@pytest.mark.parametrize("text", ["Élodie", "ÉLODIE", "lodie"])
def test_people_are_found_by_letters_of_any_alphabet(ledger: LedgerWriter, text: str) -> None:
    ledger.save([record("Élodie")])
    assert ledger.pages.count_people(Chosen(text=text)) == 1


def test_grants_with_something_wrong_come_first(people: LedgerWriter) -> None:
    found = people.pages.grants(Chosen(), Page(1, 3))
    assert [(each.key.hire, each.status) for each in found] == [
        ("h0", Status.FAILED),
        ("h1", Status.SCHEDULED),
        ("h0", Status.PRESENT),
    ]
    assert people.pages.count_grants(Chosen()) == 9


def test_waiting_grants_have_examples_and_count(ledger: LedgerWriter) -> None:
    none = Action.NONE
    ledger.save(
        [
            *(record(f"f{number}", status=Status.FAILED) for number in range(5)),
            record("blocked", "wiki", Status.BLOCKED),
            record("orphan", status=Status.ORPHANED),
            record("kept", status=Status.ORPHANED, keep=True),
            record("pruned", status=Status.ORPHANED, action=Action.REVOKE),
            record("drift", status=Status.MISSING, action=none, lost=True),
            record("new", status=Status.MISSING, action=Action.EXECUTE),
            record("differs", status=Status.DIFFERS, action=none),
            record("updated", status=Status.DIFFERS, action=none, updated_at=NOW),
            record("held", status=Status.SUSPENDED, guarded=True),
            record("paused", status=Status.SUSPENDED),
            record("fine"),
        ]
    )
    found = ledger.pages.waiting(2)
    assert [(count, each.key.hire) for count, each in found] == [
        (1, "differs"),
        (5, "f0"),
        (5, "f1"),
        (1, "drift"),
        (1, "orphan"),
        (1, "held"),
        (1, "blocked"),
    ]


def test_what_ends_soon_comes_in_its_order_and_counted(ledger: LedgerWriter) -> None:
    week, hour = NOW + timedelta(days=7), timedelta(hours=1)
    ends = {"later": week + hour, "last": week, "soon": NOW + hour, "next": NOW + 2 * hour, "now": NOW}
    ledger.save([record("over", ends_at=NOW - hour, expire_at=NOW + hour), record("stays")])
    ledger.save([record(hire, ends_at=at, expire_at=at) for hire, at in ends.items()])
    count, first = ledger.pages.ending(NOW, week, 2)
    assert (count, [each.key.hire for each in first]) == (3, ["soon", "next"])


def test_who_holds_a_value_is_found_by_its_text(ledger: LedgerWriter) -> None:
    def holds(hire: str, role: object, access: str = "tool", **changes: Any) -> Record:
        return record(hire, access, **{"snapshot": {"ROLE": role}, "confirmed_at": NOW, **changes})

    found = [
        holds("ada", "owner"),
        holds("bob", "member"),
        holds("cleo", ["100%", "Chef_in"]),
        holds("dan", {"name": "Grüße"}),
        holds("eve", "owner", confirmed_at=None),
        holds("gus", "owner", status=Status.REVOKED),
        holds("hal", "owner", "chat"),
        holds("ida", "owners"),
        holds("jo", "GRÜSSE "),
        holds("kim", [" OWNER", "x"]),
    ]
    ledger.save(found)
    holding = [
        [each.key.hire for each in ledger.pages.holding("tool", texts, 10)]
        for texts in (["owner"], ["100%"], ["Chef_in", "owner"], ["grüsse"], ["Grüße"], ["100_"], ["%"])
    ]
    assert holding == [["ada", "kim"], ["cleo"], ["ada", "cleo", "kim"], ["jo"], ["dan", "jo"], [], []]
    assert [each.key.hire for each in ledger.pages.holding("tool", ["owner", "member"], 1)] == ["ada"]


def test_the_history_comes_newest_first_and_filtered_like_the_whole(ledger: LedgerWriter) -> None:
    ledger.save(
        (),
        [
            Event(NOW + timedelta(hours=number), Key(f"h{number % 2}", "tool"), "tool", EventType.ADOPTED, str(number))
            for number in range(10)
        ],
    )
    assert [each.detail for each in ledger.history.page(Page(2, 4))] == ["5", "4", "3", "2"]
    by: dict[str, Any] = {"hires": ["h1"], "since": NOW + timedelta(hours=3), "until": NOW + timedelta(hours=9)}
    whole = [each.detail for each in ledger.history.lines(**by)]
    assert [each.detail for each in ledger.history.page(Page(), **by)] == whole[::-1] == ["7", "5", "3"]
    assert ledger.history.count(**by) == 3
    assert ledger.history.end().number == 10
    assert ledger.history.end().digest == ledger.history.verify().digest


def test_notes_are_found_by_what_they_begin_with(ledger: LedgerWriter) -> None:
    for name in ("outages:a", "outages:b", "outagesXc", "other"):
        ledger.notes.put(name, name.encode())
    assert ledger.notes.beginning("outages:") == {"a": b"outages:a", "b": b"outages:b"}


def test_counts_of_policy_holds_and_last_check_times(ledger: LedgerWriter) -> None:
    ledger.save(
        [
            record("a", status=Status.BLOCKED, reason="policy two-keys: never both", code=ReasonCode.POLICY),
            record("b", status=Status.BLOCKED, reason="policy is missing", checked_at=NOW),
            record("c", "chat"),
        ]
    )
    assert ledger.pages.held_by_policy() == {"tool": 1}
    assert ledger.pages.last_checked() == {"tool": NOW}
