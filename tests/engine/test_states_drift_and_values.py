"""docs/design/states.md: an account that is gone, and values that changed since it was made."""

from __future__ import annotations

import pytest

from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import row
from tests.repo import call_cli

TEAM_8 = {"integration": "tool", "values": {"TEAM": "8"}}


def test_reported_drift_sends_nothing(machine, accounts, repo):
    machine.reconcile()
    repo.settings(gnupg_home=repo.gnupg.path, drift="report")
    repo.commit()
    accounts.people.clear()
    for _ in range(2):
        found = row(machine.reconcile(), "ada", "tool")
        assert (found.status, found.action) == (Status.MISSING, Action.NONE)
        assert "drift" in found.reason
    assert len(accounts.calls("POST", "/users")) == 1
    assert machine.events("ada").count(EventType.LOST) == 1


def test_a_loss_within_a_day_of_a_healing_is_left_to_a_person_and_ends_when_it_is_found_again(machine, accounts):
    machine.reconcile()
    accounts.people.clear()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    accounts.people.clear()
    machine.clock.turn(hours=2)
    lost = row(machine.reconcile(), "ada", "tool")
    assert (lost.status, lost.action) == (Status.MISSING, Action.NONE)
    assert "drift, healed 2 h ago" in lost.reason
    accounts.add("ada@example.com")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert machine.history("ada")[-1].detail == "found again"
    assert accounts.created == {"ada@example.com": 2}


def test_an_account_that_was_found_and_never_executed_is_drift_too(machine, accounts):
    accounts.add("ada@example.com")
    machine.reconcile()
    accounts.people.clear()
    planned = row(machine.plan(), "ada", "tool")
    assert (planned.status, planned.action) == (Status.MISSING, Action.EXECUTE)
    assert "drift" in planned.reason
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert EventType.HEALED in machine.events("ada")


def test_a_healing_that_fails_is_retried_and_still_counts_as_one(machine, accounts):
    machine.reconcile()
    accounts.people.clear()
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    machine.clock.turn(hours=1)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 2}
    assert machine.events("ada").count(EventType.HEALED) == 1
    accounts.people.clear()
    lost = row(machine.reconcile(), "ada", "tool")
    assert (lost.status, lost.action) == (Status.MISSING, Action.NONE)
    assert "drift, healed 0 min ago" in lost.reason


def test_the_pause_after_a_healing_is_no_longer_for_a_clock_that_went_back(machine, accounts):
    machine.reconcile()
    accounts.people.clear()
    machine.reconcile()
    accounts.people.clear()
    machine.clock.turn(days=-3)
    assert "drift, healed 0 min ago" in row(machine.reconcile(), "ada", "tool").reason
    machine.clock.turn(hours=24)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_healing_that_failed_starts_afresh_once_what_it_would_send_changes(machine, accounts, repo, attempts):
    machine.reconcile()
    accounts.people.clear()
    accounts.fail_next(None, 500, method="POST", prefix="/users")
    for _ in range(attempts):
        machine.reconcile()
        machine.clock.turn(hours=1)
    machine.clock.turn(minutes=-30)
    accounts.clear()
    repo.hire("ada", TEAM_8)
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert machine.history("ada")[-2].event is EventType.HEALED
    assert accounts.teams == {"7": ["ada@example.com"], "8": ["ada@example.com"]}


def test_changed_values_of_a_present_account_are_named_and_not_sent(machine, accounts, repo):
    machine.reconcile()
    repo.hire("ada", TEAM_8, last_name="Byron")
    repo.commit()
    for report in (machine.plan(), machine.reconcile(), machine.reconcile()):
        found = row(report, "ada", "tool")
        assert (found.status, found.action, found.as_json()["changed"]) == (Status.DIFFERS, Action.NONE, True)
        assert found.as_json()["differs"] == {"TEAM": ["7", "8"], "last_name": ["Example", "Byron"]}
        assert "TEAM 7 → 8" in found.reason
        assert "last_name Example → Byron" in found.reason
        assert "reconcile run ada tool" in found.reason
    assert len(accounts.calls("POST")) == 2


def test_values_put_back_are_no_change(machine, repo):
    machine.reconcile()
    repo.hire("ada", TEAM_8)
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").changed
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.changed, found.reason) == (False, "exists check: found")


