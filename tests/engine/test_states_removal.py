"""docs/design/rules.md, "Removal", and docs/design/states.md, "Removed": what git no longer wants."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.engine.observe.checker import Checker
from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import dying, row
from tests.repo import call_cli
from tests.servers import Reply

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


@pytest.fixture
def pruning(machine, repo):
    """The machine, whose settings revoke what is no longer wanted."""
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    return machine


def without(repo, *access, hire="ada", **fields):
    repo.hire(hire, *access, **fields)
    repo.commit()


# Dropped


def test_grant_without_account_is_dropped_with_an_event(machine, accounts, repo):
    accounts.fail_next(None, 500, method="GET")
    assert row(machine.reconcile(), "ada", "tool").status is Status.UNKNOWN
    without(repo)
    assert machine.reconcile().rows == []
    assert machine.record("ada", "tool") is None
    (line,) = machine.history("ada")
    assert (line.event, line.key.access, line.integration) == (EventType.DROPPED, "tool", "tool")
    assert line.author == "Ida Admin <ida@example.com>"


def test_a_dry_run_drops_nothing(machine, accounts, repo):
    accounts.fail_next(None, 500, method="GET")
    machine.reconcile()
    without(repo)
    assert machine.plan().rows == []
    assert machine.record("ada", "tool") is not None


def test_an_attempt_without_effect_is_dropped_too(machine, accounts, repo):
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    machine.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert machine.reconcile().rows == []
    assert machine.events("ada")[-1] is EventType.DROPPED
    machine.clock.turn(hours=2)
    assert machine.reconcile().rows == []
    assert len(accounts.calls("POST")) == 1


def fails_after_commit(accounts):
    """The account is made, and the answer says that the service failed."""

    def act(connection, received):
        accounts.handle(received)
        connection.answer(Reply(502, b"bad gateway"))

    accounts.on(act, times=1, method="POST", prefix="/users")


def test_account_that_was_made_though_the_service_said_that_it_failed_is_not_forgotten(pruning, accounts, repo):
    fails_after_commit(accounts)
    assert row(pruning.reconcile(), "ada", "tool").status is Status.RETRYING
    without(repo)
    accounts.fail_next(1, 503, method="GET")
    assert "answered 503" in row(pruning.reconcile(), "ada", "tool").reason
    assert row(pruning.plan(), "ada", "tool").action is Action.REVOKE
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}
    assert call_cli(repo, "history", "--verify").code == 0


def test_such_an_account_is_reported_until_it_is_gone(machine, accounts, repo):
    fails_after_commit(accounts)
    machine.reconcile()
    without(repo)
    for _ in range(2):
        left = row(machine.reconcile(), "ada", "tool")
        assert (left.status, left.reason) == (Status.ORPHANED, "no longer in git; prune: report")
    accounts.people.clear()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("made", [False, True])
def test_such_an_account_goes_when_its_time_is_over(machine, accounts, repo, removed, made):
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", {"integration": "tool", "for": "30m"})
    repo.commit()
    if made:
        fails_after_commit(accounts)
    else:
        accounts.fail_next(1, 502, method="POST", prefix="/users")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    machine.clock.turn(minutes=40)
    if removed:
        without(repo)
    found = machine.reconcile().rows
    assert [each.status for each in found] == ([] if removed and not made else [Status.REVOKED])
    assert accounts.people == {}
    assert len(accounts.calls("DELETE")) == made


def test_an_attempt_that_may_have_made_the_account_is_never_dropped(pruning, accounts, repo):
    accounts.drop_after_commit(method="POST", prefix="/users")
    pruning.reconcile()
    without(repo)
    left = row(pruning.reconcile(), "ada", "tool")
    assert left.status is Status.REVOKED
    assert accounts.people == {}


# Orphaned


@pytest.mark.parametrize(
    ("entry", "hire", "over"),
    [
        ({**TOOL, "until": "2026-12-10"}, {}, "until 2026-12-10 is reached"),
        (TOOL, {"end": "2026-12-09"}, "end 2026-12-09 is over"),
    ],
    ids=["until", "end"],
)
def test_what_is_over_is_not_said_to_have_left_git(machine, accounts, repo, entry, hire, over):
    repo.settings(gnupg_home=repo.gnupg.path, expire="prune")
    repo.hire("ada", entry, **hire)
    repo.commit()
    machine.reconcile()
    machine.clock.turn(days=30)
    left = row(machine.reconcile(), "ada", "tool")
    assert (left.status, left.reason) == (Status.ORPHANED, f"{over}; prune: report")
    assert machine.record("ada", "tool").reason == left.reason
    accounts.people.clear()
    assert row(machine.reconcile(), "ada", "tool").reason == f"{over}; found gone"


def test_orphan_is_recorded_once_and_checked_like_others(machine, accounts, repo):
    machine.reconcile()
    without(repo)
    for _ in range(2):
        left = row(machine.reconcile(), "ada", "tool")
        assert (left.status, left.action, left.email) == (Status.ORPHANED, Action.NONE, "ada@example.com")
        assert left.reason == "no longer in git; prune: report"
    assert machine.events("ada").count(EventType.ORPHANED) == 1
    assert not machine.reconcile().wrong
    accounts.fail_next(1, 500, method="GET")
    unknown = row(machine.reconcile(), "ada", "tool")
    assert (unknown.status, unknown.action) == (Status.ORPHANED, Action.NONE)
    assert "exists check failed: answered 500" in unknown.reason
    accounts.people.clear()
    gone = row(machine.reconcile(), "ada", "tool")
    assert (gone.status, gone.action) == (Status.REVOKED, Action.NONE)
    assert machine.history("ada")[-1].detail == "found gone"
    before = len(accounts.calls())
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert len(accounts.calls()) == before


def test_revocation_checks_first_and_sends_the_manifests_requests(pruning, accounts, repo):
    pruning.reconcile()
    without(repo)
    planned = row(pruning.plan(), "ada", "tool")
    assert (planned.status, planned.action) == (Status.ORPHANED, Action.REVOKE)
    assert planned.requests == ({"method": "DELETE", "url": f"{accounts.url}/users/ada%40example.com", "body": None},)
    before = len(accounts.calls())
    report = pruning.reconcile()
    gone = row(report, "ada", "tool")
    assert (gone.status, gone.action, report.revoked) == (Status.REVOKED, Action.NONE, 1)
    assert [call.method for call in accounts.calls()[before:]] == ["GET", "DELETE", "GET"]
    assert pruning.events("ada")[-3:] == [EventType.ORPHANED, EventType.ATTEMPT_STARTED, EventType.REVOKED]


UNTOUCHED = {
    "the check fails": (500, "exists check failed"),
    "nobody is there": (404, "found gone"),
}


@pytest.mark.parametrize(("answer", "said"), UNTOUCHED.values(), ids=UNTOUCHED)
def test_missing_account_is_not_revoked(pruning, accounts, repo, answer, said):
    pruning.reconcile()
    without(repo)
    accounts.fail_next(1, answer, method="GET")
    assert said in row(pruning.reconcile(), "ada", "tool").reason
    assert accounts.calls("DELETE") == []


def test_a_manifest_without_revoke_leaves_it_orphaned(pruning, accounts, repo):
    repo.manifest("tool", accounts.manifest(team=True))
    repo.commit()
    pruning.reconcile()
    without(repo)
    left = row(pruning.reconcile(), "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert left.reason == "no longer in git; the manifest has no revoke"
    repo.settings(gnupg_home=repo.gnupg.path)
    repo.commit()
    left = row(pruning.reconcile(), "ada", "tool")
    assert left.reason == "no longer in git; prune: report, and the manifest has no revoke"


def test_a_webhook_is_orphaned_and_nothing_more(pruning, accounts, repo):
    accounts.route("POST", "/hook", {"ok": True})
    accounts.route("POST", "/unhook", {"ok": True})
    manifest = {"execute": [{"url": f"{accounts.url}/hook"}], "revoke": [{"url": f"{accounts.url}/unhook"}]}
    repo.manifest("hook", manifest)
    without(repo, "hook")
    pruning.reconcile()
    without(repo)
    for _ in range(2):
        left = row(pruning.reconcile(), "ada", "hook")
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert accounts.calls("POST", "/unhook") == []
    without(repo, "hook")
    assert row(pruning.reconcile(), "ada", "hook").status is Status.DONE, "it takes up its row where it stood"
    assert len(accounts.calls("POST", "/hook")) == 1


def test_unconfirmed_orphan_may_have_an_open_invitation(pruning, accounts, repo):
    accounts.route("POST", "/users", lambda _received: 202)
    pruning.reconcile()
    without(repo)
    left = row(pruning.reconcile(), "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert "an invitation may be open" in left.reason
    accounts.add("ada@example.com")
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED, "accepted after all, and revoked"
    assert accounts.people == {}


def test_the_manifest_breaks_and_nothing_is_revoked(pruning, accounts, repo):
    pruning.reconcile()
    repo.write("manifests/tool.yaml", "exists: [")
    without(repo)
    before = len(accounts.calls())
    left = row(pruning.reconcile(), "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert "manifests/tool.yaml" in left.reason
    repo.remove("manifests/tool.yaml")
    repo.commit()
    assert "its manifest is gone" in row(pruning.reconcile(), "ada", "tool").reason
    assert len(accounts.calls()) == before
    repo.manifest("tool", accounts.manifest(team=True, revoke=True))
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


def test_revocation_needs_only_the_ledger(pruning, accounts, repo):
    """The hire's file is gone, with all values; the manifest learnt to revoke after the account was made."""
    manifest = accounts.manifest(team=True)
    repo.manifest("tool", manifest)
    repo.commit()
    pruning.reconcile()
    accounts.route("POST", "/off", lambda _received: accounts.people.clear())
    manifest["revoke"] = [{"url": f"{accounts.url}/off", "data": {"who": "{{last_name}}", "from": "{{TEAM}}"}}]
    repo.manifest("tool", manifest)
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.calls("POST", "/off")[0].json() == {"who": "Example", "from": "7"}


