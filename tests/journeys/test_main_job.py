"""The main job: hire files in git become accounts at services, and an auditor can ask who has what.

The program is the real one, at first in a process of its own; the services are real servers on loopback, and what is
asserted is what they received.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from reconciler.demo.asana import Asana
from reconciler.demo.phonebook import Loopback
from reconciler.demo.stage import scim
from tests.repo import Daemon, Repo, call_cli, run_cli
from tests.servers import AccountService, Reply, Service, ask, eventually

SAMPLE = Path(__file__).parents[2]
"""This project is itself the sample repository."""

SEED = """
{
  "form": [{
    "id": "TEAM_ID",
    "url": "https://app.asana.com/api/1.0/organizations/{{ORG}}/teams",
    "name": "Select team to add user to",
    "type": "choice",
    "data_from": "data",
    "choice_value": "gid",
    "choice_name": "name"
  }],
  "exists": {
    "url": "https://app.asana.com/api/1.0/users/{{email}}",
    "method": "GET",
    "expected": "{{email}}"
  },
  "execute": [{
      "url": "https://app.asana.com/api/1.0/workspaces/{{ORG}}/addUser",
      "data": {"data": {"user": "{{email}}"}},
      "method": "POST"
    }, {
      "url": "https://app.asana.com/api/1.0/teams/{{TEAM_ID}}/addUser",
      "data": {"data": {"user": "{{email}}"}},
      "method": "POST"
  }],
  "headers": {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "Authorization": "Bearer {{TOKEN}}"
  },
  "initial_data_form": [
    {"id": "TOKEN", "name": "Please put your token here", "description": "You can find your token here: https://...."},
    {"id": "ORG", "name": "Organization id", "description": "You can find your organization id here: https://..."}
  ]
}
"""
"""The original format's own example, word for word."""


class Workplace(Service):
    """What the original manifest takes Asana for: asked for somebody it has not, it answers, and names nobody."""

    token = "asana-token-0123456789"

    def __init__(self, *emails: str) -> None:
        self.people = set(emails)
        super().__init__()
        self.route("GET", "/api/1.0/users/{email}", self._user)
        self.route("POST", "/api/1.0/organizations/77/teams", {"data": [{"gid": "501", "name": "R"}, {"gid": "502"}]})
        self.route("POST", "/api/1.0/workspaces/77/addUser", self._add)
        self.route("POST", "/api/1.0/teams/{team}/addUser", lambda received, team: {"data": {}})

    def _user(self, received: Any, email: str) -> Any:
        return {"data": {"email": email}} if email in self.people else {"data": None}

    def _add(self, received: Any) -> Any:
        self.people.add(received.json()["data"]["user"])
        return {"data": {}}


@pytest.fixture
def workplace() -> Iterator[Workplace]:
    with Workplace("cy@example.com") as running:
        yield running


def test_the_seeds_manifest_unchanged(repo: Repo, workplace: Workplace) -> None:
    repo.write("manifests/asana.json", SEED.replace("https://app.asana.com", workplace.url))
    repo.initial_data("asana", {"TOKEN": workplace.token, "ORG": "77"})
    repo.hire("ada", {"integration": "asana", "values": {"TEAM_ID": "501"}})
    repo.hire("bob", {"integration": "asana", "values": {"TEAM_ID": 502}}, email="o'bob+x@example.com")
    repo.hire("cy", {"integration": "asana", "values": {"TEAM_ID": "501"}})
    head = repo.commit()

    planned = run_cli(repo, "--dry-run", "--output", "json", "--detailed-exitcode")
    assert planned.code == 2, planned.err
    assert planned.json["summary"] == {"present": 1, "missing": 2}
    assert planned.grant("ada", "asana")["requests"] == [
        {"method": "POST", "url": f"{workplace.url}/api/1.0/{path}", "body": {"data": {"user": "ada@example.com"}}}
        for path in ("workspaces/***/addUser", "teams/501/addUser")
    ]
    assert workplace.calls("POST", "/api/1.0/workspaces") == []

    done = run_cli(repo, "--output", "json")
    assert (done.code, done.json["summary"], done.json["revision"]) == (0, {"present": 3}, head)
    sent = workplace.calls("POST", "/api/1.0/workspaces") + workplace.calls("POST", "/api/1.0/teams")
    for email, team in {"ada@example.com": "501", "o'bob+x@example.com": "502"}.items():
        theirs = [r for r in workplace.requests if r in sent and r.json() == {"data": {"user": email}}]
        assert [r.path for r in theirs] == ["/api/1.0/workspaces/77/addUser", f"/api/1.0/teams/{team}/addUser"]
    assert len(sent) == 4
    for received in workplace.requests:
        assert received.headers["Authorization"] == f"Bearer {workplace.token}"
        assert received.headers["Accept"] == "application/json"
        assert received.headers["Content-Type"] == "application/json"
    assert f"GET /api/1.0/users/{quote('o%27bob%2Bx%40example.com', safe='%')}" in {
        f"{r.method} {r.target}" for r in workplace.requests
    }

    before = len(workplace.calls("POST"))
    assert run_cli(repo).code == 0
    assert len(workplace.calls("POST")) == before, "everybody is there, and nothing is sent"