def test_map_whose_keys_are_in_another_order_is_no_change(machine, accounts, repo):
    manifest = accounts.manifest()
    manifest["execute"][0]["data"]["badge"] = "{{BADGE}}"
    repo.manifest("tool", manifest)
    for badge in ({"floor": 1, "wing": "Süd"}, {"wing": "Süd", "floor": 1}):
        repo.hire("ada", "tool", extra={"BADGE": badge})
        repo.commit()
        assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    repo.hire("ada", "tool", extra={"BADGE": {"wing": "Süd"}})
    repo.commit()
    reason = row(machine.reconcile(), "ada", "tool").reason
    assert reason.startswith('changed since: BADGE {"floor": 1, "wing": "Süd"} → {"wing": "Süd"}; ')


def test_values_that_the_manifest_does_not_use_are_no_change(machine, repo):
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, phone="+31 20 123", department="R&D")
    repo.commit()
    assert not row(machine.reconcile(), "ada", "tool").changed


def test_changed_values_of_an_adopted_account_are_named_too(machine, accounts, repo):
    accounts.add("ada@example.com")
    machine.reconcile()
    repo.hire("ada", TEAM_8)
    repo.commit()
    assert "TEAM 7 → 8" in row(machine.reconcile(), "ada", "tool").reason


def test_a_value_that_the_check_asks_with_is_no_change_once_the_account_is_found_by_it(machine, accounts, repo):
    """What an account is found by, it has: an orphan is later looked for, and revoked, by that."""
    manifest = accounts.manifest(team=True, revoke=True)
    manifest["exists"]["url"] = f"{accounts.url}/users/{{{{TEAM}}}}-{{{{email}}}}"
    manifest["execute"] = [{"url": f"{accounts.url}/users", "data": {"email": "{{TEAM}}-{{email}}"}}]
    manifest["exists"]["expected"] = "{{TEAM}}-{{email}}"
    manifest["revoke"][0]["url"] = f"{accounts.url}/users/{{{{TEAM}}}}-{{{{email}}}}"
    repo.manifest("tool", manifest)
    repo.commit()
    machine.reconcile()
    assert set(accounts.people) == {"7-ada@example.com"}
    accounts.add("8-ada@example.com")
    repo.hire("ada", TEAM_8)
    repo.commit()
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.changed) == (Status.PRESENT, False)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada")
    repo.commit()
    machine.reconcile()
    paths = sorted(call.path for call in accounts.calls("DELETE"))
    assert paths == ["/users/7-ada@example.com", "/users/8-ada@example.com"]


# The address


def test_a_changed_address_is_found_under_the_new_one(machine, accounts, repo):
    machine.reconcile()
    accounts.people["lovelace@example.com"] = accounts.people.pop("ada@example.com") | {"email": "lovelace@example.com"}
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="lovelace@example.com")
    repo.commit()
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.changed) == (Status.PRESENT, False)
    assert machine.record("ada", "tool").email == "lovelace@example.com"

    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.hire("ada", email="lovelace@example.com")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}, "revoked under the address that it has now"


def test_a_changed_address_that_is_still_under_the_old_one_is_blocked(machine, accounts, repo):
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="lovelace@example.com")
    repo.commit()
    for _ in range(2):
        found = row(machine.reconcile(), "ada", "tool")
        assert (found.status, found.action) == (Status.BLOCKED, Action.NONE)
        assert "the account is under ada@example.com: rename it there, or `reconcile run`" in found.reason
    assert machine.events("ada").count(EventType.BLOCKED) == 1
    assert len(accounts.calls("POST")) == 2

    accounts.people["lovelace@example.com"] = accounts.people.pop("ada@example.com") | {"email": "lovelace@example.com"}
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert machine.events("ada")[-1] is EventType.UNBLOCKED


def test_address_in_another_spelling_duplicates_no_account(machine, accounts, repo):
    """A service may take `Ada@` and `ada@` for two people; git does not."""
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="Ada@Example.com")
    repo.commit()
    accounts.fail_next(1, 404, method="GET", prefix="/users/Ada")
    found = row(machine.reconcile(), "ada", "tool")
    assert "the account is under ada@example.com: rename it there" in found.reason
    assert accounts.created == {"ada@example.com": 1}


