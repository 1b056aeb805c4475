"""docs/design/rules.md, "Exists": absences that count, and open invitations, asked once for everybody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reconciler.engine.apply.claims import Claims
from reconciler.model.selection import Selection
from reconciler.model.status import Action, Status
from reconciler.model.verdict import Invited, Unknown
from tests.engine.harness import Machine, row
from tests.repo import Repo
from tests.servers import AccountService, Received

OK = {"expected": '"ok":true'}


@pytest.fixture
def asking(repo: Repo, accounts: AccountService) -> Machine:
    """Three hires of whom nobody is there; an absence counts only while `/ready` says so."""
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    manifest = accounts.manifest()
    manifest["exists"]["ready"] = {"url": f"{accounts.url}/ready", **OK}
    repo.manifest("tool", manifest)
    for name in ("ada", "bob", "eve"):
        repo.hire(name, "tool")
    repo.commit()
    return Machine(repo)


@pytest.mark.parametrize("dry", [True, False])
def test_ready_is_asked_once_a_pass_and_absences_count(asking, accounts, dry):
    accounts.route("GET", "/ready", {"ok": True})
    report = asking.plan() if dry else asking.reconcile()
    assert {item.status for item in report.rows} == {Status.MISSING if dry else Status.PRESENT}
    assert len(accounts.calls("GET", "/ready")) == 1


@pytest.mark.parametrize("dry", [True, False])
def test_a_service_that_is_not_ready_has_no_absent_people(asking, accounts, dry):
    accounts.route("GET", "/ready", {"ok": False, "error": "indexing"})
    accounts.add("ada@example.com")
    report = asking.plan() if dry else asking.reconcile()
    assert row(report, "ada", "tool").status is Status.PRESENT
    assert row(report, "bob", "tool").status is Status.UNKNOWN
    assert row(report, "bob", "tool").action is Action.NONE
    assert "ready: answered 200 without what is expected" in row(report, "bob", "tool").reason
    assert accounts.calls("POST") == []
    assert len(accounts.calls("GET", "/ready")) == 1


def test_readiness_is_not_checked_where_all_accounts_are_present(asking, accounts):
    accounts.add("ada@example.com", "bob@example.com", "eve@example.com")
    asking.plan()
    assert accounts.calls("GET", "/ready") == []


def test_an_answer_that_absent_does_not_describe_executes_nothing(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["exists"] |= {"absent": {"error": "users_not_found"}}
    repo.manifest("tool", manifest)
    repo.commit()
    accounts.fail_next(1, 200, method="GET", body={"error": "ratelimited"})
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.UNKNOWN
    assert "not as absent says" in row(report, "ada", "tool").reason
    assert "ratelimited" in row(report, "ada", "tool").reason
    assert accounts.calls("POST") == []
    accounts.fail_next(1, 200, method="GET", body={"error": "users_not_found", "user": "ada@example.com"})
    assert row(machine.plan(), "ada", "tool").status is Status.MISSING


def test_a_check_may_be_a_post_with_a_body(machine, accounts, repo):
    accounts.route("POST", "/search", {"users": [{"login": "ada@example.com"}], "query": "x"})
    manifest = accounts.manifest(team=True)
    manifest["exists"] = {
        "url": f"{accounts.url}/search",
        "method": "POST",
        "data": {"query": "{{email}}"},
        "expected": "{{email}}",
        "record": "users",
        "match": "login",
    }
    repo.manifest("tool", manifest)
    repo.commit()
    assert row(machine.plan(), "ada", "tool").status is Status.PRESENT
    assert [call.json() for call in accounts.calls("POST", "/search")] == [{"query": "ada@example.com"}]


# Listings


def test_a_listing_that_uses_the_form_is_read_once_for_each_value(repo, accounts):
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    manifest = accounts.manifest()
    manifest["form"] = [{"id": "GROUP", "type": "input"}]
    manifest["exists"]["list"] = {"url": f"{accounts.url}/groups/{{{{GROUP}}}}", "match": "email"}
    repo.manifest("tool", manifest)
    people = [f"h{number:02}" for number in range(12)]
    for number, name in enumerate(people):
        repo.hire(name, {"integration": "tool", "values": {"GROUP": str(number % 2)}})
    for group in (0, 1):
        members = [{"email": f"{name}@example.com"} for name in people[group::2]]
        accounts.route("GET", f"/groups/{group}", members)
    repo.commit()
    report = Machine(repo).plan()
    assert {item.status for item in report.rows} == {Status.PRESENT}
    assert sorted(accounts.lines()) == ["GET /groups/0", "GET /groups/1"]


# A token without a person


def test_a_token_is_fetched_without_a_person_and_never_by_a_dry_run(repo, accounts):
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)

    def fetch(_received: Received) -> Any:
        accounts.token = "t0ken-fetched"
        return {"access_token": accounts.token, "expires_in": 3600}

    accounts.route("POST", "/token", fetch)
    manifest = accounts.manifest()
    manifest["headers"] = {"Authorization": "Bearer {{oauth.access_token}}"}
    manifest["oauth"] = {"grant": "client_credentials", "access_token": {"url": f"{accounts.url}/token"}}
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    machine = Machine(repo)
    planned = row(machine.plan(), "ada", "tool")
    assert planned.status is Status.UNKNOWN
    assert "a dry run fetches none" in planned.reason
    assert accounts.lines() == []
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert len(accounts.calls("POST", "/token")) == 1
    assert row(machine.plan(), "ada", "tool").status is Status.PRESENT


# What a manifest leaves out


def test_a_manifest_with_nothing_to_execute_only_watches(repo, accounts):
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    manifest = accounts.manifest()
    manifest["execute"] = []
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    machine = Machine(repo)
    for report in (machine.plan(), machine.reconcile()):
        found = row(report, "ada", "tool")
        assert (found.status, found.action) == (Status.MISSING, Action.NONE)
        assert "the manifest has nothing to execute" in found.reason
    accounts.add("ada@example.com")
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT


@pytest.mark.parametrize("to", ["", "ada@example.com", "{{email}}", "{{first_name}}@example.com"])
def test_a_text_without_a_number_goes_to_the_phone_of_the_hire(machine, accounts, repo, to):
    manifest = accounts.manifest(team=True)
    manifest["post_execute_notification"] = [{"type": "text", "to": to, "message": "Welcome"}]
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, phone="+31600000000")
    repo.commit()
    assert row(machine.reconcile(), "ada", "tool").status is Status.PRESENT
    assert [sent[0] for sent in machine.outbox.sent] == ["+31600000000"]


def test_a_404_names_both_ways_out(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["exists"]["fail_when_4xx_response_code"] = True
    repo.manifest("tool", manifest)
    repo.commit()
    reason = row(machine.plan(), "ada", "tool").reason
    assert "answered 404" in reason
    assert "fail_when_4xx_response_code: false" in reason
    assert "status_code" in reason


# Open invitations


def test_open_invitations_are_read_once_and_found_without_case(repo, accounts):
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    manifest = accounts.manifest()
    manifest["exists"]["pending"] = {"url": f"{accounts.url}/invites", "match": "email", "store_data": {"INVITE": "id"}}
    invites = [{"email": "ADA@example.com", "id": 7}, {"email": "strauss@example.com", "id": 8}]
    accounts.route("GET", "/invites", invites)
    repo.manifest("tool", manifest)
    for name in ("ada", "bob"):
        repo.hire(name, "tool")
    repo.hire("strauss", "tool", email="strauß@example.com")
    repo.commit()
    found = asyncio.run(_invitations(Machine(repo), ["ada", "bob", "ada", "strauss"]))
    assert found == [Invited({"INVITE": 7}), None, Invited({"INVITE": 7}), None]
    assert len(accounts.calls("GET", "/invites")) == 1
    accounts.fail_next(1, 500, method="GET", prefix="/invites")
    (unread,) = asyncio.run(_invitations(Machine(repo), ["ada"]))
    assert isinstance(unread, Unknown)
    assert "open invitations: " in unread.reason
    assert "answered 500" in unread.reason


async def _invitations(machine: Machine, hires: list[str]) -> list[Invited | Unknown | None]:
    everybody = Selection()
    async with machine.planning(everybody) as planning:
        result = await planning.part(everybody, await planning.rows(everybody), Claims().begin())
        prepared = {item.grant.key.hire: item.prepared for item in result.grants}
        found = []
        for hire in hires:
            ready = prepared[hire]
            assert ready is not None
            found.append(await planning.checker.invitation(planning.integrations["tool"], ready))
        return found


def test_the_id_of_a_choice_keeps_its_type_in_data(machine, accounts, repo):
    manifest = accounts.manifest(team=True)
    manifest["form"] = [{"id": "TEAM", "type": "choice", "items": [{"id": 7, "name": "Seven"}]}]
    manifest["execute"][0]["data"]["team"] = "{{TEAM}}"
    repo.manifest("tool", manifest)
    for value in ("7", {"name": "Seven"}):
        repo.hire("ada", {"integration": "tool", "values": {"TEAM": value}})
        repo.commit()
        (created, *_) = row(machine.plan(), "ada", "tool").requests
        assert created["body"]["team"] == 7