def test_the_daemon_makes_what_is_committed(repo: Repo) -> None:
    """The sample's manifest against the sample's Asana: hires that start while it runs, a team by its name."""
    asana = Asana("sample-token-123")
    with Loopback(asana) as service:
        sample = json.loads(SEED.replace("https://app.asana.com", service.url))
        sample["exists"]["fail_when_4xx_response_code"] = False  # Asana answers 404 for an address it does not know
        repo.write("manifests/asana.json", sample)
        repo.initial_data("asana", {"TOKEN": "sample-token-123", "ORG": "1200"}, armor=True)
        repo.commit()
        with Daemon(repo) as daemon:
            repo.hire("ada", {"integration": "asana", "values": {"TEAM_ID": {"name": "Design"}}})
            repo.write(
                "config/sequences/ops.yaml",
                {
                    "assign": {"department": ["Ops"]},
                    "access": [{"integration": "asana", "values": {"TEAM_ID": "1203"}}],
                },
            )
            repo.hire("olu", department="Ops")
            repo.commit("Two people start")
            eventually(lambda: asana.members["1202"] and asana.members["1203"])
            assert asana.members == {"1201": set(), "1202": {"ada@example.com"}, "1203": {"olu@example.com"}}
            assert daemon.terminate() == 0
        shown = run_cli(repo, "status", "--output", "json")
        assert (shown.code, shown.json["summary"]) == (0, {"present": 2})


def test_scim_from_the_first_day_to_the_last(repo: Repo) -> None:
    """A real SCIM 2.0 server: created, gone by somebody's hand and healed, revoked once git no longer wants it."""
    token = {"Authorization": "Bearer sample-token-123"}
    with Loopback(scim("sample-token-123")) as service:
        text = (SAMPLE / "manifests" / "scim.yaml").read_text()
        repo.write("manifests/scim.yaml", text.replace("127.0.0.1:8902", f"127.0.0.1:{service.port}"))
        repo.initial_data("scim", {"TOKEN": "sample-token-123"})
        repo.settings(prune="revoke")
        repo.hire("ada", "scim", last_name='O"Hara-Ngũgĩ')
        repo.commit()

        def users() -> list[Any]:
            answer: dict[str, list[Any]] = json.loads(ask(service.url, "GET", "/v2/Users", headers=token)[2])
            return answer.get("Resources", [])

        assert call_cli(repo).code == 0
        [made] = users()
        assert (made["userName"], made["name"]["familyName"]) == ("ada@example.com", 'O"Hara-Ngũgĩ')

        assert ask(service.url, "DELETE", f"/v2/Users/{made['id']}", headers=token)[0] == 204
        drift = call_cli(repo, "--dry-run", "--output", "json").grant("ada", "scim")
        assert (drift["status"], drift["action"]) == ("missing", "execute")
        assert "drift" in drift["reason"]
        assert call_cli(repo).code == 0
        [again] = users()
        assert again["id"] != made["id"]

        repo.remove("hires/ada.yaml")
        repo.commit("Ada leaves")
        planned = call_cli(repo, "--dry-run", "--output", "json", "--detailed-exitcode")
        assert (planned.code, planned.grant("ada", "scim")["status"]) == (2, "orphaned")
        assert planned.grant("ada", "scim")["action"] == "revoke"
        done = call_cli(repo, "--output", "json")
        assert (done.code, done.grant("ada", "scim")["status"], users()) == (0, "revoked", [])


GRANT = {
    "hire",
    "email",
    "access",
    "integration",
    "status",
    "action",
    "reason",
    "attempts",
    "retry_at",
    "checked_at",
    "last_error",
    "source",
    "values",
    "differs",
    "granted_in",
    "author",
    "approved_by",
    "requests",
}
"""docs/commands.md, "JSON": fields may be added, never renamed."""


