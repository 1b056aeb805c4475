"""docs/design/states.md, "Removed": an entry's time that lay ahead when it was first acted on, and is over."""

from __future__ import annotations

import pytest

from reconciler.model.clock import stamp
from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import row

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


def give(repo, **ends):
    """Commit ada's file; `for_` stands for `for`."""
    repo.hire("ada", TOOL | {name.rstrip("_"): value for name, value in ends.items()})
    repo.commit()


def status(machine):
    return row(machine.reconcile(), "ada", "tool").status


@pytest.fixture
def eight_hours(machine, repo):
    """The machine after the pass that gave ada eight hours, at 09:00."""
    give(repo, for_="8h")
    given = row(machine.reconcile(), "ada", "tool")
    assert (given.status, stamp(given.until)) == (Status.PRESENT, "2026-12-01T17:00:00Z")
    return machine


def test_what_is_over_is_revoked_whatever_prune_says(eight_hours, accounts):
    machine = eight_hours
    machine.clock.turn(hours=7, minutes=59, seconds=59)
    assert status(machine) is Status.PRESENT
    machine.clock.turn(seconds=1)
    over = row(machine.reconcile(), "ada", "tool")
    assert (over.status, len(accounts.calls("DELETE"))) == (Status.REVOKED, 1)
    assert stamp(over.due_at) == "2026-12-01T17:00:00Z"
    (expired,) = [line for line in machine.history("ada") if line.event is EventType.EXPIRED]
    assert expired.detail == "for 8h is over"


def test_a_time_within_the_day_is_over_to_the_second(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, timezone="Europe/Berlin")
    give(repo, until="2026-12-01T18:30")
    assert status(machine) is Status.PRESENT
    machine.clock.turn(hours=8, minutes=29, seconds=59)
    assert status(machine) is Status.PRESENT
    machine.clock.turn(seconds=1)
    assert status(machine) is Status.REVOKED


def test_what_was_revoked_does_not_come_again_while_its_entry_stays(eight_hours, accounts, repo):
    machine = eight_hours
    machine.clock.turn(hours=9)
    assert status(machine) is Status.REVOKED
    for ends in ({"for_": "8h"}, {"for_": "24h"}, {}):  # neither made longer nor its end taken out
        give(repo, **ends)
        assert status(machine) is Status.REVOKED
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    give(repo, for_="1h")
    again = row(machine.reconcile(), "ada", "tool")
    assert (again.status, stamp(again.until)) == (Status.PRESENT, "2026-12-01T19:00:00Z"), "asked for anew"
    machine.clock.turn(hours=1)
    assert status(machine) is Status.REVOKED


def test_a_time_made_longer_while_it_runs_counts_from_the_same_moment(eight_hours, repo):
    machine = eight_hours
    machine.clock.turn(hours=7)
    give(repo, for_="10h")
    assert stamp(row(machine.reconcile(), "ada", "tool").until) == "2026-12-01T19:00:00Z"
    machine.clock.turn(hours=2)
    assert status(machine) is Status.PRESENT
    machine.clock.turn(hours=1)
    assert status(machine) is Status.REVOKED


@pytest.mark.parametrize("ends", [{"for_": "1h"}, {"until": "2026-12-01T10:00Z"}])
def test_a_time_made_shorter_is_a_removal_like_another_and_over_at_its_former_end(eight_hours, accounts, repo, ends):
    machine = eight_hours
    machine.clock.turn(hours=2)
    give(repo, **ends)
    assert (status(machine), accounts.calls("DELETE")) == (Status.ORPHANED, [])
    machine.clock.turn(hours=6)
    assert status(machine) is Status.REVOKED


def test_a_time_that_was_over_when_it_was_first_acted_on_takes_nothing_away(machine, accounts, repo):
    assert status(machine) is Status.PRESENT
    give(repo, until="2026-11-30T18:00")
    assert (status(machine), accounts.calls("DELETE")) == (Status.ORPHANED, [])
    repo.hire("bob", TOOL | {"until": "2026-11-30T18:00"})
    repo.commit()
    report = machine.reconcile()
    assert [item for item in report.rows if item.hire == "bob"] == []


@pytest.mark.parametrize("what", ["the entry leaves", "the file breaks", "it is invalid", "the file leaves"])
def test_the_ledger_knows_the_end_whatever_the_file_is_by_then(eight_hours, accounts, repo, what):
    machine = eight_hours
    machine.clock.turn(hours=1)
    match what:
        case "the entry leaves":
            repo.hire("ada")
        case "the file breaks":
            repo.write("hires/ada.yaml", "email: [\n")
        case "it is invalid":
            repo.hire("ada", TOOL | {"values": {"NONE": "1"}})
        case _:
            repo.remove("hires/ada.yaml")
    repo.commit()
    assert status(machine) in (Status.ORPHANED, Status.INVALID)
    machine.clock.turn(hours=7)
    assert (status(machine), len(accounts.calls("DELETE"))) == (Status.REVOKED, 1)


