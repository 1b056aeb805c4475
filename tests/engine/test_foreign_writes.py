"""docs/design/rules.md, "Who gave it": what somebody else wrote into the state, or took out of it."""

from __future__ import annotations

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.model.status import EventType, Status
from tests.engine.harness import Machine, row
from tests.ledger.states import change
from tests.repo import Repo, call_cli
from tests.servers import AccountService, Reply


@pytest.fixture
def location(machine: Machine, accounts: AccountService, repo: Repo) -> StateLocation:
    """Ada and Bob have an account; who leaves is revoked."""
    repo.settings(prune="revoke", max_change_percent=100)
    repo.manifest("tool", accounts.manifest(revoke=True))
    for hire in ("ada", "bob"):
        repo.hire(hire, "tool")
    repo.commit()
    machine.reconcile()
    machine.reconcile()
    assert call_cli(repo, "history", "--verify").code == 0
    return StateLocation(repo.state_url, repo.root)


def test_no_pass_acts_on_a_row_that_the_history_does_not_know(
    machine: Machine, accounts: AccountService, repo: Repo, location: StateLocation
) -> None:
    accounts.people["eve@example.com"] = {"id": "7", "email": "eve@example.com"}
    columns = "integration, service, source, phase, status, action, reason, changed, attempts, snapshot, attempted"
    columns += ", needs, executed_at, confirmed_at, lost, fresh, by_hand, guarded"
    change(
        location,
        f"INSERT INTO grants (hire, access, email, {columns}) SELECT 'eve', access, 'eve@example.com', {columns} "
        "FROM grants WHERE hire = 'ada'",
    )
    report = machine.reconcile()
    assert accounts.calls("DELETE") == []
    assert [problem.message.partition(":")[0] for problem in report.problems] == ["eve/tool"]
    assert report.wrong
    verified = call_cli(repo, "history", "--verify")
    assert (verified.code, "disagree about eve/tool: the ledger has an account" in verified.out) == (1, True)


def test_row_that_was_deleted_before_its_leaver_leaves_is_found(
    machine: Machine, repo: Repo, location: StateLocation
) -> None:
    change(location, "DELETE FROM grants WHERE hire = 'ada'")
    repo.remove("hires/ada.yaml")
    repo.commit()
    machine.reconcile()
    verified = call_cli(repo, "history", "--verify", "--output", "json")
    assert (verified.code, verified.json["whole"]) == (1, False)
    assert verified.json["broken"].startswith("ada/tool: the history has an account that was never revoked")


@pytest.mark.parametrize("column", ["phase", "status"])
def test_row_that_only_says_that_it_was_revoked_is_found(repo: Repo, location: StateLocation, column: str) -> None:
    change(location, f"UPDATE grants SET {column} = 'revoked' WHERE hire = 'bob'")
    verified = call_cli(repo, "history", "--verify")
    assert (verified.code, "bob/tool: the ledger says that it was revoked" in verified.out) == (1, True)


@pytest.mark.parametrize(
    ("wrong", "command"),
    [
        ("UPDATE events SET at = 9223372036854775807", "history"),
        ("UPDATE events SET data = '9'", "history --output json"),
        ("UPDATE grants SET snapshot = '[\"hunter2\"]'", "status"),
        ("UPDATE grants SET revision = 'x'", ""),
    ],
)
def test_value_that_no_row_can_have_ends_nothing_in_a_traceback(
    repo: Repo, location: StateLocation, wrong: str, command: str
) -> None:
    change(location, wrong)
    done = call_cli(repo, *command.split())
    assert (done.code, "does not write" in done.err) == ((1, True) if command else (0, False)), done
    assert "hunter2" not in done.err + done.out, "a value that cannot be read may be a secret"


@pytest.mark.parametrize("column", ["phase", "status", "action"])
def test_word_that_no_row_can_have_is_named_and_nothing_is_sent(
    repo: Repo, accounts: AccountService, location: StateLocation, column: str
) -> None:
    change(location, f"UPDATE grants SET {column} = 'resting' WHERE hire = 'bob'")
    before = len(accounts.requests)
    for command in ((), ("status",), ("explain", "bob", "tool")):
        refused = call_cli(repo, *command)
        assert (refused.code, "'resting'" in refused.err + refused.out) == (1, True), (command, refused)
    assert len(accounts.requests) == before


def test_ledger_and_history_agree_after_somebody_left_and_came_back(
    machine: Machine, repo: Repo, location: StateLocation
) -> None:
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert call_cli(repo, "history", "--verify").code == 0
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    repo.remove("hires/bob.yaml")
    repo.hire("bobby", "tool", email="bob@example.com")
    repo.commit()
    machine.reconcile()
    assert call_cli(repo, "history", "--verify").code == 0


COMMAND = 'INSERT INTO words (at, kind, hire, access, integration, "by", mac) VALUES '


