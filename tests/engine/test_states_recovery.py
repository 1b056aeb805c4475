"""What a kill leaves behind (docs/design/rules.md, "Faults and load"), and clocks that jump (docs/design/states.md).

A kill at each point, and what may not come of it, is in `tests/faults/test_kill_points.py`.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.ledger.part_writers import WritableAttempts
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.grant import Key
from reconciler.model.status import Action, EventType, Status
from reconciler.requests.client import Client
from reconciler.requests.tasks import CHANGED_ROW
from reconciler.review.past import replayed
from tests.engine.harness import Machine, dying, row
from tests.repo import Repo
from tests.servers import AccountService

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}
HOUR = timedelta(hours=1)


def test_an_attempt_that_was_cut_off_failed_when_it_was_last_alive(machine, accounts):
    began = machine.clock.now()
    with dying(Client, "send", nth=3):
        machine.reconcile()
    machine.clock.turn(minutes=20)
    planned = row(machine.plan(), "ada", "tool")
    assert (planned.status, planned.action, planned.retry_at) == (Status.RETRYING, Action.WAIT, began + HOUR)
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.retry_at, found.attempts) == (Status.RETRYING, began + HOUR, 1)
    assert "1 of 2 requests done" in found.reason
    assert found.last_error == "interrupted: the program ended in mid-attempt"
    (line,) = [line for line in machine.history("ada") if line.event is EventType.ATTEMPT_INTERRUPTED]
    assert line.detail.startswith("attempt 1: interrupted")
    machine.clock.turn(minutes=40)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


def test_a_second_attempt_that_was_cut_off_is_the_last(machine, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(hours=1)
    with dying(WritableAttempts, "sending", after=True):
        machine.reconcile()
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.attempts) == (Status.FAILED, 2)


def test_an_attempt_that_was_cut_off_after_its_last_answer_succeeded(machine, accounts):
    with dying(WritableAttempts, "answered", nth=2, after=True):
        machine.reconcile()
    planned = row(machine.plan(), "ada", "tool")
    assert (planned.status, planned.action, planned.attempts) == (Status.PRESENT, Action.NONE, 1)
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.attempts, found.last_error) == (Status.PRESENT, 1, None)
    assert machine.events("ada") == [EventType.ATTEMPT_STARTED, EventType.EXECUTED, EventType.CONFIRMED]


def test_a_webhook_that_was_cut_off_after_its_last_answer_is_done_in_the_history(machine, accounts, repo):
    """`status --at` went on to say `unconfirmed`."""
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("tool", {"execute": [{"url": f"{accounts.url}/hook"}]})
    repo.hire("ada", "tool")
    repo.commit()
    with dying(WritableAttempts, "answered", after=True):
        machine.reconcile()
    for _ in range(2):
        assert row(machine.reconcile(), "ada", "tool").status is Status.DONE
    past, _ = replayed(machine.history())
    assert past[Key("ada", "tool")].status is Status.DONE
    assert machine.events("ada") == [EventType.ATTEMPT_STARTED, EventType.EXECUTED, EventType.CONFIRMED]


def test_a_kill_while_a_plan_is_written_leaves_the_rest_to_the_next_pass(
    machine: Machine, repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.engine.run.reconciler.ROWS_AT_A_TIME", 5 * CHANGED_ROW)
    people = [f"p{number:02}" for number in range(24)]
    accounts.add(*(f"{who}@example.com" for who in people))
    for who in people:
        repo.hire(who, TOOL)
    repo.commit()

    with dying(LedgerWriter, "save", nth=3):
        machine.reconcile()
    written = {who: machine.events(who) for who in ("ada", *people) if machine.record(who, "tool") is not None}

    assert written == {"ada": [], **{who: [EventType.ADOPTED] for who in people[:9]}}
    assert not accounts.created, "nothing is sent before all of the plan is written"
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [machine.events(who) for who in people] == [[EventType.ADOPTED]] * len(people)
    assert accounts.created == {"ada@example.com": 1}


@pytest.fixture
def hook(machine: Machine, accounts: AccountService, repo: Repo) -> Machine:
    """A webhook of two requests, and nothing else."""
    accounts.route("POST", "/one", {"ok": True})
    accounts.route("POST", "/two", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/one"}, {"url": f"{accounts.url}/two"}]})
    repo.hire("ada", "hook")
    repo.commit()
    return machine


@pytest.mark.parametrize(("name", "nth", "after"), [("answered", 2, True), ("settle", 1, False), ("settle", 1, True)])
def test_a_webhook_that_was_cut_off_after_its_last_answer_is_done(hook, accounts, name, nth, after):
    with dying(WritableAttempts, name, nth=nth, after=after):
        hook.reconcile()
    assert row(hook.plan(), "ada", "hook").status is Status.DONE
    for _ in range(3):
        assert row(hook.reconcile(), "ada", "hook").status is Status.DONE
        hook.clock.turn(hours=1)
    assert [call.path for call in accounts.calls("POST")] == ["/one", "/two"]


def test_a_webhook_that_was_cut_off_before_runs_again_from_the_first_request(hook, accounts):
    with dying(Client, "send", nth=2):
        hook.reconcile()
    assert row(hook.reconcile(), "ada", "hook").status is Status.RETRYING
    hook.clock.turn(hours=1)
    assert row(hook.reconcile(), "ada", "hook").status is Status.DONE
    assert [call.path for call in accounts.calls("POST")] == ["/one", "/one", "/two"]


def test_a_continuation_that_was_cut_off_after_its_last_answer_succeeded(machine, accounts):
    """The account's own answer never came, and the continuation shows that it is there."""
    accounts.drop_after_commit(method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(hours=1)
    with dying(WritableAttempts, "settle"):
        machine.reconcile()
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.attempts) == (Status.PRESENT, 2)
    assert accounts.teams == {"7": ["ada@example.com"]}