def test_run_at_a_changed_address_says_for_what_it_waits(machine, accounts, repo):
    machine.reconcile()
    tool = {"integration": "tool", "values": {"TEAM": "7"}, "at": "2126-12-24"}
    repo.hire("ada", tool, email="lovelace@example.com")
    repo.commit()
    refused = call_cli(repo, "run", "ada", "tool")
    assert refused.code == 1
    assert "ada/tool is blocked: the account is under ada@example.com: rename it there" in refused.err
    assert "; run now, it is scheduled: begins on 2126-12-24" in refused.err
    assert accounts.people.keys() == {"ada@example.com"}


def test_a_changed_address_can_be_run_by_hand_while_the_account_is_under_the_old_one(machine, accounts, repo):
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="lovelace@example.com")
    repo.commit()
    machine.reconcile()
    found = row(machine.reconcile(by_hand={("ada", "tool"): "run"}), "ada", "tool")
    assert found.status is Status.PRESENT
    assert accounts.created == {"ada@example.com": 1, "lovelace@example.com": 1}
    assert not row(machine.reconcile(), "ada", "tool").changed


def test_a_changed_address_found_under_neither_is_drift(machine, accounts, repo):
    machine.reconcile()
    accounts.people.clear()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="lovelace@example.com")
    repo.commit()
    planned = row(machine.plan(), "ada", "tool")
    assert (planned.status, planned.action) == (Status.MISSING, Action.EXECUTE)
    assert "drift" in planned.reason
    assert "email ada@example.com → lovelace@example.com" in planned.reason
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert set(accounts.people) == {"lovelace@example.com"}


@pytest.mark.parametrize("fails", ["ada", "lovelace"])
def test_a_changed_address_is_unknown_while_either_one_cannot_be_asked_for(machine, accounts, repo, fails):
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="lovelace@example.com")
    repo.commit()
    accounts.fail_next(None, 500, method="GET", prefix=f"/users/{fails}@example.com")
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.UNKNOWN, Action.NONE)


def test_a_case_is_no_change_of_address(machine, accounts, repo):
    machine.reconcile()
    before = len(accounts.calls())
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="Ada@Example.com")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls()) == before + 1


def test_a_changed_address_while_the_attempt_is_half_done_makes_no_second_account(machine, accounts, repo):
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    machine.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="lovelace@example.com")
    repo.commit()
    found = row(machine.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.BLOCKED, Action.NONE)
    assert "under ada@example.com" in found.reason
    assert accounts.created == {"ada@example.com": 1}


# Unconfirmed, and webhooks


@pytest.fixture
def inviting(machine, accounts, repo):
    """The tool only invites: the account is there once the invitation is accepted."""
    accounts.route("POST", "/users", lambda _received: (202, {"invited": True}))
    return machine