def test_json_exit_codes_and_selection(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest(team=True))
    repo.manifest("other", {"execute": [{"url": f"{accounts.url}/teams/9/members", "data": {"email": "{{email}}"}}]})
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}}, "other")
    repo.hire("bob", {"integration": "tool", "values": {"TEAM": "8"}})
    head = repo.commit()
    accounts.add("bob@example.com")

    nothing = run_cli(repo, "status", "--output", "json")
    assert (nothing.code, nothing.json["grants"], nothing.json["revision"]) == (0, [], None)
    assert nothing.json["dry_run"] is False
    assert not repo.state.parent.exists(), "status made a state"

    planned = run_cli(repo, "--dry-run", "--output", "json")
    whole = planned.json
    assert (planned.code, whole["revision"], whole["dry_run"]) == (0, head, True)
    assert set(whole) >= {"revision", "dry_run", "summary", "grants", "problems"}
    assert whole["summary"] == {"present": 1, "missing": 2}
    assert all(set(grant) >= GRANT for grant in whole["grants"])
    assert [(g["hire"], g["access"]) for g in whole["grants"]] == [("ada", "tool"), ("ada", "other"), ("bob", "tool")]
    ada = planned.grant("ada", "tool")
    assert [(request["method"], request["url"]) for request in ada["requests"]] == [
        ("POST", f"{accounts.url}/users"),
        ("POST", f"{accounts.url}/teams/7/members"),
    ]
    assert (ada["values"], ada["differs"], ada["granted_in"]) == ({"TEAM": "7"}, {}, head)
    assert (ada["status"], ada["action"], ada["attempts"], ada["retry_at"]) == ("missing", "execute", 0, None)
    assert ada["reason"] == "exists check: not found"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", ada["checked_at"])
    line = (repo.root / "hires/ada.yaml").read_text().splitlines().index("- integration: tool") + 1
    assert ada["source"] == f"hires/ada.yaml:{line}"
    assert planned.grant("bob", "tool")["requests"] == []

    # 2: something is to be done; 0: nothing is, or nobody asked.
    assert run_cli(repo, "--dry-run", "--hire", "bob", "--detailed-exitcode").code == 0
    assert run_cli(repo, "--dry-run", "--integration", "other", "--detailed-exitcode").code == 2

    # Only what is selected is asked for and done.
    before = len(accounts.calls())
    one = run_cli(repo, "--integration", "other", "--hire", "ada", "--output", "json")
    assert (one.code, [(g["access"], g["status"]) for g in one.json["grants"]]) == (0, [("other", "done")])
    assert [f"{r.method} {r.path}" for r in accounts.calls()[before:]] == ["POST /teams/9/members"]

    # 1: an attempt failed in this pass; then it is `retrying`, and waiting is no error.
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    failed = run_cli(repo, "--output", "json")
    assert (failed.code, failed.grant("ada", "tool")["status"]) == (1, "retrying")
    assert run_cli(repo, "--output", "json", "--detailed-exitcode").code == 0

    # 64: wrong usage.
    for wrong in (["--hire", "nobody"], ["--rev", "HEAD"], ["--no-such-option"]):
        result = run_cli(repo, *wrong)
        assert (result.code, result.out) == (64, ""), wrong
        assert result.err