def test_a_healing_that_was_cut_off_at_its_end_counts_as_one(machine, accounts):
    machine.reconcile()
    accounts.people.clear()
    with dying(WritableAttempts, "settle"):
        machine.reconcile()
    machine.reconcile()
    accounts.people.clear()
    lost = row(machine.reconcile(), "ada", "tool")
    assert (lost.status, lost.action) == (Status.MISSING, Action.NONE)
    assert "healed" in lost.reason


REVOCATION = {
    "before it leaves": ("send", Client, 2, False),
    "once it is done": ("send", Client, 2, True),
    "before it is settled": ("settle", WritableAttempts, 1, False),
}


@pytest.mark.parametrize(("name", "owner", "nth", "after"), REVOCATION.values(), ids=REVOCATION)
def test_a_revocation_that_was_cut_off(machine, accounts, repo, name, owner, nth, after):
    machine.reconcile()
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada")
    repo.commit()
    with dying(owner, name, nth=nth, after=after):
        machine.reconcile()
    for _ in range(2):
        machine.reconcile()
        machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}
    assert len(accounts.calls("DELETE")) == 1


def test_fatal_attempt_lets_concurrent_attempts_finish(machine, accounts, repo):
    """A task that breaks must not cancel the others in the middle of a request."""
    for name in ("bob", "cleo"):
        repo.hire(name, TOOL)
    repo.commit()
    with dying(WritableAttempts, "settle", nth=2):
        machine.reconcile()
    machine.clock.turn(hours=1)
    report = machine.reconcile()
    assert {item.status for item in report.rows} == {Status.PRESENT}
    assert set(accounts.created.values()) == {1}
    # An answer that shared the commit that broke is lost: its request counts as unanswered, and is repeated.
    assert set(accounts.teams["7"]) == {"ada@example.com", "bob@example.com", "cleo@example.com"}


# The clock


def test_clock_set_back_extends_no_retry(machine, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(days=-30)
    waiting = row(machine.reconcile(), "ada", "tool")
    assert (waiting.status, waiting.retry_at) == (Status.RETRYING, machine.clock.now() + HOUR)
    machine.clock.turn(minutes=30)
    assert row(machine.reconcile(), "ada", "tool").retry_at == machine.clock.now() + HOUR / 2
    machine.clock.turn(minutes=30)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


def test_a_clock_that_jumped_ahead_makes_the_retry_due(machine, accounts):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    machine.clock.turn(days=300)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


def test_a_healing_in_the_future_is_not_fought_either(machine, accounts):
    machine.reconcile()
    accounts.people.clear()
    machine.reconcile()
    accounts.people.clear()
    machine.clock.turn(days=-3)
    lost = row(machine.reconcile(), "ada", "tool")
    assert (lost.status, lost.action) == (Status.MISSING, Action.NONE)


def test_shorter_delay_applies_to_waiting_retries(machine, accounts, repo):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    repo.settings(gnupg_home=repo.gnupg.path, retry_delay="10m")
    repo.commit()
    waiting = row(machine.reconcile(), "ada", "tool")
    assert waiting.retry_at == machine.clock.now() + timedelta(minutes=10)