def test_unconfirmed_stays_so_however_long_it_takes(inviting, accounts):
    first = row(inviting.reconcile(), "ada", "tool")
    assert (first.status, first.action) == (Status.UNCONFIRMED, Action.NONE)
    inviting.clock.turn(days=30)
    assert row(inviting.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert len(accounts.calls("POST", "/users")) == 1
    accounts.add("ada@example.com")
    assert row(inviting.reconcile(), "ada", "tool").status is Status.PRESENT
    assert inviting.events("ada") == [EventType.ATTEMPT_STARTED, EventType.EXECUTED, EventType.CONFIRMED]


CHANGES = {
    "a form value": ({"integration": "tool", "values": {"TEAM": "8"}}, {}, "TEAM 7 → 8"),
    "a hire's value": ({"integration": "tool", "values": {"TEAM": "7"}}, {"last_name": "Byron"}, "last_name"),
    "the address": ({"integration": "tool", "values": {"TEAM": "7"}}, {"email": "l@example.com"}, "not found"),
}


@pytest.mark.parametrize(("entry", "fields", "named"), CHANGES.values(), ids=CHANGES)
def test_unconfirmed_with_changed_values_starts_afresh(inviting, accounts, repo, entry, fields, named):
    inviting.reconcile()
    repo.hire("ada", entry, **fields)
    repo.commit()
    planned = row(inviting.plan(), "ada", "tool")
    assert (planned.status, planned.action) == (Status.MISSING, Action.EXECUTE)
    assert named in planned.reason
    again = row(inviting.reconcile(), "ada", "tool")
    assert (again.status, again.attempts) == (Status.UNCONFIRMED, 1)
    assert len(accounts.calls("POST", "/users")) == 2
    assert row(inviting.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert len(accounts.calls("POST", "/users")) == 2


def test_unconfirmed_with_a_changed_address_that_was_accepted_under_the_old_one_is_blocked(inviting, accounts, repo):
    inviting.reconcile()
    accounts.add("ada@example.com")
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, email="lovelace@example.com")
    repo.commit()
    found = row(inviting.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.BLOCKED, Action.NONE)
    assert len(accounts.calls("POST", "/users")) == 1


def test_unconfirmed_is_not_executed_again_where_only_the_manifest_changed(inviting, accounts, repo):
    inviting.reconcile()
    manifest = accounts.manifest(team=True)
    manifest["execute"][0]["data"]["note"] = "welcome"
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(inviting.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert len(accounts.calls("POST", "/users")) == 1


def test_a_webhook_runs_once_and_names_what_changed(machine, accounts, repo):
    accounts.route("POST", "/hook", lambda _received: {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook", "data": {"who": "{{email}} {{last_name}}"}}]})
    repo.hire("bob", "hook")
    repo.commit()
    first = row(machine.reconcile(), "bob", "hook")
    assert (first.status, first.action) == (Status.DONE, Action.NONE)
    assert row(machine.reconcile(), "bob", "hook").status is Status.DONE
    repo.hire("bob", "hook", last_name="Builder", email="robert@example.com")
    repo.commit()
    for _ in range(2):
        changed = row(machine.reconcile(), "bob", "hook")
        assert (changed.status, changed.action, changed.changed) == (Status.DIFFERS, Action.NONE, True)
        assert "email bob@example.com → robert@example.com" in changed.reason
        assert "last_name Example → Builder" in changed.reason
    assert len(accounts.calls("POST", "/hook")) == 1
    ran = row(machine.reconcile(by_hand={("bob", "hook"): "run"}), "bob", "hook")
    assert (ran.status, ran.changed) == (Status.DONE, False)
    assert [call.json()["who"] for call in accounts.calls("POST", "/hook")][-1] == "robert@example.com Builder"
    assert not row(machine.reconcile(), "bob", "hook").changed


def test_an_entry_that_means_another_integration_under_the_same_name_loses_nothing(machine, accounts, repo):
    repo.hire("ada", {"integration": "tool", "name": "work", "values": {"TEAM": "7"}})
    repo.commit()
    machine.reconcile()
    repo.manifest("other", accounts.manifest())
    repo.hire("ada", {"integration": "other", "name": "work"})
    repo.commit()
    found = row(machine.reconcile(), "ada", "work")
    assert (found.status, found.integration) == (Status.BLOCKED, "other")
    assert "give the entry for other another name" in found.reason
    assert machine.record("ada", "work").integration == "tool"
    repo.hire("ada", {"integration": "other", "name": "play"})
    repo.commit()
    report = machine.reconcile()
    assert row(report, "ada", "play").status is Status.PRESENT
    assert row(report, "ada", "work").status is Status.ORPHANED


MEANWHILE = {
    "its service is suspended": lambda repo: repo.settings(suspend=[{"integration": "other", "reason": "moving"}]),
    "its hire is suspended": lambda repo: repo.settings(suspend=[{"hire": "ada", "reason": "on leave"}]),
    "its manifest has an error": lambda repo: repo.write("manifests/other.yaml", "exist: {}"),
    "that of the account has an error": lambda repo: repo.write("manifests/tool.yaml", "exist: {}"),
    "that of the account is gone": lambda repo: repo.remove("manifests/tool.yaml"),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE.values(), ids=MEANWHILE)
def test_an_account_is_not_lost_whatever_holds_the_entry_that_has_its_name(machine, accounts, others, repo, meanwhile):
    repo.hire("ada", {"integration": "tool", "name": "work", "values": {"TEAM": "7"}})
    repo.manifest("other", others.manifest())
    repo.commit()
    machine.reconcile()
    mended = {path: (repo.root / path).read_text() for path in ("manifests/tool.yaml", "manifests/other.yaml")}
    settings = (repo.root / "config/reconciler.yaml").read_text()
    meanwhile(repo)
    repo.hire("ada", {"integration": "other", "name": "work"})
    repo.commit()
    for _ in range(2):
        assert row(machine.reconcile(), "ada", "work").status in (Status.SUSPENDED, Status.BLOCKED)
        assert machine.record("ada", "work").integration == "tool"
    for path, text in {**mended, "config/reconciler.yaml": settings}.items():
        repo.write(path, text)
    repo.commit()
    assert "give the entry for other another name" in row(machine.reconcile(), "ada", "work").reason
    assert others.created == {}
    repo.hire("ada", {"integration": "other", "name": "play"})
    repo.commit()
    assert row(machine.reconcile(), "ada", "work").status is Status.ORPHANED


def test_an_account_that_another_row_has_is_no_sign_of_a_manifest_by_another_name(machine, accounts, others, repo):
    repo.manifest("other", others.manifest())
    repo.hire("ada", {"integration": "tool", "name": "work", "values": {"TEAM": "7"}}, "other")
    repo.commit()
    machine.reconcile()
    repo.remove("manifests/tool.yaml")
    repo.hire("ada", {"integration": "other", "name": "work"})
    repo.commit()
    for _ in range(2):
        assert "access to tool is called" in row(machine.reconcile(), "ada", "work").reason
    assert machine.record("ada", "work").integration == "tool"


def test_an_account_that_a_check_found_is_not_that_of_a_webhook(machine, accounts, repo):
    repo.hire("ada", {"integration": "tool", "name": "work", "values": {"TEAM": "7"}})
    repo.commit()
    machine.reconcile()
    repo.remove("manifests/tool.yaml")
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/users"}]})
    repo.hire("ada", {"integration": "hook", "name": "work"})
    repo.commit()
    assert "access to tool is called" in row(machine.reconcile(), "ada", "work").reason
    assert machine.record("ada", "work").integration == "tool"


def test_a_manifest_that_is_called_something_else_has_the_accounts_of_before(machine, accounts, repo):
    repo.hire("ada", {"integration": "tool", "name": "work", "values": {"TEAM": "7"}})
    repo.commit()
    machine.reconcile()
    repo.remove("manifests/tool.yaml")
    repo.manifest("suite", accounts.manifest(team=True))
    repo.hire("ada", {"integration": "suite", "name": "work", "values": {"TEAM": "7"}})
    repo.commit()
    accounts.fail_next(1, 500, method="GET")
    assert row(machine.reconcile(), "ada", "work").status is Status.UNKNOWN
    assert machine.record("ada", "work").integration == "tool", "nobody knows yet whether it is another service"
    assert row(machine.reconcile(), "ada", "work").status is Status.PRESENT
    assert (machine.record("ada", "work").integration, len(accounts.calls("POST", "/users"))) == ("suite", 1)


@pytest.mark.parametrize("before", ["a lock", "a removal"])
@pytest.mark.parametrize("checked", [True, False], ids=["account", "webhook"])
def test_a_value_that_changes_before_what_takes_the_account_away_has_succeeded_is_sent_at_once(
    machine, accounts, repo, before, checked
):
    """It came a pass later, which said `present`, or `done`."""
    accounts.route("POST", "/teams/{team}/remove", 500)
    manifest = accounts.manifest(team=True)
    call = {"url": f"{accounts.url}/teams/{{{{TEAM}}}}/remove"}
    manifest |= {"update": manifest["execute"][1:], "lock" if before == "a lock" else "revoke": [call]}
    if not checked:
        del manifest["exists"]
    repo.manifest("tool", manifest)
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.commit()
    machine.reconcile()
    if before == "a lock":
        machine.lock("ada")
    else:
        repo.hire("ada")
        repo.commit()
    machine.reconcile(by_hand={("ada", "tool"): "revoke"} if before == "a removal" else {})
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
    repo.commit()
    if before == "a lock":
        machine.enqueue("unlock", "ada")
    assert row(machine.reconcile(), "ada", "tool").status is (Status.PRESENT if checked else Status.DONE)
    assert accounts.teams == {"7": ["ada@example.com"], "8": ["ada@example.com"]}
