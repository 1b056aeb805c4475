"""docs/design/rules.md, "Exists": absences that count, and open invitations, asked once for everybody."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.status import Action, Status
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


def test_nobody_is_asked_whether_it_is_ready_where_all_are_there(asking, accounts):
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
