"""What happens to a grant: docs/design/states.md, row by row, on real services with a clock that is turned by hand.

This part on both databases; RECONCILER_STATE=postgresql does it with all of them.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import Machine, row

pytestmark = pytest.mark.parametrize("state_kind", ["sqlite", "postgresql"])


def test_found_is_adopted(machine, accounts):
    accounts.add("ada@example.com")
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.action, found.attempts) == (Status.PRESENT, Action.NONE, 0)
    assert machine.events("ada") == [EventType.ADOPTED]
    assert accounts.calls("POST") == []


def test_not_found_is_executed_and_confirmed(machine, accounts):
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    assert report.executed == 1
    assert accounts.created == {"ada@example.com": 1}
    assert accounts.teams == {"7": ["ada@example.com"]}
    assert machine.events("ada") == [EventType.ATTEMPT_STARTED, EventType.EXECUTED, EventType.CONFIRMED]


def test_a_failure_is_retried_an_hour_later_to_the_second(machine, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    report = machine.reconcile()
    failed = row(report, "ada", "tool")
    assert (failed.status, failed.action, report.failures) == (Status.RETRYING, Action.WAIT, 1)
    assert failed.retry_at == machine.clock.now() + timedelta(hours=1)

    machine.clock.turn(minutes=59, seconds=59)
    assert row(machine.reconcile(), "ada", "tool").action is Action.WAIT
    machine.clock.turn(seconds=1)
    planned = row(machine.plan(), "ada", "tool")
    assert (planned.status, planned.action) == (Status.RETRYING, Action.RETRY)
    before = len(accounts.calls())
    done = row(machine.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.PRESENT, 2)
    assert [call.method for call in accounts.calls()[before:]] == ["GET", "POST", "POST", "GET"]
    assert accounts.created == {"ada@example.com": 1}


def test_half_done_continues_at_the_first_request_that_is_not_done(machine, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    waiting = row(machine.reconcile(), "ada", "tool")
    assert waiting.status is Status.RETRYING
    assert "1 of 2 requests done" in waiting.reason
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 1}
    assert accounts.teams == {"7": ["ada@example.com"]}
    assert len(accounts.calls("POST", "/users")) == 1


def test_lost_answer_to_the_creation_neither_duplicates_an_account_nor_leaves_it_half_done(machine, accounts):
    accounts.drop_after_commit(method="POST", prefix="/users")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 1}
    assert accounts.teams == {"7": ["ada@example.com"]}


def test_a_second_failure_is_final_until_something_changes(machine, accounts, repo):
    accounts.fail_next(2, 500, method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(hours=1)
    failed = row(machine.reconcile(), "ada", "tool")
    assert (failed.status, failed.action, failed.attempts) == (Status.FAILED, Action.NONE, 2)
    machine.clock.turn(hours=24)
    assert row(machine.reconcile(), "ada", "tool").status is Status.FAILED
    assert len(accounts.calls("POST")) == 2

    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.commit()
    planned = row(machine.plan(), "ada", "tool")
    assert (planned.status, planned.action, planned.attempts) == (Status.MISSING, Action.EXECUTE, 0)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.teams == {"8": ["ada@example.com"]}


def test_retry_by_hand_starts_afresh(machine, accounts):
    accounts.fail_next(2, 500, method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(hours=1)
    machine.reconcile()
    machine.enqueue("retry", "ada", "tool")
    done = row(machine.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.PRESENT, 1)
    assert EventType.RETRY_REQUESTED in machine.events("ada")


def test_a_failed_check_executes_nothing(machine, accounts):
    accounts.fail_next(3, 500, method="GET", prefix="/users")
    for _ in range(3):
        found = row(machine.reconcile(), "ada", "tool")
        assert (found.status, found.action) == (Status.UNKNOWN, Action.NONE)
    assert accounts.calls("POST") == []


def test_drift_is_healed_once_a_day(machine, accounts):
    machine.reconcile()
    accounts.people.clear()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 2}
    accounts.people.clear()
    machine.clock.turn(hours=23)
    again = row(machine.reconcile(), "ada", "tool")
    assert (again.status, again.action) == (Status.MISSING, Action.NONE)
    assert "drift, healed 23 h ago" in again.reason
    machine.clock.turn(hours=2)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert machine.events("ada").count(EventType.HEALED) == 2
    assert machine.events("ada").count(EventType.LOST) == 2


def test_orphan_is_reported_then_revoked_with_prune(machine, accounts, repo):
    machine.reconcile()
    repo.remove("hires/ada.yaml")
    repo.write("hires/.gitkeep", "")
    repo.commit()
    left = row(machine.reconcile(), "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    assert row(machine.plan(), "ada", "tool").action is Action.REVOKE
    gone = row(machine.reconcile(), "ada", "tool")
    assert (gone.status, gone.action) == (Status.REVOKED, Action.NONE)
    assert accounts.people == {}
    assert len(accounts.calls("DELETE")) == 1
    machine.reconcile()
    assert len(accounts.calls("DELETE")) == 1


def test_the_guard_holds_an_integration_that_lost_too_many_at_once(repo, accounts):
    repo.settings(gnupg_home=repo.gnupg.path)
    repo.manifest("tool", accounts.manifest())
    for number in range(10):
        repo.hire(f"h{number}", "tool")
    repo.commit()
    machine = Machine(repo)
    machine.reconcile()
    for number in range(6):
        del accounts.people[f"h{number}@example.com"]
    repo.hire("new", "tool")
    repo.commit()
    report = machine.reconcile()
    held = row(report, "h0", "tool")
    assert (held.status, held.action, held.guarded) == (Status.SUSPENDED, Action.NONE, True)
    assert "60.00 % is over 25 % (6/10)" in held.reason
    assert row(report, "new", "tool").status is Status.SUSPENDED
    assert report.wrong
    assert len(accounts.calls("POST")) == 10
    assert EventType.HELD in machine.events()
    assert row(machine.reconcile(released=True), "h0", "tool").status is Status.PRESENT
    assert EventType.RELEASED in machine.events()