def test_missing_value_of_a_revocation_is_reported(pruning, accounts, repo):
    pruning.reconcile()
    manifest = accounts.manifest(team=True)
    manifest["revoke"] = [{"url": f"{accounts.url}/users/{{{{phone}}}}", "method": "DELETE"}]
    repo.manifest("tool", manifest)
    without(repo)
    left = row(pruning.reconcile(), "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert "{{phone}}" in left.reason


# The same account


def test_an_entry_by_another_name_is_the_same_account(pruning, accounts, repo):
    pruning.reconcile()
    without(repo, TOOL | {"name": "renamed"})
    for _ in range(2):
        report = pruning.reconcile()
        left = row(report, "ada", "tool")
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
        assert "the same account as ada/renamed" in left.reason
        assert row(report, "ada", "renamed").status is Status.PRESENT
    assert accounts.calls("DELETE") == []
    assert accounts.created == {"ada@example.com": 1}
    without(repo)
    report = pruning.reconcile()
    assert {item.status for item in report.rows} == {Status.REVOKED}
    assert accounts.people == {}
    for report in (pruning.plan(), pruning.reconcile()):
        assert [item.values for item in report.rows] == [{"TEAM": "7"}] * 2, "what it was is still told"


def test_an_address_in_another_case_is_the_same_account(pruning, accounts, repo):
    pruning.reconcile()
    repo.hire("ada", TOOL | {"name": "renamed"}, email="Ada@Example.com")
    repo.commit()
    report = pruning.reconcile()
    assert "the same account as ada/renamed" in row(report, "ada", "tool").reason
    assert row(report, "ada", "renamed").status is Status.PRESENT
    assert accounts.calls("DELETE") == []


def test_an_account_under_the_address_before_is_the_same_account(pruning, accounts, repo):
    """Its entry was renamed long ago, and the orphan is still in the ledger when the address changes."""
    pruning.reconcile()
    renamed = TOOL | {"name": "renamed"}
    without(repo, renamed)
    pruning.reconcile()
    repo.hire("ada", renamed, email="lovelace@example.com")
    repo.commit()
    for _ in range(2):
        report = pruning.reconcile()
        assert "the same account as ada/renamed" in row(report, "ada", "tool").reason
        blocked = row(report, "ada", "renamed")
        assert (blocked.status, "the account is under ada@example.com" in blocked.reason) == (Status.BLOCKED, True)
    assert accounts.calls("DELETE") == []
    accounts.people["lovelace@example.com"] = {
        **accounts.people.pop("ada@example.com"),
        "email": "lovelace@example.com",
    }
    report = pruning.reconcile()
    assert row(report, "ada", "tool").status is Status.REVOKED
    assert row(report, "ada", "renamed").status is Status.PRESENT
    assert accounts.calls("DELETE") == []
    assert accounts.created == {"ada@example.com": 1}


def test_an_orphan_whose_account_was_renamed_is_not_gone(pruning, accounts, repo):
    """Its address in git changed first; it is taken away by a person, for it was never seen under the new one."""
    pruning.reconcile()
    repo.hire("ada", email="lovelace@example.com")
    accounts.people["lovelace@example.com"] = accounts.people.pop("ada@example.com") | {"email": "lovelace@example.com"}
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile()):
        left = row(report, "ada", "tool")
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
        assert "the account is under lovelace@example.com now: remove it there" in left.reason
    accounts.fail_next(1, 500, prefix="/users/lovelace")
    assert "under lovelace@example.com: answered 500" in row(pruning.reconcile(), "ada", "tool").reason
    assert accounts.calls("DELETE") == []
    accounts.people.clear()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


