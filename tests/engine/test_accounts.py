"""docs/design/rules.md, "Exists": absences that count, and open invitations, asked once for everybody."""

from __future__ import annotations

import pytest

from reconciler.model.status import Action, Status
from tests.engine.harness import Machine, row
from tests.repo import Repo
from tests.servers import AccountService

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