@pytest.mark.parametrize(
    "values",
    [
        "1796115600000000, 'revoke', 'ada', 'tool', NULL, 'eve@there', NULL",
        "9000000000000000000, 'retry', NULL, NULL, NULL, 'eve@there', 'cafe'",
    ],
)
def test_command_that_nobody_with_the_key_gave_is_dropped_once_with_an_alert(
    machine: Machine, accounts: AccountService, repo: Repo, location: StateLocation, values: str
) -> None:
    accounts.route("POST", "/alerts", Reply(204))
    repo.settings(prune="revoke", max_change_percent=100, alerts=[{"webhook": f"{accounts.url}/alerts"}])
    repo.remove("hires/bob.yaml")
    repo.commit()
    change(location, f"{COMMAND}({values})")
    for _ in range(2):
        machine.reconcile()
    assert "ada@example.com" in accounts.people
    assert machine.commands_left() == 0
    told = [line.detail for line in machine.history() if line.event is EventType.REFUSED]
    assert [detail.endswith("that nobody gave who has the key") for detail in told] == [True]
    posts = [call for call in accounts.calls("POST") if b"somebody else wrote to the state" in call.body]
    assert len(posts) == 1


def test_override_of_the_guard_counts_only_from_who_has_the_key(
    machine: Machine, accounts: AccountService, repo: Repo, location: StateLocation
) -> None:
    repo.settings(max_new=0)
    repo.hire("cyd", "tool")
    repo.commit()
    change(location, f"{COMMAND}(1796115600000000, 'release', NULL, NULL, NULL, 'eve@there', 'cafe')")
    assert row(machine.reconcile(), "cyd", "tool").status is Status.SUSPENDED
    machine.release()
    with machine.ledger() as ledger:
        (given,) = ledger.commands.waiting()
    change(location, f"{COMMAND}(1796115600000001, 'release', NULL, NULL, NULL, 'eve@there', '{given.mac}')")
    change(location, f"DELETE FROM words WHERE id = {given.id}")
    assert row(machine.reconcile(), "cyd", "tool").status is Status.SUSPENDED, "the code is of all that it says"
    machine.release()
    assert row(machine.reconcile(), "cyd", "tool").status is not Status.SUSPENDED


def test_command_counts_once(machine: Machine, accounts: AccountService, repo: Repo, location: StateLocation) -> None:
    """Somebody copies the row of a command, and inserts it again once it was acted on."""
    repo.settings(max_new=0)
    repo.hire("cyd", "tool")
    repo.commit()
    assert row(machine.reconcile(), "cyd", "tool").status is Status.SUSPENDED
    machine.release()
    change(location, "CREATE TABLE copied AS SELECT * FROM words")
    assert row(machine.reconcile(), "cyd", "tool").status is Status.PRESENT
    repo.hire("dan", "tool")
    repo.commit()
    change(location, "INSERT INTO words SELECT * FROM copied")
    assert row(machine.reconcile(), "dan", "tool").status is Status.SUSPENDED
    assert "dan@example.com" not in accounts.people
    (told,) = (line.detail for line in machine.history() if line.event is EventType.REFUSED)
    assert told == "a command to release that was acted on before"


def test_lock_that_nobody_with_the_key_wrote_is_dropped(
    machine: Machine, accounts: AccountService, repo: Repo, location: StateLocation
) -> None:
    repo.manifest("tool", accounts.lockable())
    repo.commit()
    change(
        location, "INSERT INTO locks VALUES ('bob', 1796115600000000, 'eve@there', 'x', NULL, 0, '[]', '[]', 'cafe')"
    )
    assert row(machine.reconcile(), "bob", "tool").status is Status.PRESENT
    assert accounts.calls("PATCH") == []
    assert [line.detail for line in machine.history() if line.event is EventType.REFUSED] == [
        "a lock of bob that nobody gave who has the key"
    ]


def test_lock_that_somebody_changed_holds_without_an_end(
    machine: Machine, accounts: AccountService, repo: Repo, location: StateLocation
) -> None:
    repo.manifest("tool", accounts.lockable())
    repo.commit()
    machine.lock("ada")
    machine.reconcile()
    change(location, "UPDATE locks SET until = 1")
    for _ in range(2):
        assert row(machine.reconcile(), "ada", "tool").status is Status.SUSPENDED
    assert [line.detail for line in machine.history() if line.event is EventType.REFUSED] == [
        "a change to the lock of ada that nobody gave who has the key"
    ]
    machine.enqueue("unlock", "ada")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert call_cli(repo, "history", "--verify").code == 0


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM locks", "ada: the history has a lock that nobody ended, and the ledger has no row of it"),
        ("UPDATE locks SET hire = 'aaron'", "aaron: the ledger has a lock, and the history does not"),
    ],
)
def test_lock_and_history_are_compared(
    machine: Machine, accounts: AccountService, repo: Repo, location: StateLocation, statement: str, told: str
) -> None:
    repo.manifest("tool", accounts.lockable())
    repo.commit()
    machine.lock("ada")
    machine.reconcile()
    assert call_cli(repo, "history", "--verify").code == 0
    change(location, statement)
    verified = call_cli(repo, "history", "--verify")
    assert (verified.code, told in verified.out) == (1, True)


def test_without_the_key_commands_wait_and_locks_hold(machine: Machine, location: StateLocation) -> None:
    machine.lock("ada")
    machine.reconcile()
    machine.enqueue("retry")
    with machine.ledger() as ledger:
        ledger.session.mac = lambda _: None
        assert ([lock.hire for lock in ledger.locks.all()], ledger.commands.waiting()) == (["ada"], [])
    assert machine.commands_left() == 1
    machine.reconcile()
    assert machine.commands_left() == 0
    assert not [line for line in machine.history() if line.event is EventType.REFUSED]