def test_account_that_was_renamed_after_its_revocation_failed_is_not_gone(pruning, accounts, repo):
    pruning.reconcile()
    without(repo)
    accounts.fail_next(1, 500, method="DELETE")
    assert row(pruning.reconcile(), "ada", "tool").status is Status.RETRYING
    repo.hire("ada", email="lovelace@example.com")
    accounts.people["lovelace@example.com"] = accounts.people.pop("ada@example.com") | {"email": "lovelace@example.com"}
    repo.commit()
    for hours in (0, 1):
        pruning.clock.turn(hours=hours)
        left = row(pruning.reconcile(), "ada", "tool")
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
        assert "the account is under lovelace@example.com now: remove it there" in left.reason
    accounts.people.clear()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


def test_orphan_whose_account_was_renamed_follows_its_hires_file(pruning, accounts, repo):
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook"}]})
    repo.hire("ada", TOOL, "hook")
    repo.commit()
    pruning.reconcile()
    repo.hire("ada", "hook", email="lovelace@example.com")
    accounts.people["lovelace@example.com"] = accounts.people.pop("ada@example.com") | {"email": "lovelace@example.com"}
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.ORPHANED
    repo.remove("hires/ada.yaml")
    repo.hire("lovelace", "hook")
    repo.commit()
    for report in (pruning.plan(), pruning.reconcile(), pruning.reconcile()):
        assert {item.hire for item in report.rows} == {"lovelace"}
        left = row(report, "lovelace", "tool")
        assert left.status is Status.ORPHANED
        assert "the account is under lovelace@example.com now" in left.reason


def test_another_manifest_may_mean_the_same_account(pruning, accounts, repo):
    """The file was renamed, its text is the same: `exists` and `revoke` render as before."""
    pruning.reconcile()
    repo.remove("manifests/tool.yaml")
    repo.manifest("tool", accounts.manifest(team=True, revoke=True))
    repo.manifest("tool-two", accounts.manifest(team=True, revoke=True))
    without(repo, TOOL | {"integration": "tool-two"})
    left = row(pruning.reconcile(), "ada", "tool")
    assert "the same account as ada/tool-two" in left.reason
    assert accounts.calls("DELETE") == []


def test_the_same_revocation_is_enough_to_be_the_same_account(pruning, accounts, repo):
    """Two entries that are asked about differently, and whose revocation deletes the one account."""
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["exists"]["url"] = f"{accounts.url}/users/{{{{email}}}}?team={{{{TEAM}}}}"
    repo.manifest("tool", manifest)
    without(repo, TOOL, {"integration": "tool", "name": "second", "values": {"TEAM": "8"}})
    accounts.add("ada@example.com")
    pruning.reconcile()
    without(repo, TOOL)
    left = row(pruning.reconcile(), "ada", "second")
    assert "the same account as ada/tool" in left.reason
    assert accounts.calls("DELETE") == []