def test_a_failed_check_executes_nothing(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    accounts.fail_next(None, 500, method="GET")
    result = call_cli(repo, "--output", "json")
    grant = result.grant("ada", "tool")
    assert (result.code, grant["status"], grant["action"]) == (1, "unknown", "none")
    assert "500" in grant["reason"]
    assert accounts.calls("POST") == []


def test_404_is_a_failed_check_unless_the_manifest_allows_it(repo: Repo, accounts: AccountService) -> None:
    manifest = accounts.manifest()
    del manifest["exists"]["fail_when_4xx_response_code"]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    assert call_cli(repo, "--output", "json").grant("ada", "tool")["status"] == "unknown"
    assert accounts.calls("POST") == []


def test_uncommitted_edits_are_reported_and_not_acted_on(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    repo.hire("ada", "tool", email="other@example.com")
    repo.hire("eve", "tool")
    result = call_cli(repo)
    assert result.code == 0
    assert "hires/ada.yaml" in result.err
    assert "hires/eve.yaml" in result.err
    assert accounts.created == {"ada@example.com": 1}

    seen = call_cli(repo, "--dry-run", "--worktree", "--output", "json")
    assert seen.json["revision"] == "worktree"
    assert seen.grant("eve", "tool")["action"] == "execute"
    assert accounts.created == {"ada@example.com": 1}


def test_a_plain_folder_is_read_as_it_stands(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    subprocess.run(["rm", "-rf", repo.root / ".git"], check=True)
    result = call_cli(repo, "--output", "json")
    assert (result.code, result.json["revision"]) == (0, "worktree")
    assert accounts.created == {"ada@example.com": 1}


def test_a_detached_head_and_a_linked_worktree(repo: Repo, accounts: AccountService, tmp_path: Path) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    first = repo.commit()
    repo.hire("bob", "tool")
    repo.commit()
    repo.git("branch", "old", first)
    repo.git("checkout", "--quiet", "--detach")
    assert call_cli(repo, "--branch", "old", "--output", "json").json["revision"] == first
    assert accounts.created == {"ada@example.com": 1}

    repo.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "main")
    result = call_cli(repo, "--repo", str(tmp_path / "linked"), "--branch", "main", "--output", "json")
    assert (result.code, result.json["summary"]) == (0, {"present": 2})
    assert accounts.created == {"ada@example.com": 1, "bob@example.com": 1}


def test_a_broken_file_touches_only_itself(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.manifest("bad", {"exeucte": []})
    repo.hire("ada", "tool", "bad")
    repo.hire("bob", "tool")
    repo.write("hires/eve.yaml", "email: [not an address\n")
    repo.commit()
    result = call_cli(repo, "--output", "json")
    assert result.code == 1
    assert accounts.created == {"ada@example.com": 1, "bob@example.com": 1}
    assert result.grant("ada", "bad")["status"] == "blocked"
    problems = {problem["file"]: problem for problem in result.json["problems"]}
    assert set(problems) == {"hires/eve.yaml", "manifests/bad.yaml"}
    assert "execute" in problems["manifests/bad.yaml"]["message"]
    assert set(problems["hires/eve.yaml"]) == {"file", "line", "severity", "message"}

    # Bob's file breaks: his grant is kept, and nothing is taken from him.
    repo.settings(prune="revoke")
    repo.write("hires/bob.yaml", "nonsense")
    repo.commit()
    held = call_cli(repo, "--output", "json")
    assert (held.code, held.grant("bob", "tool")["status"]) == (1, "invalid")
    assert "bob@example.com" in accounts.people
    assert accounts.calls("DELETE") == []


def test_a_second_holder_is_refused_with_who_holds_it(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    with Daemon(repo) as daemon:
        for arguments in ([], ["daemon"]):
            refused = call_cli(repo, *arguments)
            assert (refused.code, refused.out) == (1, "")
            assert "`reconcile daemon`" in refused.err
            assert str(daemon.process.pid) in refused.err
        assert call_cli(repo, "--dry-run").code == 0, "what only reads is never refused"
        assert call_cli(repo, "status").code == 0


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        pytest.param({"config/reconciler.yaml": "interval: soon\n"}, "config/reconciler.yaml:1", id="settings"),
        pytest.param({"hires": None}, "hires/", id="no hires folder"),
        pytest.param({"manifests": None}, "manifests/", id="no manifests folder"),
    ],
)
def test_errors_that_refuse_the_pass(repo: Repo, accounts: AccountService, broken: dict[str, Any], said: str) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    for path, content in broken.items():
        if content is None:
            subprocess.run(["rm", "-rf", repo.root / path], check=True)
        else:
            repo.write(path, content)
    repo.commit()
    result = call_cli(repo, "--output", "json")
    assert (result.code, result.out) == (1, "")
    assert said in result.err
    assert accounts.requests == []


def test_a_second_pass_with_nothing_to_do_sends_checks_only(repo: Repo, service: Service) -> None:
    """An integration without `exists` runs once; one whose account appears late is `unconfirmed` and not run again."""
    service.route("GET", "/users/{email}", {"found": None})
    service.route("POST", "/users", Reply(202, {"invited": True}))
    service.route("POST", "/hook", Reply(204))
    late = {"exists": {"url": f"{service.url}/users/{{{{email}}}}", "expected": "{{email}}"}}
    repo.manifest("late", {**late, "execute": [{"url": f"{service.url}/users", "data": {"email": "{{email}}"}}]})
    repo.manifest("hook", {"execute": [{"url": f"{service.url}/hook"}]})
    repo.hire("ada", "late", "hook")
    repo.commit()
    first = call_cli(repo, "--output", "json")
    assert (first.code, first.json["summary"]) == (0, {"unconfirmed": 1, "done": 1})
    assert call_cli(repo).code == 0
    assert len(service.calls("POST")) == 2