@pytest.mark.parametrize(
    ("settings", "entry", "left"),
    [
        ({"expire": "prune"}, {}, Status.ORPHANED),
        ({"suspend": [{"hire": "ada"}]}, {}, Status.SUSPENDED),
        ({}, {"keep": True}, Status.ORPHANED),
    ],
)
def test_what_holds_it(eight_hours, accounts, repo, settings, entry, left):
    machine = eight_hours
    repo.settings(gnupg_home=repo.gnupg.path, **settings)
    give(repo, for_="8h", **entry)
    machine.reconcile()
    machine.clock.turn(hours=8)
    assert (status(machine), accounts.calls("DELETE")) == (left, [])
    assert machine.record("ada", "tool").expire_at is None, "no pass is due for it by itself"


def test_who_does_not_answer_is_asked_again_each_minute(eight_hours, accounts):
    machine = eight_hours
    accounts.fail_next(None, 503, method="GET")
    machine.clock.turn(hours=8)
    silent = row(machine.reconcile(), "ada", "tool")
    assert (silent.status, silent.action) == (Status.ORPHANED, Action.NONE)
    assert stamp(machine.record("ada", "tool").expire_at) == "2026-12-01T17:01:00Z"
    with machine.ledger() as ledger:
        assert ledger.expiring(machine.clock.now()) == []
        machine.clock.turn(minutes=1)
        assert [str(key) for key in ledger.expiring(machine.clock.now())] == ["ada/tool"]
    accounts.clear()
    assert status(machine) is Status.REVOKED


def test_without_exists_it_is_revoked_once(machine, accounts, repo):
    repo.manifest("tool", {name: value for name, value in accounts.manifest(revoke=True).items() if name != "exists"})
    repo.hire("ada", {"integration": "tool", "for": "1h"})
    repo.commit()
    assert status(machine) is Status.DONE
    machine.clock.turn(hours=1)
    assert [status(machine) for _ in range(2)] == [Status.REVOKED] * 2
    assert len(accounts.calls("DELETE")) == 1


def test_two_entries_for_one_account_do_not_keep_it_once_both_are_over(machine, accounts, repo):
    entries = [TOOL | {"name": name, "for": length} for name, length in (("first", "1h"), ("second", "2h"))]
    repo.hire("ada", *entries)
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "first").status is Status.ORPHANED
    assert accounts.calls("DELETE") == []
    machine.clock.turn(hours=1)
    machine.reconcile()
    assert len(accounts.calls("DELETE")) == 1


def test_an_attempt_that_failed_is_not_made_again_once_it_is_over(machine, accounts, repo):
    give(repo, for_="30m")
    accounts.fail_next(None, 400, method="POST")
    assert status(machine) is Status.RETRYING
    accounts.clear()
    machine.clock.turn(hours=2)
    made = len(accounts.calls("POST"))
    for _ in range(2):
        machine.reconcile()
    assert len(accounts.calls("POST")) == made


def test_whose_last_day_was_over_and_is_given_another_comes_back(machine, accounts, repo):
    repo.hire("ada", TOOL, end="2026-12-01")
    repo.commit()
    assert status(machine) is Status.PRESENT
    machine.clock.turn(days=1)
    assert status(machine) is Status.REVOKED
    repo.hire("ada", TOOL, end="2027-06-30")
    repo.commit()
    assert status(machine) is Status.PRESENT


def test_the_guard_counts_times_that_a_revision_moved_and_no_others(machine, accounts, repo):
    repo.settings(gnupg_home=repo.gnupg.path, max_change_percent=10)
    people = [f"p{number}" for number in range(8)]
    for name in people:
        repo.hire(name, TOOL | {"for": "1h"})
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=1)
    assert {row(machine.reconcile(), name, "tool").status for name in people[:1]} == {Status.REVOKED}
    for name in people:
        repo.hire(name)
    repo.commit()
    machine.reconcile()
    for name in people:
        repo.hire(name, TOOL)
    repo.commit()
    machine.reconcile()
    for name in people:
        repo.hire(name, TOOL | {"until": "2026-12-01T12:00Z"})
    repo.commit()
    machine.reconcile()
    machine.clock.turn(hours=2)
    report = machine.reconcile()
    assert {row(report, name, "tool").status for name in people} == {Status.SUSPENDED}