def test_account_that_another_hire_still_wants_is_not_revoked(pruning, accounts, repo):
    """A team's mailbox: a value of the form says which account it is, not the hire."""
    manifest = accounts.manifest(team=True, revoke=True)
    box = f"{accounts.url}/users/{{{{TEAM}}}}@example.com"
    manifest["exists"] |= {"url": box, "expected": "{{TEAM}}@example.com"}
    manifest["execute"] = [{"url": f"{accounts.url}/users", "data": {"email": "{{TEAM}}@example.com"}}]
    manifest["revoke"] = [{"url": box, "method": "DELETE"}]
    repo.manifest("tool", manifest)
    repo.hire("cleo", TOOL | {"values": {"TEAM": "8"}})
    repo.commit()
    accounts.add("7@example.com", "8@example.com")
    pruning.reconcile()
    repo.hire("bob", TOOL)
    without(repo)
    left = row(pruning.reconcile(), "ada", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert left.reason == "no longer in git; it is the same account as bob/tool, which is wanted"
    assert accounts.calls("DELETE") == []
    without(repo, hire="bob")
    for hire in ("ada", "bob"):
        assert row(pruning.reconcile(hires=[hire]), hire, "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1
    assert list(accounts.people) == ["8@example.com"]


def test_two_accounts_are_two(pruning, accounts, repo):
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["exists"] |= {"url": f"{accounts.url}/users/{{{{TEAM}}}}-{{{{email}}}}", "expected": "{{TEAM}}-{{email}}"}
    manifest["execute"] = [{"url": f"{accounts.url}/users", "data": {"email": "{{TEAM}}-{{email}}"}}]
    manifest["revoke"] = [{"url": f"{accounts.url}/users/{{{{TEAM}}}}-{{{{email}}}}", "method": "DELETE"}]
    repo.manifest("tool", manifest)
    without(repo, TOOL, {"integration": "tool", "name": "second", "values": {"TEAM": "8"}})
    pruning.reconcile()
    without(repo, TOOL)
    assert row(pruning.reconcile(), "ada", "second").status is Status.REVOKED
    assert set(accounts.people) == {"7-ada@example.com"}


def test_a_person_who_comes_back_under_another_id_is_not_revoked(pruning, accounts, repo):
    pruning.reconcile()
    repo.remove("hires/ada.yaml")
    repo.hire("lovelace", TOOL, email="ADA@example.com", first_name="Ada")
    repo.commit()
    report = pruning.reconcile()
    assert [(item.hire, item.status) for item in report.rows] == [("lovelace", Status.PRESENT)]
    assert accounts.calls("DELETE") == []


def test_an_account_is_not_revoked_while_the_twins_file_is_broken(pruning, accounts, repo):
    without(repo, TOOL, TOOL | {"name": "second"})
    accounts.add("ada@example.com")
    pruning.reconcile()
    repo.write("hires/ada.yaml", "email: [")
    repo.commit()
    report = pruning.reconcile()
    assert {item.status for item in report.rows} == {Status.INVALID}
    assert accounts.calls("DELETE") == []


def test_account_is_kept_while_a_broken_hire_may_own_it(pruning, accounts, repo):
    """A room's key: the check asks for the room, whoever is to have it."""
    manifest = accounts.manifest(team=True)
    room = f"{accounts.url}/users/room-{{{{TEAM}}}}@example.com"
    manifest["exists"] |= {"url": room, "expected": "room-{{TEAM}}@example.com"}
    manifest["revoke"] = [{"url": room, "method": "DELETE"}]
    accounts.add("room-7@example.com")
    repo.manifest("tool", manifest)
    repo.hire("bob", TOOL)
    without(repo)
    pruning.reconcile()
    repo.remove("hires/bob.yaml")
    without(repo, TOOL)
    pruning.reconcile()
    repo.write("hires/ada.yaml", "email: [")
    repo.commit()
    left = row(pruning.reconcile(), "bob", "tool")
    assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
    assert "the same account as ada/tool" in left.reason
    assert accounts.calls("DELETE") == []


# A revocation that fails


def test_a_failed_revocation_is_retried_and_gives_up(pruning, accounts, repo):
    pruning.reconcile()
    without(repo)
    accounts.fail_next(2, 500, method="DELETE")
    report = pruning.reconcile()
    failed = row(report, "ada", "tool")
    assert (failed.status, failed.action, failed.attempts) == (Status.RETRYING, Action.WAIT, 1)
    assert failed.reason.startswith("revoke: request 1 of 1 (DELETE): answered 500")
    assert failed.retry_at == pruning.clock.now() + timedelta(hours=1)
    assert (report.failures, report.wrong) == (1, True)
    assert pruning.events("ada")[-1] is EventType.REVOKE_FAILED
    waiting = row(pruning.reconcile(), "ada", "tool")
    assert (waiting.status, waiting.action) == (Status.RETRYING, Action.WAIT)
    pruning.clock.turn(hours=1)
    assert row(pruning.plan(), "ada", "tool").action is Action.RETRY
    final = row(pruning.reconcile(), "ada", "tool")
    assert (final.status, final.action, final.attempts) == (Status.FAILED, Action.NONE, 2)
    assert final.reason.startswith("revoke: ")
    pruning.clock.turn(hours=5)
    assert row(pruning.reconcile(), "ada", "tool").status is Status.FAILED
    assert len(accounts.calls("DELETE")) == 2
    assert pruning.events("ada").count(EventType.REVOKE_FAILED) == 2
    pruning.enqueue("retry", "ada", "tool")
    done = row(pruning.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.REVOKED, 1)


def test_an_unknown_check_does_not_use_the_retry_up(pruning, accounts, repo):
    pruning.reconcile()
    without(repo)
    accounts.fail_next(1, 500, method="DELETE")
    pruning.reconcile()
    pruning.clock.turn(hours=1)
    accounts.fail_next(1, 503, method="GET")
    waiting = row(pruning.reconcile(), "ada", "tool")
    assert (waiting.status, waiting.attempts) == (Status.RETRYING, 1)
    assert "exists check failed: answered 503" in waiting.reason
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


def test_failed_revocation_of_vanished_account_is_done(pruning, accounts, repo):
    pruning.reconcile()
    without(repo)
    accounts.drop_after_commit(method="DELETE")
    assert row(pruning.reconcile(), "ada", "tool").status is Status.RETRYING
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1


# Checked once more


def test_a_revocation_that_changed_nothing_fails_and_gives_up(pruning, accounts, repo):
    """The service says that it cannot, with a 200."""
    accounts.route("DELETE", "/users/{email}", lambda _received, email: {"error": f"{email} is an owner"})
    pruning.reconcile()
    without(repo)
    report = pruning.reconcile()
    failed = row(report, "ada", "tool")
    assert (failed.status, failed.action, report.failures, report.revoked) == (Status.RETRYING, Action.WAIT, 1, 0)
    assert "still finds the account" in failed.reason
    assert "ada@example.com is an owner" in str(failed.last_error)
    assert pruning.events("ada")[-2:] == [EventType.ATTEMPT_FAILED, EventType.REVOKE_FAILED]
    pruning.clock.turn(hours=1)
    assert row(pruning.reconcile(), "ada", "tool").status is Status.FAILED
    pruning.clock.turn(hours=5)
    pruning.reconcile()
    assert len(accounts.calls("DELETE")) == 2
    accounts.people.clear()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


@pytest.mark.parametrize("there", [False, True], ids=["gone", "still there"])
def test_a_revocation_that_cannot_be_checked_is_checked_at_the_interval(pruning, accounts, repo, there):
    def delete(_received, email):
        accounts.fail_next(2, 503, method="GET")
        return None if there else accounts.people.pop(email)

    accounts.route("DELETE", "/users/{email}", delete)
    pruning.reconcile()
    without(repo)
    report = pruning.reconcile()
    for left in (row(report, "ada", "tool"), row(pruning.reconcile(), "ada", "tool")):
        assert (left.status, left.action) == (Status.ORPHANED, Action.NONE)
        assert "revoked, not checked since: exists check failed: answered 503" in left.reason
    assert not report.wrong
    assert EventType.REVOKED not in pruning.events("ada")
    settled = row(pruning.reconcile(), "ada", "tool")
    assert settled.status is (Status.RETRYING if there else Status.REVOKED)
    assert EventType.REVOKED not in pruning.events("ada") or not there
    pruning.clock.turn(hours=1)
    accounts.fail_next(1, 503, method="GET")  # the check that comes first: the retry is not used up
    pruning.reconcile()
    assert len(accounts.calls("DELETE")) == 1
    pruning.reconcile()
    assert len(accounts.calls("DELETE")) == 1 + there


def test_a_revocation_cut_off_before_its_check_is_checked_by_the_next_pass(pruning, accounts, repo):
    accounts.route("DELETE", "/users/{email}", {"ok": True})
    pruning.reconcile()
    without(repo)
    with dying(Checker, "check_taken_away"):
        pruning.reconcile()
    failed = row(pruning.reconcile(), "ada", "tool")
    assert (failed.status, failed.retry_at) == (Status.RETRYING, pruning.clock.now() + timedelta(hours=1))
    assert len(accounts.calls("DELETE")) == 1


def test_a_webhook_is_revoked_by_hand_without_a_check(pruning, accounts, repo):
    accounts.route("POST", "/off", {"ok": True})
    manifest = accounts.manifest()
    del manifest["exists"]
    repo.manifest("tool", {**manifest, "revoke": [{"url": f"{accounts.url}/off"}]})
    without(repo, "tool")
    pruning.reconcile()
    without(repo)
    by_hand = {("ada", "tool"): "revoke"}
    assert row(pruning.reconcile(grants=by_hand, by_hand=by_hand), "ada", "tool").status is Status.REVOKED


@pytest.mark.parametrize("checked", [True, False], ids=["account", "webhook"])
@pytest.mark.parametrize("lock", [True, False], ids=["locked", "revoked"])
def test_a_value_that_only_a_removal_uses_is_kept_while_git_has_it(pruning, accounts, repo, checked, lock):
    """The ledger had what an account was made with: who left, or was locked, since a commit used more, kept access."""
    accounts.route("DELETE", "/seats/{seat}", 204)
    manifest = accounts.manifest(team=True)
    if not checked:
        del manifest["exists"]
    repo.manifest("tool", manifest)
    without(repo, TOOL, extra={"SEAT": "5"})
    pruning.reconcile()
    call = {"url": f"{accounts.url}/seats/{{{{SEAT}}}}", "method": "DELETE"}
    repo.manifest("tool", {**manifest, "lock" if lock else "revoke": [call]})
    repo.commit()
    pruning.reconcile()
    without(repo)
    if lock:
        pruning.lock("ada")
    pruning.reconcile(by_hand={} if lock else {("ada", "tool"): "revoke"})
    assert len(accounts.calls("DELETE", "/seats/5")) == 1


def test_a_value_that_only_a_removal_uses_is_kept_of_an_account_that_is_half_made(pruning, accounts, repo):
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    without(repo, TOOL, extra={"SEAT": "5"})
    assert row(pruning.reconcile(), "ada", "tool").status is Status.RETRYING
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"][0]["url"] += "?seat={{SEAT}}"
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.RETRYING
    without(repo)
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [call.target for call in accounts.calls("DELETE")] == ["/users/ada%40example.com?seat=5"]


@pytest.mark.parametrize("half", [False, True], ids=["not begun", "failed before"])
def test_who_left_before_the_removal_asked_for_a_value_waits_for_a_person(pruning, accounts, repo, half):
    """The row was orphaned, with exit code 0, and stayed so although the account was removed there."""
    pruning.reconcile()
    without(repo)
    if half:
        accounts.fail_next(1, 500, method="DELETE")
        pruning.reconcile()
        pruning.clock.turn(hours=1)
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"][0]["url"] += "?seat={{SEAT}}"
    repo.manifest("tool", manifest)
    repo.commit()
    report = pruning.reconcile()
    left = row(report, "ada", "tool")
    assert (left.status, left.action, report.wrong) == (Status.ORPHANED, Action.NONE, True)
    assert left.reason == "no longer in git; variable {{SEAT}} is not known: remove the account there"
    assert len(accounts.calls("DELETE")) == half
    accounts.people.clear()
    report = pruning.reconcile()
    assert (row(report, "ada", "tool").status, report.wrong) == (Status.REVOKED, False)


def test_who_left_and_whose_removal_cannot_be_sent_waits_for_a_person(pruning, accounts, repo):
    """Such as a value that would be an empty part of a path, which no commit can change any more."""
    without(repo, TOOL, last_name="")
    pruning.reconcile()
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["execute"][0]["data"]["last"] = "{{last_name}}"
    manifest["revoke"][0]["url"] += "/{{last_name}}/all"
    repo.manifest("tool", manifest)
    without(repo, last_name="")
    report = pruning.reconcile()
    left = row(report, "ada", "tool")
    assert (left.status, left.action, report.wrong) == (Status.ORPHANED, Action.NONE, True)
    assert left.reason.endswith(": remove the account there")
    accounts.people.clear()
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


def test_who_left_and_cannot_be_looked_for_is_revoked_by_a_persons_word(pruning, accounts, repo):
    """Nothing ended that, but a manifest that asks for less."""
    pruning.reconcile()
    without(repo)
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["exists"]["url"] += "?seat={{SEAT}}"
    repo.manifest("tool", manifest)
    repo.commit()
    report = pruning.reconcile()
    left = row(report, "ada", "tool")
    assert (left.status, report.wrong) == (Status.ORPHANED, True)
    assert left.reason.endswith("{{SEAT}} is not known: remove the account there, and `reconcile revoke ada tool`")
    by_hand = {("ada", "tool"): "revoke"}
    gone = row(pruning.reconcile(grants=by_hand, by_hand=by_hand), "ada", "tool")
    assert (gone.status, gone.reason.partition("; ")[2]) == (
        Status.REVOKED,
        "taken away by hand: there is no request for it",
    )
    assert not pruning.reconcile().wrong


@pytest.fixture
def two_steps(pruning, accounts, repo):
    """Revoking takes two requests: the account, then its archive."""
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"].append({"url": f"{accounts.url}/archive", "data": {"who": "{{email}}"}})
    accounts.route("POST", "/archive", {"ok": True})
    repo.manifest("tool", manifest)
    repo.commit()
    pruning.reconcile()
    without(repo)
    return pruning


def test_a_half_done_revocation_continues_though_the_account_is_gone(two_steps, accounts):
    accounts.fail_next(1, 500, prefix="/archive")
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.RETRYING
    assert accounts.people == {}
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.RETRYING
    two_steps.clock.turn(hours=1)
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1
    assert len(accounts.calls("POST", "/archive")) == 2


def test_a_half_done_revocation_whose_requests_change_takes_what_is_gone_for_done(two_steps, accounts, repo):
    """It begins anew, at the account that it has deleted: it waited for a person, who could do nothing about it."""
    accounts.fail_next(1, 500, prefix="/archive")
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.RETRYING
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"][0]["url"] += "?now=1"
    manifest["revoke"].append({"url": f"{accounts.url}/archive", "data": {"who": "{{email}}"}})
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.fail_next(1, 403, prefix="/archive")
    failed = row(two_steps.reconcile(), "ada", "tool")
    assert (failed.status, "request 2 of 2" in failed.reason) == (Status.RETRYING, True)
    two_steps.clock.turn(hours=1)
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.REVOKED
    assert len(accounts.calls("POST", "/archive")) == 3


@pytest.mark.parametrize("answers", [{}, {"continue_if": {"response_notation": "state", "value": "removed"}}])
@pytest.mark.parametrize("lock", [False, True], ids=["revoked", "locked"])
def test_what_is_left_of_a_revocation_may_be_gone_with_the_account(two_steps, accounts, repo, lock, answers):
    """The service's 404 for it failed the revocation for ever, and no command could end that."""
    accounts.route("DELETE", "/seats/{email}", lambda _received, email: 204 if email in accounts.people else 404)
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"][0] |= answers
    manifest["revoke"].insert(0, {"url": f"{accounts.url}/seats/{{{{email}}}}", "method": "DELETE"})
    repo.manifest("tool", manifest)
    if lock:
        repo.hire("ada", TOOL)
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE", prefix="/users")
    if lock:
        two_steps.lock("ada")
    assert row(two_steps.reconcile(), "ada", "tool").status is (Status.SUSPENDED if lock else Status.RETRYING)
    accounts.people.clear()
    two_steps.clock.turn(hours=1)
    report = two_steps.reconcile()
    settled = Status.SUSPENDED if lock else Status.REVOKED
    assert (row(report, "ada", "tool").status, report.wrong) == (settled, False)
    sent = [call.path for call in accounts.calls("DELETE")]
    assert sent == ["/seats/ada@example.com", "/users/ada@example.com", "/users/ada@example.com"]


def test_a_lost_answer_counts_as_done_where_the_account_is_gone(two_steps, accounts):
    accounts.drop_after_commit(method="DELETE")
    two_steps.reconcile()
    two_steps.clock.turn(hours=1)
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [call.method for call in accounts.calls() if call.path == "/archive" or call.method == "DELETE"] == [
        "DELETE",
        "POST",
    ]


@pytest.mark.parametrize("again", [None, "/archive", "/report"])
def test_what_cannot_be_looked_up_any_more_is_gone_with_the_account(two_steps, accounts, repo, again):
    """Also where it is continued after that: then what cannot be sent failed it all the same."""
    accounts.route("DELETE", "/seats/{email}", 204)
    accounts.route("GET", "/ids/{email}", lambda _received, email: {"id": "5"} if email in accounts.people else 404)
    accounts.route("POST", "/report", {"ok": True})
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"] = [
        {"url": f"{accounts.url}/seats/{{{{email}}}}", "method": "DELETE"},
        {"url": f"{accounts.url}/ids/{{{{email}}}}", "method": "GET", "store_data": {"ID": "id"}},
        {"url": f"{accounts.url}/ids/{{{{ID}}}}", "method": "DELETE"},
        {"url": f"{accounts.url}/archive", "data": {"who": "{{email}}"}},
        {"url": f"{accounts.url}/report", "data": {"who": "{{email}}"}},
    ]
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.fail_next(1, 500, method="GET", prefix="/ids")
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.RETRYING
    accounts.people.clear()
    two_steps.clock.turn(hours=1)
    if again:
        accounts.fail_next(1, 500, prefix=again)
        assert row(two_steps.reconcile(), "ada", "tool").status is Status.FAILED
        two_steps.enqueue("retry", "ada", "tool")
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.REVOKED
    assert [call.path for call in accounts.calls("DELETE")] == ["/seats/ada@example.com"]
    sent = [call.path for call in accounts.calls("POST") if call.path in ("/archive", "/report")]
    assert sent == sorted(["/archive", "/report", *([again] if again else [])])


@pytest.mark.parametrize("first", ["fails", "is not as expected"])
@pytest.mark.parametrize("lock", [False, True], ids=["revoked", "locked"])
def test_what_is_gone_after_a_first_request_that_failed_was_taken_by_it(two_steps, accounts, repo, first, lock):
    """The row said revoked, or locked, and the rest was never sent."""

    def taken(_received, email):
        del accounts.people[email]
        return 500 if first == "fails" else (200, {"state": "queued"})

    accounts.route("DELETE", "/members/{email}", taken)
    manifest = accounts.manifest(team=True)
    manifest["revoke"] = [
        {"url": f"{accounts.url}/members/{{{{email}}}}", "method": "DELETE", "expected": "removed"},
        {"url": f"{accounts.url}/archive", "data": {"who": "{{email}}"}},
    ]
    repo.manifest("tool", manifest)
    if lock:
        repo.hire("ada", TOOL)
    repo.commit()
    if lock:
        two_steps.lock("ada")
    for _ in range(2):
        two_steps.reconcile()
    two_steps.clock.turn(hours=1)
    report = two_steps.reconcile()
    settled = Status.SUSPENDED if lock else Status.REVOKED
    assert (row(report, "ada", "tool").status, report.wrong) == (settled, False)
    assert (len(accounts.calls("DELETE")), len(accounts.calls("POST", "/archive"))) == (1, 1)


def test_what_is_gone_after_a_first_request_that_was_refused_is_gone(two_steps, accounts):
    """Somebody took it away there, which a pass takes for the whole."""
    accounts.fail_next(1, 403, method="DELETE")
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.RETRYING
    accounts.people.clear()
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.calls("POST", "/archive") == []


def test_a_lost_answer_is_sent_again_where_the_account_is_still_there(two_steps, accounts):
    accounts.drop(method="DELETE")
    two_steps.reconcile()
    two_steps.clock.turn(hours=1)
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}
    assert len(accounts.calls("DELETE")) == 2


