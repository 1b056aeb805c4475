"""docs/design/rules.md, "Pull requests": planning somebody's branch must not hand them the tokens."""

from __future__ import annotations

import pytest

from reconciler.model.errors import SettingsError
from reconciler.model.status import Action, Status
from tests.engine.harness import Machine, row
from tests.servers import AccountService

TOKEN = "the-token-0000"


@pytest.fixture
def guarded(repo, accounts) -> Machine:
    """A tool that wants a token; everything is planned from the branch `idea`, while `main` stays in force."""
    accounts.token = TOKEN
    repo.settings(gnupg_home=repo.gnupg.path)
    repo.manifest("tool", accounts.manifest(team=True))
    repo.initial_data("tool", {"TOKEN": TOKEN})
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.write(".gitignore", ".reconciler/\n")
    repo.commit()
    repo.git("checkout", "--quiet", "-b", "idea")
    return Machine(repo)


def propose(repo):
    """Commit on the branch, and go back to main; gives the branch's commit."""
    revision = repo.commit()
    repo.git("checkout", "--quiet", "main")
    return revision


def test_a_hire_on_a_branch_is_planned_with_the_checks_in_force(guarded, accounts, repo):
    accounts.add("bob@example.com")
    repo.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.hire("cleo", {"integration": "tool", "values": {"TEAM": "8"}})
    revision = propose(repo)
    report = guarded.plan(rev="idea")
    assert report.revision == revision
    assert {item.hire: (item.status, item.action) for item in report.rows} == {
        "ada": (Status.MISSING, Action.EXECUTE),
        "bob": (Status.PRESENT, Action.NONE),
        "cleo": (Status.MISSING, Action.EXECUTE),
    }
    assert {call.method for call in accounts.calls()} == {"GET"}
    assert [item.hire for item in guarded.plan().rows] == ["ada"], "main is as it was"


def changed(accounts: AccountService, thief: AccountService) -> dict[str, dict[str, object]]:
    """Manifests by which a branch might try to get at the token."""
    manifest = accounts.manifest(team=True)
    elsewhere = accounts.manifest(team=True)
    elsewhere["exists"]["url"] = f"{thief.url}/users/{{{{email}}}}"
    shown = accounts.manifest(team=True)
    shown["exists"]["url"] += "?token={{TOKEN}}"
    choice = accounts.manifest(team=True)
    choice["form"] = [{"id": "TEAM", "type": "choice", "url": f"{thief.url}/teams", "method": "GET"}]
    listing = accounts.manifest(team=True)
    listing["exists"]["list"] = {"url": f"{thief.url}/users", "match": "email"}
    secretless = manifest | {"initial_data_form": [], "headers": {}}
    secretless["exists"] = {"url": f"{thief.url}/users/{{{{email}}}}", "expected": "{{email}}"}
    return {
        "another host": elsewhere,
        "the token shown": shown,
        "options from elsewhere": choice,
        "a listing from elsewhere": listing,
        "no secret at all": secretless,
        "another service's name": manifest | {"service": "other"},
        "another word": manifest | {"description": "harmless"},
    }


WAYS = [
    "another host",
    "the token shown",
    "options from elsewhere",
    "a listing from elsewhere",
    "no secret at all",
    "another service's name",
    "another word",
]


@pytest.mark.parametrize("way", WAYS)
def test_a_manifest_that_is_changed_on_the_branch_sends_nothing(guarded, accounts, others, repo, way):
    repo.manifest("tool", changed(accounts, others)[way])
    for number in range(12):
        repo.hire(f"h{number:02}", {"integration": "tool", "values": {"TEAM": {"name": "x"} if "opt" in way else "7"}})
    propose(repo)
    report = guarded.plan(rev="idea")
    for item in report.rows:
        assert (item.status, item.action) == (Status.BLOCKED, Action.NONE)
        assert "manifests/tool.yaml is changed on this branch" in item.reason
        assert (f"new host {others.host}" in item.reason) is (way in WAYS[:1] + WAYS[2:5])
    assert accounts.calls() == []
    assert others.calls() == []


def test_a_manifest_that_is_new_on_the_branch_sends_nothing(guarded, accounts, others, repo):
    repo.manifest("other", others.manifest() | {"service": "tool"})
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, "other")
    propose(repo)
    report = guarded.plan(rev="idea")
    blocked = row(report, "ada", "other")
    assert blocked.status is Status.BLOCKED
    assert f"new host {others.host}" in blocked.reason
    assert others.calls() == []
    assert row(report, "ada", "tool").status is Status.MISSING, "what the branch leaves alone is planned"


def test_the_first_manifest_of_all_sends_nothing_either(repo, others):
    repo.settings(gnupg_home=repo.gnupg.path)
    repo.commit()
    repo.git("checkout", "--quiet", "-b", "idea")
    repo.manifest("other", others.manifest())
    repo.hire("ada", "other")
    propose(repo)
    assert row(Machine(repo).plan(rev="idea"), "ada", "other").status is Status.BLOCKED
    assert others.calls() == []


def test_settings_are_those_in_force(guarded, accounts, others, repo):
    repo.settings(gnupg_home=repo.gnupg.path, allowed_hosts=[others.host], suspend=[{"hire": "ada"}])
    propose(repo)
    assert row(guarded.plan(rev="idea"), "ada", "tool").status is Status.MISSING


def test_broken_settings_on_a_branch_refuse_its_plan_and_no_other(guarded, accounts, repo):
    repo.write("config/reconciler.yaml", "drift: [")
    propose(repo)
    with pytest.raises(SettingsError):
        guarded.plan(rev="idea")
    assert accounts.calls() == []
    assert row(guarded.plan(), "ada", "tool").status is Status.MISSING


def test_initial_data_is_that_in_force(guarded, accounts, repo):
    repo.initial_data("tool", {"TOKEN": "another-token-0"})
    propose(repo)
    guarded.plan(rev="idea")
    assert {call.headers["Authorization"] for call in accounts.calls()} == {f"Bearer {TOKEN}"}


def test_a_manifest_that_the_branch_removes_leaves_its_entries_invalid(guarded, accounts, repo):
    repo.remove("manifests/tool.yaml")
    repo.write("manifests/.gitkeep", "")
    propose(repo)
    assert row(guarded.plan(rev="idea"), "ada", "tool").status is Status.INVALID
    assert accounts.calls() == []


def test_branch_plan_writes_nothing(guarded, accounts, repo):
    guarded.reconcile()
    before = repo.state.read_bytes()
    repo.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
    propose(repo)
    guarded.plan(rev="idea")
    assert repo.state.read_bytes() == before
