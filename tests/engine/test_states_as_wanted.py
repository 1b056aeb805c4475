"""docs/design/states.md: accounts that are there and not as git wants them, and people who are only invited."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.engine.decide.existing import reason_not_to_accept
from reconciler.model.grant import Key
from reconciler.model.report import Row
from reconciler.model.status import Action, EventType, Status
from reconciler.review.past import replayed
from tests.engine.harness import Machine, row
from tests.repo import Repo, call_cli
from tests.servers import AccountService, Received


class Roles:
    """Changes of accounts and invitations, on top of an account service."""

    def __init__(self, accounts: AccountService) -> None:
        self.accounts = accounts
        self.invitations: dict[str, str] = {}
        accounts.route("PATCH", "/users/{email}", self._change)
        accounts.route("GET", "/invitations", lambda _received: self._open())
        accounts.route("POST", "/invitations", self._invite)
        accounts.route("DELETE", "/invitations/{id}", self._withdraw)

    @property
    def changes(self) -> list[Any]:
        """What was asked to be changed, in order."""
        return [call.json() for call in self.accounts.calls("PATCH")]

    def _change(self, received: Received, email: str) -> Any:
        self.accounts.people[email.lower()].update(received.json())
        return {"ok": True}

    def _open(self) -> Any:
        return [{"email": email, "id": name} for email, name in self.invitations.items()]

    def _invite(self, received: Received) -> Any:
        email = received.json()["email"]
        if email in self.invitations:
            return 409, {"error": "already invited"}
        self.invitations[email] = f"i{len(self.accounts.calls('POST', '/invitations'))}"
        return 201, {"id": self.invitations[email]}

    def _withdraw(self, _received: Received, id: str) -> Any:  # noqa: A002  the name in the path
        for email, name in list(self.invitations.items()):
            if name == id:
                del self.invitations[email]
                return 204
        return 404, {"error": "no such invitation"}


@pytest.fixture
def roles(accounts: AccountService) -> Roles:
    return Roles(accounts)


def with_role(accounts: AccountService, **more: Any) -> dict[str, Any]:
    manifest = accounts.manifest(revoke=True)
    manifest["form"] = [{"id": "ROLE", "name": "Role", "type": "input"}]
    manifest["execute"][0]["data"] = {"email": "{{email}}", "role": "{{ROLE}}", "active": True}
    manifest["exists"] |= {"where": {"role": "{{ROLE}}"}, "inactive": {"active": False}}
    change = {
        "url": f"{accounts.url}/users/{{{{email}}}}",
        "method": "PATCH",
        "data": {"role": "{{ROLE}}", "active": True},
    }
    return {**manifest, "update": [change], **more}


def telling(accounts: AccountService) -> dict[str, Any]:
    """A manifest whose update tells of the change afterwards."""
    accounts.route("POST", "/told", {"ok": True})
    manifest = with_role(accounts)
    manifest["update"].append({"url": f"{accounts.url}/told", "method": "POST"})
    return manifest


def wanting(role: str) -> dict[str, Any]:
    return {"integration": "tool", "values": {"ROLE": role}}


@pytest.fixture
def team(repo: Repo, accounts: AccountService, roles: Roles) -> Machine:
    """Ada is to be a member of `tool`."""
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    repo.manifest("tool", with_role(accounts))
    repo.hire("ada", wanting("member"))
    repo.commit()
    return Machine(repo)


def settings(repo: Repo, **values: Any) -> None:
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path, **values)


# There, and as git wants it


def test_a_role_that_changes_in_git_reaches_the_service_once(team, roles, repo):
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    planned = row(team.plan(), "ada", "tool")
    assert (planned.status, planned.action) == (Status.DIFFERS, Action.UPDATE)
    assert planned.reason == "role: member, git wants maintainer"
    assert planned.as_json()["differs"] == {"role": ["member", "maintainer"]}
    assert planned.as_json()["requests"][0]["body"] == {"role": "maintainer", "active": True}
    for _ in range(2):
        assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert roles.changes == [{"role": "maintainer", "active": True}]
    assert team.events("ada")[-4:] == [
        EventType.DIFFERED,
        EventType.ATTEMPT_STARTED,
        EventType.UPDATED,
        EventType.CONFIRMED,
    ]
    assert not team.outbox.sent


def test_a_second_change_within_a_day_is_no_drift(team, roles, repo):
    team.reconcile()
    for role in ("maintainer", "owner", "member"):
        repo.hire("ada", wanting(role))
        repo.commit()
        assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [change["role"] for change in roles.changes] == ["maintainer", "owner", "member"]


def test_change_at_service_after_agreement_is_drift(team, accounts, roles, repo):
    team.reconcile()
    settings(repo, drift="report")
    accounts.people["ada@example.com"]["role"] = "owner"
    repo.hire("ada", wanting("owner"))
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    accounts.people["ada@example.com"]["role"] = "guest"
    found = row(team.reconcile(), "ada", "tool")
    assert (found.status, found.action, found.reason) == (
        Status.DIFFERS,
        Action.NONE,
        "drift: role: guest, git wants owner",
    )
    assert roles.changes == []


def test_retry_of_a_run_by_hand_makes_no_account_that_is_switched_off(team, accounts, roles):
    accounts.fail_next(2, 500, method="POST")
    team.reconcile()
    assert row(team.reconcile(by_hand={("ada", "tool"): "run"}), "ada", "tool").status is Status.RETRYING
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"].update(role="member", active=False)
    team.clock.turn(hours=1)
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert roles.changes == [{"role": "member", "active": True}]
    assert len(accounts.calls("POST")) == 2


def test_half_revoked_account_that_is_wanted_again_is_made_as_git_wants_it(team, accounts, roles, repo):
    team.reconcile()
    settings(repo, prune="revoke")
    repo.hire("ada")
    repo.commit()
    accounts.drop(1, method="DELETE")
    assert row(team.reconcile(), "ada", "tool").status is Status.RETRYING
    accounts.people["ada@example.com"]["role"] = "guest"
    repo.hire("ada", wanting("member"))
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert roles.changes == [{"role": "member", "active": True}]


def test_partly_revoked_account_that_is_wanted_again_is_updated_though_it_is_as_wanted(team, accounts, roles, repo):
    settings(repo, prune="revoke")
    manifest = with_role(accounts)
    manifest["revoke"].insert(0, {"url": f"{accounts.url}/archive"})
    accounts.route("POST", "/archive", {"ok": True})
    repo.manifest("tool", manifest)
    repo.commit()
    team.reconcile()
    repo.hire("ada")
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    assert row(team.reconcile(), "ada", "tool").status is Status.RETRYING
    repo.hire("ada", wanting("member"))
    repo.commit()
    assert row(team.plan(), "ada", "tool").action is Action.UPDATE
    for _ in range(2):
        found = row(team.reconcile(), "ada", "tool")
        assert (found.status, "partly" in found.reason) == (Status.PRESENT, False)
    assert len(roles.changes) == 1


def stays_blocked_under_the_old_address(team, accounts):
    for _ in range(2):
        found = row(team.reconcile(), "ada", "tool")
        assert (found.status, found.action) == (Status.BLOCKED, Action.NONE)
        assert "the account is under ada@example.com: rename it there" in found.reason
    assert accounts.created == {"ada@example.com": 1}


def test_half_revoked_account_under_the_old_address_is_left_to_a_person(team, accounts, roles, repo):
    team.reconcile()
    settings(repo, prune="revoke")
    repo.hire("ada")
    repo.commit()
    accounts.drop(1, method="DELETE")
    team.reconcile()
    accounts.people["ada@example.com"]["role"] = "guest"
    repo.manifest("tool", with_role(accounts, update="execute"))
    repo.hire("ada", wanting("member"), email="lovelace@example.com")
    repo.commit()
    stays_blocked_under_the_old_address(team, accounts)


def test_account_under_the_old_address_of_who_was_revoked_is_left_to_a_person(team, accounts, repo):
    team.reconcile()
    settings(repo, prune="revoke")
    repo.hire("ada")
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.REVOKED
    accounts.add("ada@example.com")
    repo.hire("ada", wanting("member"), email="lovelace@example.com")
    repo.commit()
    stays_blocked_under_the_old_address(team, accounts)
    ran = row(team.reconcile(by_hand={("ada", "tool"): "run"}), "ada", "tool")
    assert (ran.status, ran.attempts, ran.email) == (Status.PRESENT, 1, "lovelace@example.com")


def test_an_account_found_with_another_role_is_updated(team, accounts, roles, repo):
    settings(repo, drift="report")
    repo.commit()
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"]["role"] = "owner"
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert roles.changes == [{"role": "member", "active": True}]
    assert accounts.created == {}


def test_a_role_changed_at_the_service_is_drift_and_healed_once_a_day(team, accounts, roles):
    team.reconcile()
    accounts.people["ada@example.com"]["role"] = "owner"
    planned = row(team.plan(), "ada", "tool")
    assert (planned.status, planned.action, planned.reason) == (
        Status.DIFFERS,
        Action.UPDATE,
        "drift: role: owner, git wants member",
    )
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert EventType.HEALED in team.events("ada")
    accounts.people["ada@example.com"]["role"] = "owner"
    team.clock.turn(hours=2)
    report = team.reconcile()
    again = row(report, "ada", "tool")
    assert (again.status, again.action) == (Status.DIFFERS, Action.NONE)
    assert again.reason.startswith("drift, healed 2 h ago")
    assert report.wrong
    assert len(roles.changes) == 1


def test_role_that_git_follows_is_what_the_account_has_from_then_on(team, accounts, repo):
    settings(repo, drift="report")
    repo.commit()
    team.reconcile()
    accounts.people["ada@example.com"]["role"] = "maintainer"
    assert row(team.reconcile(), "ada", "tool").action is Action.NONE
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert call_cli(repo, "status", "--output", "json").grant("ada", "tool")["values"] == {"ROLE": "maintainer"}
    last = team.history("ada")[-1]
    assert (last.event, last.detail, last.data["values"]) == (
        EventType.CONFIRMED,
        "found as git wants it",
        {"ROLE": "maintainer"},
    )
    repo.hire("ada")
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").values == {"ROLE": "maintainer"}


def test_history_says_when_drift_is_over(team, accounts, repo):
    settings(repo, drift="report")
    repo.commit()
    team.reconcile()
    for role in ("maintainer", "member"):
        accounts.people["ada@example.com"]["role"] = role
        for _ in range(2):
            team.reconcile()
    assert team.events("ada")[-2:] == [EventType.DIFFERED, EventType.CONFIRMED]
    past, _ = replayed(team.history())
    assert past[Key("ada", "tool")].status is Status.PRESENT


def test_role_drift_is_only_reported_with_drift_report(team, accounts, roles, repo):
    settings(repo, drift="report")
    repo.commit()
    team.reconcile()
    accounts.people["ada@example.com"]["role"] = "owner"
    found = row(team.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.DIFFERS, Action.NONE)
    assert found.reason == "drift: role: owner, git wants member"
    assert roles.changes == []


def left_off(machine: Machine, accounts: AccountService) -> Row:
    """Ada is as git wants her, until somebody switches her off at the service."""
    machine.reconcile()
    accounts.people["ada@example.com"]["active"] = False
    return row(machine.reconcile(), "ada", "tool")


def test_an_account_switched_off_at_the_service_is_left_off(team, accounts, roles, repo):
    found = left_off(team, accounts)
    assert (found.status, found.action, found.reason) == (Status.DIFFERS, Action.NONE, "drift: switched off there")
    repo.hire("ada", wanting("owner"))  # what a commit changes is sent once it is switched on again
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").action is Action.NONE
    assert roles.changes == []
    accounts.people["ada@example.com"]["active"] = True
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert roles.changes == [{"role": "owner", "active": True}]


def test_an_account_switched_off_at_the_service_is_switched_on_where_drift_says_so(team, accounts, roles, repo):
    settings(repo, drift={"inactive": "heal"})
    repo.commit()
    assert left_off(team, accounts).status is Status.PRESENT
    assert EventType.HEALED in team.events("ada")
    accounts.people["ada@example.com"]["active"] = False
    again = row(team.reconcile(), "ada", "tool")
    assert (again.action, "left to a person" in again.reason) == (Action.NONE, True)


@pytest.mark.parametrize("kind", ["missing", "differs"])
def test_drift_is_reported_by_kind(team, accounts, roles, repo, kind):
    settings(repo, drift={kind: "report"})
    repo.commit()
    team.reconcile()
    accounts.people["ada@example.com"]["role"] = "guest"
    assert (row(team.reconcile(), "ada", "tool").status is Status.PRESENT) == (kind == "missing")
    team.clock.turn(days=2)
    accounts.people.clear()
    assert (row(team.reconcile(), "ada", "tool").status is Status.PRESENT) == (kind == "differs")


def test_accept_of_a_switched_off_account_is_refused_and_of_one_suspended_for_that_is_not(team, accounts, roles, repo):
    team.reconcile()
    settings(repo, suspend=[{"hire": "ada", "reason": "laptop switched off"}])
    repo.commit()
    team.reconcile()
    record = team.record("ada", "tool")
    assert record is not None
    assert (record.status, reason_not_to_accept(record)) == (Status.SUSPENDED, None)
    settings(repo)
    repo.commit()
    left_off(team, accounts)
    record = team.record("ada", "tool")
    assert record is not None
    assert "switch it on there" in str(reason_not_to_accept(record))


def test_without_update_a_difference_waits_for_a_person_who_may_accept_it(repo, accounts, roles):
    settings(repo)
    repo.manifest("tool", {key: value for key, value in with_role(accounts).items() if key != "update"})
    repo.hire("ada", wanting("member"))
    repo.commit()
    machine = Machine(repo)
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"]["role"] = "owner"
    report = machine.reconcile()
    found = row(report, "ada", "tool")
    assert (found.status, found.action) == (Status.DIFFERS, Action.NONE)
    assert "reconcile accept" in found.reason
    assert report.wrong
    machine.enqueue("accept", "ada", "tool")
    for _ in range(2):
        report = machine.reconcile()
        assert row(report, "ada", "tool").status is Status.PRESENT
        assert "accepted as it is" in row(report, "ada", "tool").reason
        assert not report.wrong
    accounts.people["ada@example.com"]["role"] = "guest"
    assert row(machine.reconcile(), "ada", "tool").status is Status.DIFFERS
    assert accounts.calls("POST") == []


GROUPS = [f"group-{number:03}" for number in range(40)]
"""More than is shown of a value."""


def in_groups(repo: Repo, accounts: AccountService, groups: list[str]) -> None:
    manifest = with_role(accounts)
    manifest["exists"]["where"] = {"groups": groups}
    manifest["update"][0]["data"] = {"groups": groups}
    repo.manifest("tool", manifest)
    repo.hire("ada", wanting("member"))
    repo.commit()


@pytest.mark.parametrize("there", [["b", "a"], [*GROUPS, "b", "a"]], ids=["short", "long"])
def test_accepted_list_stays_accepted_in_any_order_and_until_it_has_another_value(repo, accounts, roles, there):
    in_groups(repo, accounts, ["c"])
    machine = Machine(repo)
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"]["groups"] = ["c"]
    machine.reconcile()
    settings(repo, drift="report")
    repo.commit()
    accounts.people["ada@example.com"]["groups"] = there
    assert row(machine.reconcile(), "ada", "tool").status is Status.DIFFERS
    machine.enqueue("accept", "ada", "tool")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    accounts.people["ada@example.com"]["groups"] = there[::-1]
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    accounts.people["ada@example.com"]["groups"] = [*there, "z"]
    assert row(machine.reconcile(), "ada", "tool").status is Status.DIFFERS


def test_commit_that_changes_the_end_of_a_long_value_is_no_drift(repo, accounts, roles):
    settings(repo, drift="report")
    in_groups(repo, accounts, GROUPS)
    machine = Machine(repo)
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"]["groups"] = GROUPS
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    in_groups(repo, accounts, [*GROUPS, "z"])
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert roles.changes == [{"groups": [*GROUPS, "z"]}]


def test_values_without_where_are_sent_by_update_and_not_looked_for(repo, accounts, roles):
    settings(repo)
    manifest = with_role(accounts)
    del manifest["exists"]["where"]
    repo.manifest("tool", manifest)
    repo.hire("ada", wanting("member"))
    repo.commit()
    machine = Machine(repo)
    machine.reconcile()
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    planned = row(machine.plan(), "ada", "tool")
    assert (planned.status, planned.action, planned.changed) == (Status.DIFFERS, Action.UPDATE, True)
    assert planned.as_json()["differs"] == {"ROLE": ["member", "maintainer"]}
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [change["role"] for change in roles.changes] == ["maintainer"]


def test_an_update_that_is_not_seen_is_sent_once_until_values_change_or_it_is_asked_for(team, accounts, roles, repo):
    team.reconcile()
    accounts.route("PATCH", "/users/{email}", lambda _received, email: {"ok": True, "later": email})
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    for _ in range(3):
        report = team.reconcile()
        found = row(report, "ada", "tool")
        assert (found.status, found.action) == (Status.DIFFERS, Action.NONE)
        assert found.reason.startswith("updated; the check does not see it yet")
        assert not report.wrong
    assert len(accounts.calls("PATCH")) == 1
    team.enqueue("retry", "ada", "tool")
    team.reconcile()
    assert len(accounts.calls("PATCH")) == 2
    repo.hire("ada", wanting("owner"))
    repo.commit()
    team.reconcile()
    assert len(accounts.calls("PATCH")) == 3


def test_account_that_was_to_be_switched_on_again_and_is_gone_is_drift(team, accounts, roles, repo):
    """Somebody switched it off and deleted it: with `drift: report` it is left to a person."""
    repo.settings(gnupg_home=repo.gnupg.path, drift="report")
    repo.commit()
    team.reconcile()
    accounts.people["ada@example.com"]["active"] = False
    team.reconcile()
    accounts.route("PATCH", "/users/{email}", lambda _received, email: {"ok": True, "later": email})
    team.enqueue("run", "ada", "tool")
    found = row(team.reconcile(), "ada", "tool")
    assert found.reason.startswith("updated; the check does not see it yet: switched off")
    accounts.people.clear()
    found = row(team.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.MISSING, Action.NONE)
    assert accounts.created == {"ada@example.com": 1}
    assert EventType.REVOKED not in team.events("ada")


def test_the_answer_of_an_update_that_changed_nothing_is_shown(team, accounts, roles, repo):
    accounts.route("PATCH", "/users/{email}", {"ok": False, "why": "the plan has no such role"})
    team.reconcile()
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    for _ in range(2):
        found = row(team.reconcile(), "ada", "tool")
        assert (found.status, found.action) == (Status.DIFFERS, Action.NONE)
        assert found.reason.startswith("updated; the check does not see it yet")
        assert found.reason.endswith('answered 200: {"ok": false, "why": "the plan has no such role"}')
    accounts.people["ada@example.com"]["role"] = "maintainer"
    assert "the plan" not in row(team.reconcile(), "ada", "tool").reason


def test_an_update_that_fails_is_retried_and_then_left(team, accounts, roles, repo):
    team.reconcile()
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    accounts.fail_next(2, 500, method="PATCH")
    first = row(team.reconcile(), "ada", "tool")
    assert (first.status, first.action, first.attempts) == (Status.RETRYING, Action.WAIT, 1)
    assert row(team.reconcile(), "ada", "tool").status is Status.RETRYING
    assert len(accounts.calls("PATCH")) == 1
    team.clock.turn(hours=1)
    assert row(team.reconcile(), "ada", "tool").status is Status.FAILED
    team.clock.turn(hours=1)
    team.reconcile()
    assert len(accounts.calls("PATCH")) == 2
    repo.hire("ada", wanting("owner"))
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.people["ada@example.com"]["role"] == "owner"
    assert accounts.created == {"ada@example.com": 1}


def test_an_update_that_was_refused_yields_to_somebody_who_made_the_change(team, accounts, roles, repo):
    team.reconcile()
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    accounts.fail_next(1, 500, method="PATCH")
    team.reconcile()
    accounts.people["ada@example.com"]["role"] = "maintainer"
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("PATCH")) == 1


def test_an_update_whose_answer_was_lost_waits_and_sends_nothing_where_the_account_is_as_wanted(
    team, accounts, roles, repo
):
    team.reconcile()
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    accounts.drop_after_commit(1, method="PATCH")
    team.reconcile()
    waiting = row(team.reconcile(), "ada", "tool")
    assert (waiting.status, waiting.action) == (Status.RETRYING, Action.WAIT)
    assert waiting.reason.startswith("1 of 1 requests done; ")
    team.clock.turn(hours=1)
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("PATCH")) == 1


@pytest.mark.parametrize("lost", [False, True], ids=["the second request failed", "the first answer was lost"])
def test_an_update_that_is_half_done_outranks_an_account_that_is_as_wanted(team, accounts, roles, repo, lost):
    manifest = telling(accounts)
    repo.manifest("tool", manifest)
    repo.commit()
    team.reconcile()
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    if lost:
        accounts.drop_after_commit(method="PATCH")
    else:
        accounts.fail_next(1, 500, prefix="/told")
    team.reconcile()
    waiting = row(team.reconcile(), "ada", "tool")
    assert (waiting.status, waiting.action) == (Status.RETRYING, Action.WAIT)
    assert waiting.reason.startswith("1 of 2 requests done; ")
    team.clock.turn(hours=1)
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("POST", "/told")) == (1 if lost else 2), "the request that was left is sent"
    assert len(roles.changes) == 1


def test_an_update_that_is_half_done_is_made_again_where_git_goes_back(team, accounts, roles, repo):
    """It is finished, and the account stayed an owner, "updated; the check does not see it yet"."""
    manifest = telling(accounts)
    repo.manifest("tool", manifest)
    repo.commit()
    team.reconcile()
    accounts.fail_next(1, 500, prefix="/told")
    repo.hire("ada", wanting("owner"))
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.RETRYING
    repo.hire("ada", wanting("member"))
    repo.commit()
    found = row(team.reconcile(), "ada", "tool")
    assert (found.status, found.reason) == (Status.DIFFERS, "role: owner, git wants member")
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [change["role"] for change in roles.changes] == ["owner", "member"]


def test_an_update_that_is_half_done_is_made_again_where_somebody_takes_it_back(team, accounts, roles, repo):
    """What was left is sent, and what was taken back stayed so: "updated; the check does not see it yet"."""
    repo.manifest("tool", telling(accounts))
    repo.commit()
    team.reconcile()
    accounts.fail_next(1, 500, prefix="/told")
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.RETRYING
    accounts.people["ada@example.com"]["role"] = "member"
    team.clock.turn(hours=1)
    for _ in range(2):
        team.reconcile()
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [change["role"] for change in roles.changes] == ["maintainer", "maintainer"]


@pytest.mark.parametrize("anew", ["run by hand", "its requests change"])
def test_an_update_that_is_half_done_and_begins_anew_in_vain_is_made_again(team, accounts, roles, repo, anew):
    """The account is as `where` wants it; what is left of the update was never sent."""
    manifest = telling(accounts)
    repo.manifest("tool", manifest)
    repo.commit()
    team.reconcile()
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    accounts.fail_next(1, 500, prefix="/told")
    assert row(team.reconcile(), "ada", "tool").status is Status.RETRYING
    if anew == "run by hand":  # refused: there is an account already
        assert row(team.reconcile(by_hand={("ada", "tool"): "run"}), "ada", "tool").status is Status.RETRYING
    else:
        accounts.fail_next(1, 500, method="PATCH")
        manifest["update"][0]["data"]["note"] = "by git"
        repo.manifest("tool", manifest)
        repo.commit()
        assert row(team.reconcile(), "ada", "tool").status is Status.RETRYING
    team.clock.turn(hours=1)
    assert row(team.plan(), "ada", "tool").action in (Action.UPDATE, Action.RETRY)
    for _ in range(2):
        assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("POST", "/told")) == 2


def test_an_update_continues_after_the_change_of_the_account(team, accounts, roles, repo):
    manifest = with_role(accounts)
    manifest["exists"]["where"] = {"role": "{{ROLE}}", "team": "red"}
    manifest["update"].append(
        {"url": f"{accounts.url}/users/{{{{email}}}}/team", "method": "PUT", "data": {"team": "red"}}
    )
    manifest["execute"][0]["data"]["team"] = "red"
    accounts.route(
        "PUT", "/users/{email}/team", lambda got, email: accounts.people[email].update(got.json()) or {"ok": True}
    )
    repo.manifest("tool", manifest)
    repo.commit()
    team.reconcile()
    accounts.people["ada@example.com"]["team"] = "blue"
    repo.hire("ada", wanting("maintainer"))
    repo.commit()
    accounts.fail_next(1, 500, method="PUT")
    assert row(team.reconcile(), "ada", "tool").status is Status.RETRYING
    team.clock.turn(hours=1)
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert (len(accounts.calls("PATCH")), len(accounts.calls("PUT"))) == (1, 2)


def test_update_may_be_what_executes(repo, accounts):
    settings(repo)
    accounts.route(
        "POST", "/members", lambda got: accounts.people.update({got.json()["email"]: got.json()}) or {"ok": 1}
    )
    manifest = with_role(accounts, update="execute")
    manifest["execute"] = [{"url": f"{accounts.url}/members", "data": {"email": "{{email}}", "role": "{{ROLE}}"}}]
    repo.manifest("tool", manifest)
    repo.hire("ada", wanting("member"))
    repo.commit()
    machine = Machine(repo)
    machine.reconcile()
    repo.hire("ada", wanting("owner"))
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [call.json()["role"] for call in accounts.calls("POST", "/members")] == ["member", "owner"]


ONE_OWNER = "- {name: one, integration: tool, values: {ROLE: owner}, at_most: 1}\n"


@pytest.mark.parametrize("known", [True, False], ids=["commit", "found"])
def test_update_does_not_give_more_than_the_policy_allows(team, accounts, roles, repo, known):
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"].update(role="member", active=True)
    accounts.add("bob@example.com")
    accounts.people["bob@example.com"].update(role="owner", active=True)
    if known:
        team.reconcile()
    repo.write("config/policy.yaml", ONE_OWNER)
    for hire in ("ada", "bob"):
        repo.hire(hire, wanting("owner"))
    repo.commit()
    for _ in range(2):
        report = team.reconcile()
        refused = row(report, "ada", "tool")
        assert (refused.status, refused.action) == (Status.BLOCKED, Action.NONE)
        assert refused.reason == "policy one: tool with ROLE owner is given to 2, at most 1"
        assert row(report, "bob", "tool").status is Status.PRESENT
    assert roles.changes == []
    assert team.events("ada").count(EventType.ADOPTED) == 1
    repo.hire("ada", wanting("member"))
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT


def test_update_that_takes_what_the_policy_counts_is_made(team, accounts, roles, repo):
    repo.write("config/policy.yaml", ONE_OWNER)
    for hire in ("ada", "bob", "cyd"):
        repo.hire(hire, wanting("owner"))
        accounts.add(f"{hire}@example.com")
        accounts.people[f"{hire}@example.com"].update(role="owner", active=True)
    repo.commit()
    team.reconcile()
    repo.hire("ada", wanting("member"))
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert roles.changes == [{"role": "member", "active": True}]


# Switched off


def test_rehired_persons_account_is_switched_on_and_not_made_again(team, accounts, roles, repo):
    settings(repo, prune="revoke")
    repo.commit()
    team.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    manifest = with_role(accounts)
    manifest["revoke"] = [{"url": f"{accounts.url}/users/{{{{email}}}}", "method": "PATCH", "data": {"active": False}}]
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(team.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.people["ada@example.com"]["active"] is False
    repo.hire("ada", wanting("member"))
    repo.commit()
    planned = row(team.plan(), "ada", "tool")
    assert (planned.status, planned.action, planned.reason) == (Status.DIFFERS, Action.UPDATE, "switched off")
    assert row(team.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.people["ada@example.com"]["active"] is True
    assert accounts.created == {"ada@example.com": 1}


def test_a_switched_off_account_is_never_executed_where_nothing_can_switch_it_on(repo, accounts):
    settings(repo)
    repo.manifest("tool", {key: value for key, value in with_role(accounts).items() if key != "update"})
    repo.hire("ada", wanting("member"))
    repo.commit()
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"].update(role="member", active=False)
    found = row(Machine(repo).reconcile(), "ada", "tool")
    assert (found.status, found.action, found.reason) == (
        Status.DIFFERS,
        Action.NONE,
        "switched off: switch it on there",
    )
    assert accounts.calls("POST") == []


def test_account_is_not_switched_on_against_the_policy(team, accounts, roles, repo):
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"].update(role="member", active=False)
    repo.write("config/policy.yaml", "- {name: limited, when: {last_name: Example}, require: until}\n")
    repo.commit()
    refused = row(team.reconcile(), "ada", "tool")
    assert (refused.status, refused.reason) == (Status.BLOCKED, "policy limited: it has no until")
    assert roles.changes == []


def test_an_orphan_that_is_switched_off_is_gone_and_one_with_another_role_is_not(team, accounts, roles, repo):
    settings(repo, prune="revoke")
    repo.hire("bob", wanting("member"))
    repo.commit()
    team.reconcile()
    accounts.people["ada@example.com"]["role"] = "owner"
    accounts.people["bob@example.com"]["active"] = False
    repo.remove("hires/ada.yaml")
    repo.remove("hires/bob.yaml")
    repo.commit()
    report = team.reconcile()
    assert {item.hire: item.status for item in report.rows} == {"ada": Status.REVOKED, "bob": Status.REVOKED}
    assert [call.path for call in accounts.calls("DELETE")] == ["/users/ada@example.com"]


def switched_off(team: Machine, accounts: AccountService) -> None:
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"].update(role="member", active=False)


@pytest.mark.parametrize("ours", [False, True])
def test_a_run_by_hand_switches_on_and_never_executes(team, accounts, roles, ours):
    if ours:
        team.reconcile()
        made = accounts.people["ada@example.com"]
        made["active"] = False
        assert row(team.reconcile(), "ada", "tool").reason == "drift: switched off there"
    else:
        switched_off(team, accounts)
    report = team.reconcile(by_hand={("ada", "tool"): "run"})
    assert row(report, "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("POST")) == ours
    assert len(accounts.calls("PATCH")) == 1


def test_values_that_change_are_sent_again_to_who_is_still_switched_off(repo, accounts, roles):
    settings(repo)
    manifest = with_role(accounts)
    del manifest["exists"]["where"]
    repo.manifest("tool", manifest)
    repo.hire("ada", wanting("member"))
    repo.commit()
    machine = Machine(repo)
    switched_off(machine, accounts)
    accounts.route("PATCH", "/users/{email}", lambda _received, email: {"ok": True, "later": email})
    for _ in range(2):
        assert row(machine.reconcile(), "ada", "tool").reason == (
            "updated; the check does not see it yet: switched off; "
            'answered 200: {"ok": true, "later": "ada@example.com"}'
        )
    assert len(accounts.calls("PATCH")) == 1
    repo.hire("ada", wanting("owner"))
    repo.commit()
    machine.reconcile()
    assert [call.json()["role"] for call in accounts.calls("PATCH")] == ["member", "owner"]


def test_values_of_an_update_that_failed_count_as_sent_once_they_are_accepted(repo, accounts, roles):
    settings(repo)
    manifest = with_role(accounts)
    del manifest["exists"]["where"]
    repo.manifest("tool", manifest)
    repo.hire("ada", wanting("member"))
    repo.commit()
    machine = Machine(repo)
    machine.reconcile()
    repo.hire("ada", wanting("owner"))
    repo.commit()
    accounts.fail_next(1, 500, method="PATCH")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    machine.enqueue("accept", "ada", "tool")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("PATCH")) == 1


def test_need_is_met_by_differing_account_not_inactive_one(repo, accounts, roles):
    settings(repo)
    repo.manifest("tool", {key: value for key, value in with_role(accounts).items() if key != "update"})
    accounts.route("POST", "/hook", {"ok": True})
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hook", "data": {"who": "{{email}}"}}]})
    for name in ("ada", "bob"):
        repo.hire(name, wanting("member"), {"integration": "hook", "needs": ["tool"]})
        accounts.add(f"{name}@example.com")
        accounts.people[f"{name}@example.com"].update(role="owner", active=name == "ada")
    repo.commit()
    report = Machine(repo).reconcile()
    assert row(report, "ada", "hook").status is Status.DONE
    assert row(report, "bob", "hook").status is Status.SCHEDULED
    assert "switched off" in row(report, "bob", "hook").reason


def test_drift_left_to_a_person_is_one_event(team, accounts, roles):
    team.reconcile()
    for _ in range(2):
        accounts.people["ada@example.com"]["role"] = "owner"
        team.reconcile()
    for _ in range(3):
        team.clock.turn(hours=1)
        team.reconcile()
    assert team.events("ada").count(EventType.DIFFERED) == 2


def test_an_update_that_wants_a_generated_value_is_blocked_before_anything_is_sent(repo, accounts, roles):
    settings(repo)
    manifest = with_role(accounts, update="execute")
    manifest["initial_data_form"] = [{"id": "PASSWORD", "name": "generate"}]
    manifest["execute"][0]["data"]["password"] = "{{PASSWORD}}"
    repo.manifest("tool", manifest)
    repo.hire("ada", wanting("member"))
    repo.commit()
    machine = Machine(repo)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    sent = len(accounts.calls("POST"))
    repo.hire("ada", wanting("owner"))
    repo.commit()
    for report in (machine.plan(), machine.reconcile()):
        found = row(report, "ada", "tool")
        assert (found.status, found.action) == (Status.BLOCKED, Action.NONE)
        assert found.reason == "variable {{PASSWORD}} is generated, and has no value in an update"
    assert len(accounts.calls("POST")) == sent


def test_secrets_in_what_differs_are_neither_shown_nor_written_down(repo, accounts, roles):
    settings(repo)
    manifest = with_role(accounts)
    manifest["initial_data_form"] = [{"id": "PIN", "name": "Pin"}, {"id": "TOKEN", "name": "Token"}]
    manifest["headers"] = {"X-Token": "{{TOKEN}}"}
    manifest["exists"]["where"]["pin"] = "{{PIN}}"
    repo.manifest("tool", manifest)
    repo.hire("ada", wanting("member"))
    repo.initial_data("tool", {"PIN": "7!91", "TOKEN": "s3cr3t-canary-token"})
    repo.commit()
    machine = Machine(repo)
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"].update(role="got s3cr3t-canary-token", pin="7!90", active=True)
    accounts.fail_next(1, 500, method="PATCH")
    report = machine.plan()
    assert row(report, "ada", "tool").as_json()["differs"] == {
        "role": ["got ***", "member"],
        "pin": ["***", "***"],
    }
    for _ in range(2):
        machine.reconcile()
    told = f"{report.as_json()} {machine.reconcile().as_json()} {machine.record('ada', 'tool')} {machine.history()}"
    kept = b"".join(path.read_bytes() for path in repo.state.parent.rglob("*") if path.is_file())
    for secret in ("7!91", "7!90", "s3cr3t-canary-token"):
        assert secret not in told
        assert secret.encode() not in kept


# Invitations


def inviting(accounts: AccountService, **more: Any) -> dict[str, Any]:
    manifest = accounts.manifest(revoke=True)
    manifest["exists"]["pending"] = {
        "url": f"{accounts.url}/invitations",
        "match": "email",
        "store_data": {"INVITE": "id"},
    }
    manifest["execute"] = [{"url": f"{accounts.url}/invitations", "data": {"email": "{{email}}"}}]
    manifest["withdraw"] = [{"url": f"{accounts.url}/invitations/{{{{INVITE}}}}", "method": "DELETE"}]
    return {**manifest, "invitation": {"expires": "7d", "resend": 1}, **more}


@pytest.fixture
def invited(repo: Repo, accounts: AccountService, roles: Roles) -> Machine:
    """Ada is to be invited to `tool`."""
    settings(repo)
    repo.manifest("tool", inviting(accounts))
    repo.hire("ada", "tool")
    repo.commit()
    return Machine(repo)


def test_person_invited_by_others_is_not_invited_again(invited, accounts, roles):
    roles.invitations["ada@example.com"] = "i9"
    first = row(invited.reconcile(), "ada", "tool")
    assert (first.status, first.action, first.reason) == (Status.UNCONFIRMED, Action.NONE, "invited on 2026-12-01")
    invited.clock.turn(days=1)
    assert row(invited.reconcile(), "ada", "tool").reason == "invited on 2026-12-01"
    assert accounts.calls("POST", "/invitations") == []
    assert invited.events("ada") == [EventType.ADOPTED]


@pytest.mark.parametrize("prune", ["report", "revoke"])
def test_invitation_at_an_old_address_is_an_orphan_of_its_own(invited, accounts, roles, repo, prune):
    settings(repo, prune=prune)
    repo.commit()
    invited.reconcile()
    repo.hire("ada", "tool", email="lovelace@example.com")
    repo.commit()
    assert row(invited.plan(), "ada", "tool").action is Action.EXECUTE
    report = invited.reconcile()
    assert row(report, "ada", "tool").status is Status.UNCONFIRMED
    left = row(report, "ada", "tool~ada@example.com")
    assert left.status is (Status.ORPHANED if prune == "report" else Status.REVOKED)
    assert "an invitation is open" in left.reason or prune == "revoke"
    assert sorted(roles.invitations) == ["ada@example.com", "lovelace@example.com"][prune == "revoke" :]
    report = invited.reconcile()
    assert row(report, "ada", "tool").status is Status.UNCONFIRMED
    assert len(accounts.calls("POST", "/invitations")) == 2


def test_invitation_at_an_address_that_is_back_is_the_grants_own_again(invited, accounts, roles, repo):
    invited.reconcile()
    for email in ("lovelace@example.com", "ada@example.com"):
        repo.hire("ada", "tool", email=email)
        repo.commit()
        assert row(invited.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    report = invited.reconcile()
    assert row(report, "ada", "tool~lovelace@example.com").status is Status.ORPHANED
    assert {item.access for item in report.rows} == {"tool", "tool~lovelace@example.com"}
    assert len(accounts.calls("POST", "/invitations")) == 2
    done = row(invited.reconcile(by_hand={("ada", "tool~lovelace@example.com"): "revoke"}), "ada", "tool")
    assert (done.status, list(roles.invitations)) == (Status.UNCONFIRMED, ["ada@example.com"])


def test_two_open_invitations_of_who_leaves_are_both_withdrawn(invited, roles, repo):
    invited.reconcile()
    repo.hire("ada", "tool", email="lovelace@example.com")
    repo.commit()
    invited.reconcile()
    assert sorted(roles.invitations) == ["ada@example.com", "lovelace@example.com"]
    settings(repo, prune="revoke")
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert {each.status for each in invited.reconcile().rows} == {Status.REVOKED}
    assert not roles.invitations


def test_invitation_that_is_gone_at_the_old_address_leaves_nothing(invited, accounts, roles, repo):
    invited.reconcile()
    roles.invitations.clear()
    repo.hire("ada", "tool", email="lovelace@example.com")
    repo.commit()
    assert [(item.access, item.status) for item in invited.reconcile().rows] == [("tool", Status.UNCONFIRMED)]


def test_day_of_an_invitation_is_that_of_the_time_zone(invited, repo):
    settings(repo, timezone="Pacific/Pago_Pago")
    repo.commit()
    for _ in range(2):
        assert row(invited.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert row(invited.reconcile(), "ada", "tool").reason == "invited on 2026-11-30"


def test_an_invitation_that_is_not_accepted_is_withdrawn_and_sent_again_once(invited, accounts, roles):
    assert row(invited.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    invited.clock.turn(days=6)
    assert row(invited.reconcile(), "ada", "tool").reason == "invited on 2026-12-01"
    invited.clock.turn(days=1)
    planned = row(invited.plan(), "ada", "tool")
    assert (planned.status, planned.action) == (Status.UNCONFIRMED, Action.EXECUTE)
    assert [(request["method"], request["url"]) for request in planned.as_json()["requests"]] == [
        ("DELETE", f"{accounts.url}/invitations/i1"),
        ("POST", f"{accounts.url}/invitations"),
    ], "what is known of the invitation is shown as it would be sent"
    assert row(invited.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert [call.method for call in accounts.calls() if "/invitations" in call.path and call.method != "GET"] == [
        "POST",
        "DELETE",
        "POST",
    ]
    assert EventType.WITHDRAWN in invited.events("ada")
    invited.clock.turn(days=7)
    report = invited.reconcile()
    failed = row(report, "ada", "tool")
    assert (failed.status, failed.reason) == (Status.FAILED, "invited 2 times, not accepted")
    assert report.wrong
    assert roles.invitations == {"ada@example.com": "i2"}
    accounts.add("ada@example.com")
    assert row(invited.reconcile(), "ada", "tool").status is Status.PRESENT


def due_again_without_team(invited, accounts, repo, manifest):
    """Let the invitation be due again, with a manifest whose request to join the team fails once, for the next pass."""
    accounts.route("POST", "/team", {"ok": True})
    repo.manifest("tool", manifest)
    repo.commit()
    invited.reconcile()
    invited.clock.turn(days=7)
    accounts.fail_next(1, 500, method="POST", prefix="/team")


def test_responses_of_withdraw_are_not_those_of_execute(invited, accounts, roles, repo):
    manifest = inviting(accounts)
    manifest["withdraw"].append({"url": f"{accounts.url}/withdrawn", "data": {"first": "{{responses.0.id}}"}})
    manifest["execute"].append({"url": f"{accounts.url}/team", "data": {"invitation": "{{responses.0.id}}"}})
    was = {"id": "was i1"}
    accounts.route("DELETE", "/invitations/i1", lambda _received: roles.invitations.clear() or was)
    accounts.route("POST", "/withdrawn", {"ok": True})
    due_again_without_team(invited, accounts, repo, manifest)
    assert row(invited.reconcile(), "ada", "tool").status is Status.RETRYING
    accounts.add("ada@example.com")
    invited.clock.turn(hours=1)
    assert row(invited.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [call.json() for call in accounts.calls("POST", "/withdrawn")] == [{"first": "was i1"}]
    assert [call.json()["invitation"] for call in accounts.calls("POST", "/team")] == ["i1", "i2", "i2"]


def test_an_invitation_is_not_sent_again_against_the_policy(invited, accounts, repo):
    invited.reconcile()
    repo.write("config/policy.yaml", "- {name: limited, when: {last_name: Example}, require: until}\n")
    repo.commit()
    invited.clock.turn(days=7)
    refused = row(invited.reconcile(), "ada", "tool")
    assert refused.status is Status.BLOCKED
    assert "limited" in refused.reason
    assert [call.method for call in accounts.calls() if "/invitations" in call.path and call.method != "GET"] == [
        "POST"
    ]


def test_an_invitation_that_is_gone_already_counts_as_withdrawn(invited, accounts, roles):
    invited.reconcile()
    invited.clock.turn(days=7)
    accounts.fail_next(1, 404, method="DELETE")
    roles_before = dict(roles.invitations)
    accounts.route("POST", "/invitations", {"id": "again"})
    assert row(invited.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert roles.invitations == roles_before
    assert len(accounts.calls("POST", "/invitations")) == 2


def test_an_orphan_that_is_only_invited_is_withdrawn(invited, accounts, roles, repo):
    invited.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    kept = row(invited.reconcile(), "ada", "tool")
    assert (kept.status, kept.action) == (Status.ORPHANED, Action.NONE)
    assert "an invitation is open" in kept.reason
    settings(repo, prune="revoke")
    repo.commit()
    assert row(invited.reconcile(), "ada", "tool").status is Status.REVOKED
    assert roles.invitations == {}
    assert [call.method for call in accounts.calls() if call.method == "DELETE"] == ["DELETE"]
    assert EventType.WITHDRAWN in invited.events("ada")


def test_invitation_whose_answer_was_lost_is_not_sent_again_where_nothing_takes_it_back(invited, accounts, roles, repo):
    manifest = inviting(accounts)
    del manifest["withdraw"], manifest["invitation"]
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.drop_after_commit(1, method="POST")
    assert row(invited.reconcile(), "ada", "tool").status is Status.RETRYING
    invited.clock.turn(hours=1)
    assert row(invited.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert row(invited.reconcile(), "ada", "tool").reason == "invited on 2026-12-01"
    assert len(accounts.calls("POST")) == 1


def test_invitation_whose_answer_was_lost_is_not_forgotten_where_its_withdrawal_fails(invited, accounts, roles, repo):
    settings(repo, prune="revoke")
    accounts.drop_after_commit(1, method="POST")
    assert row(invited.reconcile(), "ada", "tool").status is Status.RETRYING
    repo.hire("ada")
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    for _ in range(2):
        assert row(invited.reconcile(), "ada", "tool").status is Status.RETRYING
    invited.clock.turn(hours=1)
    assert row(invited.reconcile(), "ada", "tool").status is Status.REVOKED
    assert roles.invitations == {}


def test_an_invitation_that_could_not_be_taken_back_to_be_sent_again_is_not_forgotten(invited, accounts, roles, repo):
    accounts.drop_after_commit(method="POST")
    invited.reconcile()
    accounts.fail_next(1, 500, method="DELETE")
    invited.clock.turn(hours=1)
    assert row(invited.reconcile(), "ada", "tool").status is Status.FAILED
    assert roles.invitations == {"ada@example.com": "i1"}
    settings(repo, prune="revoke")
    repo.remove("hires/ada.yaml")
    repo.commit()
    assert row(invited.reconcile(), "ada", "tool").status is Status.REVOKED
    assert roles.invitations == {}


@pytest.fixture
def unwanted(invited: Machine, accounts: AccountService, repo: Repo) -> Machine:
    """Ada was invited, is no longer wanted, and her invitation could not be withdrawn."""
    invited.reconcile()
    settings(repo, prune="revoke")
    repo.hire("ada")
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    assert row(invited.reconcile(), "ada", "tool").status is Status.RETRYING
    return invited


def test_withdrawal_that_failed_is_retried_though_nothing_can_be_revoked(unwanted, accounts, roles, repo):
    manifest = inviting(accounts)
    del manifest["revoke"]
    repo.manifest("tool", manifest)
    repo.commit()
    unwanted.clock.turn(hours=1)
    assert row(unwanted.reconcile(), "ada", "tool").status is Status.REVOKED
    assert roles.invitations == {}


def test_invitation_that_is_accepted_before_it_is_withdrawn_is_revoked_as_an_account(unwanted, accounts, roles):
    roles.invitations.clear()
    accounts.add("ada@example.com")
    assert row(unwanted.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}
    assert [call.path for call in accounts.calls("DELETE")] == ["/invitations/i1", "/users/ada@example.com"]


def test_invitation_that_is_accepted_before_a_person_withdrew_it_is_revoked_as_an_account(
    invited, accounts, roles, repo
):
    invited.reconcile()
    repo.hire("ada")
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    invited.reconcile(grants=[("ada", "tool")], by_hand={("ada", "tool"): "revoke"})
    roles.invitations.clear()
    accounts.add("ada@example.com")
    invited.clock.turn(hours=1)
    assert row(invited.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}


def test_an_invitation_that_was_accepted_before_its_withdrawal_is_revoked_as_an_account(invited, accounts, roles, repo):
    """Accepted between the check and the request, which is answered by 404."""
    invited.reconcile()
    settings(repo, prune="revoke")
    repo.hire("ada")
    repo.commit()

    def withdraw(_received: Received, **_id: str) -> int:
        roles.invitations.clear()
        accounts.add("ada@example.com")
        return 404

    accounts.route("DELETE", "/invitations/{id}", withdraw)
    failed = row(invited.reconcile(), "ada", "tool")
    assert failed.status is Status.RETRYING
    assert "still finds the account" in failed.reason
    assert EventType.REVOKED not in invited.events("ada")
    invited.clock.turn(hours=1)
    assert row(invited.reconcile(), "ada", "tool").status is Status.REVOKED
    assert accounts.people == {}


def test_a_withdrawal_that_changed_nothing_fails(invited, accounts, roles, repo):
    invited.reconcile()
    settings(repo, prune="revoke")
    repo.hire("ada")
    repo.commit()
    accounts.route("DELETE", "/invitations/{id}", {"error": "not now"})
    failed = row(invited.reconcile(), "ada", "tool")
    assert (failed.status, "the invitation is still open" in failed.reason) == (Status.RETRYING, True)
    assert "not now" in str(failed.last_error)


def test_an_invitation_that_is_open_beside_a_revoked_account_is_withdrawn(invited, accounts, roles, repo):
    accounts.add("ada@example.com")
    roles.invitations["ada@example.com"] = "i1"
    invited.reconcile()
    settings(repo, prune="revoke")
    repo.hire("ada")
    repo.commit()
    left = row(invited.reconcile(), "ada", "tool")
    assert (left.status, "an invitation is open" in left.reason) == (Status.ORPHANED, True)
    assert row(invited.reconcile(), "ada", "tool").status is Status.REVOKED
    assert (accounts.people, roles.invitations) == ({}, {})


def test_open_invitation_is_not_sent_again_when_wanted_again(unwanted, accounts, repo):
    repo.hire("ada", "tool")
    repo.commit()
    found = row(unwanted.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.UNCONFIRMED, Action.NONE)
    assert len(accounts.calls("POST", "/invitations")) == 1


@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_invitation_accepted_before_it_is_sent_again_is_not_sent_again(invited, accounts, roles, method):
    invited.reconcile()
    invited.clock.turn(days=7)
    accounts.drop(1, method=method)
    assert row(invited.reconcile(), "ada", "tool").status is Status.RETRYING
    roles.invitations.clear()
    accounts.add("ada@example.com")
    sent = len(accounts.calls("POST", "/invitations"))
    invited.clock.turn(hours=1)
    assert row(invited.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("POST", "/invitations")) == sent


@pytest.mark.parametrize("more", [0, 1])
def test_accepted_invitation_continues_where_other_requests_withdraw_now(invited, accounts, roles, repo, more):
    manifest = inviting(accounts)
    manifest["execute"].append({"url": f"{accounts.url}/team", "data": {"email": "{{email}}"}})
    due_again_without_team(invited, accounts, repo, manifest)
    invited.reconcile()
    roles.invitations.clear()
    accounts.add("ada@example.com")
    repo.manifest("tool", {**manifest, "withdraw": manifest["withdraw"] * (1 + more)})
    repo.commit()
    invited.clock.turn(hours=1)
    found = row(invited.reconcile(), "ada", "tool")
    assert found.status is (Status.FAILED if more else Status.PRESENT)
    assert len(accounts.calls("POST", "/team")) == (2 if more else 3)


def test_loss_that_another_invitation_mends_counts_as_healed(invited, accounts, roles):
    accounts.add("ada@example.com")
    invited.reconcile()
    accounts.people.clear()
    accounts.drop_after_commit(1, method="POST")
    assert row(invited.reconcile(), "ada", "tool").status is Status.RETRYING
    invited.clock.turn(hours=1)
    invited.reconcile()
    roles.invitations.clear()
    accounts.add("ada@example.com")
    invited.reconcile()
    accounts.people.clear()
    found = row(invited.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.MISSING, Action.NONE)


def test_open_invitations_that_cannot_be_read_are_a_failed_check(invited, accounts):
    accounts.fail_next(1, 500, method="GET", prefix="/invitations")
    found = row(invited.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.UNKNOWN, Action.NONE)
    assert accounts.calls("POST") == []


def test_invited_record_is_not_present(repo, accounts):
    settings(repo)
    manifest = accounts.manifest()
    manifest["exists"]["invited"] = {"state": "pending"}
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"]["state"] = "pending"
    machine = Machine(repo)
    assert row(machine.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    accounts.people["ada@example.com"]["state"] = "active"
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert accounts.calls("POST") == []


@pytest.fixture
def pending(repo: Repo, accounts: AccountService) -> Machine:
    """Ada is invited to `tool`, where an account that is only invited is a record like others."""
    settings(repo)
    manifest = accounts.manifest()
    manifest["exists"]["invited"] = {"state": "pending"}
    manifest["execute"][0]["data"] = {"email": "{{email}}", "state": "pending"}
    manifest["withdraw"] = [{"url": f"{accounts.url}/users/{{{{email}}}}", "method": "DELETE"}]
    manifest["invitation"] = {"expires": "7d", "resend": 1}
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    machine = Machine(repo)
    assert row(machine.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    machine.clock.turn(days=7)
    return machine


def changing(accounts: AccountService) -> list[str]:
    return [call.method for call in accounts.calls() if call.method != "GET"]


def test_invitation_that_the_record_shows_expires_like_one_in_pending(pending, accounts):
    assert row(pending.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert changing(accounts) == ["POST", "DELETE", "POST"]
    pending.clock.turn(days=7)
    failed = row(pending.reconcile(), "ada", "tool")
    assert (failed.status, failed.reason) == (Status.FAILED, "invited 2 times, not accepted")
    accounts.people["ada@example.com"]["state"] = "active"
    assert row(pending.reconcile(), "ada", "tool").status is Status.PRESENT


def test_invitation_that_the_record_shows_is_withdrawn_again_where_that_failed(pending, accounts):
    accounts.fail_next(1, 500, method="DELETE")
    assert row(pending.reconcile(), "ada", "tool").status is Status.RETRYING
    assert row(pending.reconcile(), "ada", "tool").status is Status.RETRYING
    pending.clock.turn(hours=1)
    assert row(pending.reconcile(), "ada", "tool").status is Status.UNCONFIRMED
    assert changing(accounts) == ["POST", "DELETE", "DELETE", "POST"]


def test_invited_orphan_is_withdrawn_with_values_of_pending(repo, accounts, roles):
    settings(repo, prune="revoke")

    def withdraw(_received: Received, **_id: str) -> None:
        roles.invitations.clear()
        accounts.people.clear()

    accounts.route("DELETE", "/invitations/{id}", withdraw)
    manifest = inviting(accounts)
    manifest["exists"]["invited"] = {"state": "pending"}
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    machine = Machine(repo)
    machine.reconcile()
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"]["state"] = "pending"
    repo.hire("ada")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert roles.invitations == {}


def test_invitation_after_a_failed_revocation_is_withdrawn(repo, accounts, roles):
    settings(repo, prune="revoke")
    repo.manifest("tool", inviting(accounts))
    repo.hire("ada", "tool")
    repo.commit()
    accounts.add("ada@example.com")
    machine = Machine(repo)
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    repo.hire("ada")
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    assert row(machine.reconcile(), "ada", "tool").status is Status.RETRYING
    accounts.people.clear()
    roles.invitations["ada@example.com"] = "i1"
    assert row(machine.reconcile(), "ada", "tool").status is Status.REVOKED
    assert roles.invitations == {}


# Webhooks, the guard


def test_a_webhook_with_update_sends_what_changed(repo, accounts):
    settings(repo)
    accounts.route("POST", "/hook", {"ok": True})
    accounts.route("PUT", "/hook", {"ok": True})
    data = {"who": "{{email}}", "role": "{{ROLE}}"}
    form = [{"id": "ROLE", "type": "input"}]
    update = [{"url": f"{accounts.url}/hook", "method": "PUT", "data": data}]
    repo.manifest("tool", {"form": form, "execute": [{"url": f"{accounts.url}/hook", "data": data}], "update": update})
    repo.hire("ada", wanting("member"))
    repo.commit()
    machine = Machine(repo)
    machine.reconcile()
    repo.hire("ada", wanting("owner"))
    repo.commit()
    assert row(machine.plan(), "ada", "tool").action is Action.UPDATE
    for _ in range(2):
        assert row(machine.reconcile(), "ada", "tool").status is Status.DONE
    assert [call.json()["role"] for call in accounts.calls("PUT", "/hook")] == ["owner"]
    assert len(accounts.calls("POST", "/hook")) == 1


def test_half_revoked_webhook_that_is_wanted_again_stays_done(repo, accounts, roles):
    settings(repo, prune="revoke")
    for path in ("/hook", "/left"):
        accounts.route("POST", path, {"ok": True})
    execute = [{"url": f"{accounts.url}/hook", "data": {"who": "{{email}}"}}]
    revoke = [{"url": f"{accounts.url}/left"}, {"url": f"{accounts.url}/users/{{{{email}}}}", "method": "DELETE"}]
    repo.manifest("tool", {"execute": execute, "update": [{**execute[0], "method": "PUT"}], "revoke": revoke})
    repo.hire("ada", "tool")
    repo.commit()
    machine = Machine(repo)
    machine.reconcile()
    repo.hire("ada")
    repo.commit()
    accounts.fail_next(1, 500, method="DELETE")
    assert row(machine.reconcile(by_hand={("ada", "tool"): "revoke"}), "ada", "tool").status is Status.RETRYING
    repo.hire("ada", "tool")
    repo.commit()
    for _ in range(2):
        found = row(machine.reconcile(), "ada", "tool")
        assert (found.status, "though partly revoked" in found.reason) == (Status.DONE, True)
    assert [call.method for call in accounts.calls() if call.path == "/hook"] == ["POST"]


def test_commit_that_updates_more_than_max_new_trips_the_guard(repo, accounts, roles):
    settings(repo, max_new=2)
    repo.manifest("tool", with_role(accounts))
    for number in range(3):
        repo.hire(f"h{number}", wanting("member"))
        accounts.add(f"h{number}@example.com")
        accounts.people[f"h{number}@example.com"]["role"] = "guest"
    repo.commit()
    machine = Machine(repo)
    report = machine.reconcile()
    assert {item.status for item in report.rows} == {Status.SUSPENDED}
    assert "3 accounts would be made or updated, max_new is 2" in report.rows[0].reason
    assert roles.changes == []
    machine.release()
    assert {item.status for item in machine.reconcile().rows} == {Status.PRESENT}
    assert len(roles.changes) == 3


@pytest.fixture
def drifted(repo: Repo, accounts: AccountService, roles: Roles) -> Machine:
    """Twenty members of `tool`, of whom eight were made guests at the service: the guard holds them."""
    settings(repo)
    repo.manifest("tool", with_role(accounts))
    for number in range(20):
        repo.hire(f"h{number:02}", wanting("member"))
    repo.commit()
    machine = Machine(repo)
    machine.reconcile()
    for number in range(8):
        accounts.people[f"h{number:02}@example.com"]["role"] = "guest"
    assert sum(item.guarded for item in machine.reconcile().rows) == 8
    return machine


def test_drift_that_is_held_is_counted_in_a_pass_over_one_person(drifted, roles):
    found = row(drifted.reconcile(hires=["h00"]), "h00", "tool")
    assert (found.status, found.guarded) == (Status.SUSPENDED, True)
    assert "40.00 % is over 25 % (8/20)" in found.reason
    assert roles.changes == []


def test_drift_that_is_held_is_no_new_account(drifted, repo):
    settings(repo, max_new=2, max_change_percent=50)
    repo.commit()
    assert row(drifted.reconcile(hires=["h00"]), "h00", "tool").status is Status.PRESENT


def test_difference_that_is_held_can_be_accepted(drifted, roles):
    for number in range(3):
        drifted.enqueue("accept", f"h{number:02}", "tool")
    report = drifted.reconcile()
    assert "accepted as it is" in row(report, "h00", "tool").reason
    assert row(report, "h07", "tool").status is Status.PRESENT, "five are not too many"
    assert len(roles.changes) == 5


def test_accept_of_a_switched_off_account_that_is_held_is_refused(drifted, accounts, repo):
    settings(repo, drift={"inactive": "heal"})
    repo.commit()
    for number in range(8):
        accounts.people[f"h{number:02}@example.com"].update(role="member", active=False)
    held = row(drifted.reconcile(), "h00", "tool")
    assert (held.status, held.guarded, held.reason.endswith("; it is switched off")) == (Status.SUSPENDED, True, True)
    for number in range(3):
        drifted.enqueue("accept", f"h{number:02}", "tool")
    assert row(drifted.reconcile(), "h00", "tool").status is Status.SUSPENDED
    assert EventType.ACCEPTED not in drifted.events()


def test_difference_that_is_accepted_again_stays_as_it_is(team, accounts, roles):
    team.reconcile()
    accounts.people["ada@example.com"]["role"] = "guest"
    settings(team.repo, drift="report")
    team.repo.commit()
    team.reconcile()
    for _ in range(2):
        team.enqueue("accept", "ada", "tool")
        for drift in ("report", "heal"):
            settings(team.repo, drift=drift)
            team.repo.commit()
            assert "accepted as it is" in row(team.reconcile(), "ada", "tool").reason
    assert roles.changes == []