def test_addresses_in_other_case_are_the_same_account(pruning, accounts, repo):
    manifest = accounts.manifest(revoke=True)
    manifest["form"] = [{"id": "LOGIN", "type": "input"}]
    manifest["exists"] |= {"match": "id", "expected": "{{LOGIN}}"}
    manifest["execute"][0]["data"]["login"] = "{{LOGIN}}"
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"]["id"] = "ada"
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"LOGIN": "ada"}})
    repo.commit()
    pruning.reconcile()
    repo.hire("ada", {"integration": "tool", "name": "other", "values": {"LOGIN": "Ada"}})
    repo.commit()
    report = pruning.reconcile()
    assert "the same account as ada/other" in row(report, "ada", "tool").reason
    assert accounts.calls("DELETE") == []


def test_an_answer_without_what_is_expected_fails_it(pruning, accounts, repo):
    manifest = accounts.manifest(team=True)
    answers = iter(["pending", "removed"])
    accounts.route("DELETE", "/members/{email}", lambda _received, email: {"state": next(answers), "who": email})
    manifest["revoke"] = [
        {"url": f"{accounts.url}/members/{{{{email}}}}", "method": "DELETE", "expected": "removed"},
        {"url": f"{accounts.url}/users/{{{{email}}}}", "method": "DELETE"},
    ]
    repo.manifest("tool", manifest)
    repo.commit()
    pruning.reconcile()
    without(repo)
    failed = row(pruning.reconcile(), "ada", "tool")
    assert "request 1 of 2 (DELETE): answered 200 without what is expected" in failed.reason
    pruning.clock.turn(hours=1)
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED
    assert len(accounts.calls("DELETE", "/members")) == 2
    assert accounts.people == {}


def test_what_is_expected_is_looked_for_once_polling_has_come_to_its_end(two_steps, accounts, repo):
    states = iter(["queued", "running", "removed"])
    accounts.route("GET", "/job", lambda _received: {"state": next(states)})
    condition, often = {"response_notation": "state", "value": "removed"}, {"interval": 7, "amount": 3}
    job = {"url": f"{accounts.url}/job", "method": "GET", "expected": "removed"}
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"].append({**job, "continue_if": condition, "polling": often})
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.REVOKED
    assert len(accounts.calls("GET", "/job")) == 3


def test_an_empty_expected_of_a_revocation_counts_as_left_out(two_steps, accounts, repo):
    manifest = accounts.manifest(team=True, revoke=True)
    archive = {"url": f"{accounts.url}/archive", "data": {"who": "{{email}}"}, "expected": ""}
    repo.manifest("tool", {**manifest, "revoke": [archive, *({**call, "expected": ""} for call in manifest["revoke"])]})
    repo.commit()
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.REVOKED
    assert (len(accounts.calls("POST", "/archive")), accounts.people) == (1, {})


# Added again


def test_an_orphan_that_is_added_again_goes_on_as_if_nothing_had_been(machine, accounts, repo):
    machine.reconcile()
    without(repo)
    machine.reconcile()
    without(repo, TOOL)
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.attempts) == (Status.PRESENT, 1)
    assert machine.record("ada", "tool").orphaned_at is None
    assert accounts.created == {"ada@example.com": 1}


def test_after_it_was_revoked_it_is_a_new_grant_and_never_drift(pruning, accounts, repo):
    pruning.reconcile()
    without(repo)
    pruning.reconcile()
    without(repo, TOOL)
    planned = row(pruning.plan(), "ada", "tool")
    assert (planned.status, planned.action, planned.reason) == (
        Status.MISSING,
        Action.EXECUTE,
        "exists check: not found",
    )
    assert row(pruning.reconcile(), "ada", "tool").status is Status.PRESENT
    assert not {EventType.LOST, EventType.HEALED} & set(pruning.events("ada"))
    assert accounts.created == {"ada@example.com": 2}


def test_account_lost_before_revocation_is_a_new_grant(machine, accounts, repo):
    machine.reconcile()
    repo.settings(gnupg_home=repo.gnupg.path, drift="report")
    repo.commit()
    accounts.people.clear()
    assert row(machine.reconcile(), "ada", "tool").reason.startswith("drift")
    without(repo)
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    without(repo, TOOL)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert EventType.HEALED not in machine.events("ada")


def test_after_it_was_revoked_the_day_and_the_needs_count_again(pruning, accounts, repo):
    pruning.reconcile()
    without(repo)
    pruning.reconcile()
    without(repo, TOOL | {"at": "2026-12-24"})
    waiting = row(pruning.reconcile(), "ada", "tool")
    assert (waiting.status, waiting.action) == (Status.SCHEDULED, Action.WAIT)
    assert len(accounts.calls("POST", "/users")) == 1
    without(repo)
    assert row(pruning.reconcile(), "ada", "tool").status is Status.REVOKED


def test_added_again_while_its_revocation_is_retrying(pruning, accounts, repo):
    pruning.reconcile()
    without(repo)
    accounts.fail_next(1, 500, method="DELETE")
    pruning.reconcile()
    without(repo, TOOL)
    found = row(pruning.reconcile(), "ada", "tool")
    assert (found.status, found.action, found.retry_at, found.attempts) == (Status.PRESENT, Action.NONE, None, 0)
    pruning.clock.turn(hours=2)
    assert row(pruning.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("DELETE")) == 1


def test_added_again_while_a_revocation_that_took_effect_is_retrying(two_steps, accounts, repo):
    accounts.fail_next(1, 500, prefix="/archive")
    two_steps.reconcile()
    without(repo, TOOL)
    planned = row(two_steps.plan(), "ada", "tool")
    assert (planned.status, planned.action) == (Status.MISSING, Action.EXECUTE)
    assert row(two_steps.reconcile(), "ada", "tool").status is Status.PRESENT
    assert not {EventType.LOST, EventType.HEALED} & set(two_steps.events("ada"))
    two_steps.clock.turn(hours=2)
    two_steps.reconcile()
    assert len(accounts.calls("POST", "/archive")) == 1


def test_added_again_while_it_is_partly_revoked_says_so_until_it_is_provisioned_again(pruning, accounts, repo):
    """What was taken away before the account's own request failed is not there: a pass later it was `present`."""
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["revoke"].insert(0, {"url": f"{accounts.url}/archive", "data": {"who": "{{email}}"}})
    accounts.route("POST", "/archive", {"ok": True})
    accounts.route("POST", "/users", lambda received: accounts.add(received.json()["email"]) or 201)
    repo.manifest("tool", manifest)
    repo.commit()
    pruning.reconcile()
    without(repo)
    accounts.fail_next(1, 500, method="DELETE")
    assert row(pruning.reconcile(), "ada", "tool").status is Status.RETRYING
    without(repo, TOOL)
    for _ in range(3):
        found = row(pruning.reconcile(), "ada", "tool")
        assert (found.status, "partly revoked; `reconcile run ada tool`" in found.reason) == (Status.PRESENT, True)
    pruning.reconcile(by_hand={("ada", "tool"): "run"})
    assert row(pruning.reconcile(), "ada", "tool").reason == "exists check: found"


def test_added_again_and_not_to_be_checked_keeps_its_revocation_in_mind(pruning, accounts, repo):
    pruning.reconcile()
    without(repo)
    accounts.fail_next(1, 500, method="DELETE")
    pruning.reconcile()
    without(repo, TOOL)
    accounts.fail_next(1, 500, method="GET")
    assert row(pruning.reconcile(), "ada", "tool").status is Status.UNKNOWN
    without(repo)
    pruning.clock.turn(hours=1)
    done = row(pruning.reconcile(), "ada", "tool")
    assert (done.status, done.attempts) == (Status.REVOKED, 2)


# Order


@pytest.mark.parametrize("between", ["revoke", "report"])
def test_revocations_go_in_the_reverse_order_of_needs(pruning, accounts, others, repo, between):
    """Also through an entry that is not revoked."""
    repo.settings(gnupg_home=repo.gnupg.path, prune={"default": "revoke", "more": between})
    for name in ("more", "last"):
        there = ["ada@example.com"]
        accounts.route("GET", f"/{name}/{{email}}", lambda _received, email, there=there: list(there))
        accounts.route("DELETE", f"/{name}/{{email}}", lambda _received, email, there=there: there.clear())
        url = f"{accounts.url}/{name}/{{{{email}}}}"
        manifest = {"exists": {"url": url, "expected": "{{email}}"}, "revoke": [{"url": url, "method": "DELETE"}]}
        repo.manifest(name, manifest)
    without(repo, {"integration": "last", "needs": ["more"]}, {"integration": "more", "needs": ["tool"]}, TOOL)
    pruning.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    report = pruning.reconcile()
    revoked = [item.access for item in report.rows if item.status is Status.REVOKED]
    assert sorted(revoked) == sorted(["last", "tool", *(["more"] if between == "revoke" else [])])
    told = [call.path.split("/")[1] for call in accounts.calls("DELETE")]
    assert told == ["last", *(["more"] if between == "revoke" else []), "users"]


@pytest.fixture
def chain(pruning, accounts, repo):
    """Ada left, who had `last`, which needs `more`, which needs `tool`; each is a service of its own."""
    for name in ("more", "last"):
        there = ["ada@example.com"]
        accounts.route("GET", f"/{name}/{{email}}", lambda _received, email, there=there: list(there))
        accounts.route("DELETE", f"/{name}/{{email}}", lambda _received, email, there=there: there.clear())
        url = f"{accounts.url}/{name}/{{{{email}}}}"
        manifest = {"exists": {"url": url, "expected": "{{email}}"}, "revoke": [{"url": url, "method": "DELETE"}]}
        repo.manifest(name, manifest)
    without(repo, {"integration": "last", "needs": ["more"]}, {"integration": "more", "needs": ["tool"]}, TOOL)
    pruning.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    return pruning


def test_a_pass_over_one_service_revokes_nothing_that_another_still_needs(chain, accounts):
    for integration, after in (("tool", "last"), ("more", "last"), ("tool", "last")):
        waiting = row(chain.reconcile(integrations=[integration]), "ada", integration)
        assert (waiting.status, waiting.action) == (Status.ORPHANED, Action.REVOKE)
        assert waiting.reason == f"no longer in git; after {after}, which needs it"
    for integration in ("last", "more", "tool"):
        assert row(chain.reconcile(integrations=[integration]), "ada", integration).status is Status.REVOKED
    assert [call.path.split("/")[1] for call in accounts.calls("DELETE")] == ["last", "more", "users"]


def test_what_is_over_waits_for_nothing_that_a_broken_file_keeps(pruning, accounts, repo):
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook"}]})
    without(repo, TOOL | {"until": "2026-12-01T12:00"}, {"integration": "hook", "needs": ["tool"]})
    pruning.reconcile()
    repo.write("hires/ada.yaml", "email: [\n")
    repo.commit()
    pruning.reconcile()
    pruning.clock.turn(hours=12)
    assert row(pruning.reconcile(integrations=["tool"]), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}


def test_what_a_person_asks_for_and_what_was_tried_waits_for_nothing(chain, accounts):
    accounts.fail_next(1, 500, method="DELETE", prefix="/last")
    chain.reconcile(integrations=["last"])
    assert row(chain.reconcile(integrations=["more"]), "ada", "more").status is Status.REVOKED
    by_hand = {("ada", "tool"): "revoke"}
    assert row(chain.reconcile(grants=by_hand, by_hand=by_hand), "ada", "tool").status is Status.REVOKED


@pytest.mark.parametrize("part", ["execute", "revoke", "exists"])
def test_missing_initial_data_holds_only_the_removal_that_uses_it_and_is_said_aloud(pruning, accounts, repo, part):
    pruning.reconcile()
    manifest, used = accounts.manifest(team=True, revoke=True), part != "execute"
    manifest["initial_data_form"] = [*manifest.get("initial_data_form", ()), {"id": "PLAN"}]
    uses = manifest[part] if part == "exists" else manifest[part][0]
    uses["headers"] = {**manifest["headers"], "X-Plan": "{{PLAN}}"}
    repo.manifest("tool", manifest)
    without(repo)
    report = pruning.reconcile()
    left = row(report, "ada", "tool")
    assert left.status is (Status.ORPHANED if used else Status.REVOKED)
    assert ("initial data PLAN is missing" in left.reason) is used
    assert ("ada@example.com" in accounts.people) is used
    assert report.wrong is used
