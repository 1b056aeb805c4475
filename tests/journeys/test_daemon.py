"""The daemon as people meet it: at once after a commit, gentle between commits, gone when it is told to."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.daemon.runtime import GRACE_SECONDS
from tests.repo import Daemon, Repo, run_cli
from tests.servers import AccountService, Reply, Service, eventually


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    """An integration and three hires who have it already, committed."""
    repo.settings(interval="1d")
    repo.manifest("tool", accounts.manifest())
    for stem in ("ada", "bob", "cy"):
        repo.hire(stem, "tool")
    repo.commit()
    accounts.add("ada@example.com", "bob@example.com", "cy@example.com")
    return repo


def started(daemon: Daemon, times: int = 1, why: str = "start") -> None:
    """Wait until so many passes are over."""
    eventually(lambda: daemon.log.count(f"why={why}") >= times)


def test_a_commit_is_acted_on_at_once_and_only_what_it_touches_is_asked_for(
    tool: Repo, accounts: AccountService
) -> None:
    with Daemon(tool) as daemon:
        started(daemon)
        accounts.requests.clear()
        tool.hire("dan", "tool")
        tool.commit()
        started(daemon, why="commit")
        assert accounts.created == {"dan@example.com": 1}
        assert {call.path for call in accounts.calls("GET")} == {"/users/dan@example.com"}, daemon.log + str(
            accounts.lines()
        )

        tool.write("README.md", "what a commit changes elsewhere concerns nobody")
        tool.write("config/initial_data/.gitkeep", "")
        tool.remove("hires/dan.yaml")
        before = len(accounts.requests)
        tool.commit()
        started(daemon, 2, why="commit")
        assert run_cli(tool, "status", "--output", "json").grant("dan", "tool")["status"] == "orphaned"
        assert accounts.calls("DELETE") == []
        assert len(accounts.requests) >= before


def test_commits_come_from_a_remote(tool: Repo, accounts: AccountService, tmp_path: Path) -> None:
    tool.settings(interval="1d", git={"fetch": "1s", "branch": "main", "remote": "origin"})
    tool.commit()
    tool.git("clone", "--quiet", "--bare", ".", str(tmp_path / "remote.git"))
    tool.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    elsewhere = Repo.__new__(Repo)
    tool.git("clone", "--quiet", str(tmp_path / "remote.git"), str(tmp_path / "elsewhere"))
    elsewhere.root, elsewhere.gnupg = tmp_path / "elsewhere", None
    for key, value in {"user.name": "Ida", "user.email": "ida@example.com"}.items():
        elsewhere.git("config", key, value)
    with Daemon(tool) as daemon:
        started(daemon)
        elsewhere.hire("dan", "tool")
        head = elsewhere.commit()
        elsewhere.git("push", "--quiet", "origin", "main")
        eventually(lambda: accounts.created["dan@example.com"])
        assert tool.git("rev-parse", "HEAD") == head
        assert (tool.root / "hires/dan.yaml").exists()

        # Somebody commits here what the remote does not have: it is said, and HEAD is acted on as it is.
        tool.hire("eve", "tool")
        tool.commit()
        elsewhere.hire("fay", "tool")
        elsewhere.commit()
        elsewhere.git("push", "--quiet", "origin", "main")
        eventually(lambda: "acting on HEAD as it is" in daemon.log)
        eventually(lambda: accounts.created["eve@example.com"])
        assert not accounts.created["fay@example.com"]


def ends_soon(daemon: Daemon) -> None:
    """What is not cut short has as long as an attempt has to come to its end."""
    began = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - began < GRACE_SECONDS


def test_sigterm_cuts_a_retry_after_short(tool: Repo, accounts: AccountService) -> None:
    accounts.fail_next(None, 429, method="POST", headers={"Retry-After": "60"})
    tool.hire("dan", "tool")
    tool.commit()
    with Daemon(tool) as daemon:
        eventually(lambda: accounts.calls("POST"))
        time.sleep(0.1)  # let the answer arrive and the wait begin
        ends_soon(daemon)
    shown = run_cli(tool, "status", "--output", "json").grant("dan", "tool")
    assert (shown["status"], shown["attempts"]) == ("retrying", 1)
    assert len(accounts.calls("POST")) == 1


def test_sigterm_cuts_polling_short(tool: Repo, accounts: AccountService) -> None:
    accounts.route("POST", "/jobs", {"state": "running"})
    request = {
        "url": f"{accounts.url}/jobs",
        "continue_if": {"response_notation": "state", "value": "done"},
        "polling": {"interval": 60, "amount": 3},
    }
    tool.manifest("job", {"execute": [request]})
    tool.hire("dan", "job")
    tool.commit()
    with Daemon(tool) as daemon:
        eventually(lambda: accounts.calls("POST", "/jobs"))
        time.sleep(0.1)
        ends_soon(daemon)
    shown = run_cli(tool, "status", "--output", "json").grant("dan", "job")
    assert (shown["status"], shown["attempts"]) == ("retrying", 1)


def test_sigterm_lets_an_attempt_finish_and_starts_no_other(tool: Repo, accounts: AccountService) -> None:
    tool.settings(interval="1d", limits={"per_host": 1})
    tool.manifest("tool", accounts.manifest(team=True))
    for stem in ("dan", "eve", "fay"):
        tool.hire(stem, {"integration": "tool", "values": {"TEAM": "7"}})
    for stem in ("ada", "bob", "cy"):
        tool.remove(f"hires/{stem}.yaml")
    tool.commit()
    release = accounts.hang(1, method="POST", prefix="/users")
    with Daemon(tool) as daemon:
        eventually(lambda: accounts.calls("POST"))
        daemon.process.terminate()
        time.sleep(0.3)
        assert daemon.running
        release.set()
        assert daemon.process.wait() == 0
    [email] = {call.json()["email"] for call in accounts.calls("POST", "/teams")}
    assert accounts.created == {email: 1}
    assert {row["status"] for row in statuses(tool, email)} <= {"unconfirmed", "present"}


def statuses(repo: Repo, email: str) -> list[dict[str, Any]]:
    rows = run_cli(repo, "status", "--output", "json").json["grants"]
    return [row for row in rows if row["email"] == email]


def test_sigterm_during_checks_that_hang(tool: Repo, accounts: AccountService) -> None:
    """Nothing is in flight but questions: there is nothing to wait for."""
    accounts.hang(None, method="GET")
    with Daemon(tool) as daemon:
        eventually(lambda: len(accounts.calls("GET")) == 3)
        ends_soon(daemon)


def test_daemon_serves_health_metrics_and_pages(tool: Repo, accounts: AccountService) -> None:
    accounts.people.pop("cy@example.com")
    accounts.fail_next(1, 500, method="POST")
    with Daemon(tool) as daemon:
        started(daemon)
        assert daemon.get("/healthz")[0] == daemon.get("/readyz")[0] == 200
        code, metrics = daemon.get("/metrics")
        assert code == 200
        assert 'reconciler_grants{integration="tool",status="present"} 2.0' in metrics
        assert 'reconciler_grants{integration="tool",status="retrying"} 1.0' in metrics
        assert 'reconciler_attempts_total{outcome="failed"} 1.0' in metrics
        assert "reconciler_resync_overrun_seconds 0.0" in metrics
        assert not re.search(r"(?<![a-z])(ada|bob|cy)(?![a-z])|example\.com|Example", metrics)


def test_a_hung_service_delays_only_its_own_grants(tool: Repo, accounts: AccountService, service: Service) -> None:
    """Its checks hang. Others are provisioned meanwhile, and so is another account of the same person."""
    service.route("GET", "/users/{email}", Reply(404))
    release = service.hang(None)
    exists = {"url": f"{service.url}/users/{{{{email}}}}", "expected": "{{email}}"}
    tool.settings(interval="1d", limits={"timeout": "1h"})
    tool.manifest("hung", {"exists": exists, "execute": [{"url": f"{service.url}/users"}]})
    tool.hire("ada", "hung", "tool")
    tool.commit()
    accounts.people.pop("ada@example.com")
    with Daemon(tool) as daemon:
        eventually(lambda: service.calls("GET"))
        eventually(lambda: accounts.created["ada@example.com"])
        tool.hire("dan", "tool", "hung")
        tool.commit()
        eventually(lambda: accounts.created["dan@example.com"])
        assert daemon.get("/healthz")[0] == 200
        release.set()


def test_dependent_grant_of_another_service_follows_at_once(
    tool: Repo, accounts: AccountService, service: Service
) -> None:
    """After the needed one was made, and after it was made only at its retry."""
    service.route("POST", "/hook", Reply(202))
    tool.settings(interval="1d", retry_delay="1s")
    tool.manifest("hook", {"execute": [{"url": f"{service.url}/hook", "data": {"email": "{{email}}"}}]})
    tool.hire("dan", {"integration": "hook", "needs": ["tool"]}, "tool")
    tool.commit()
    with Daemon(tool):
        eventually(lambda: service.calls("POST"))
        made = next(call for call in accounts.calls("POST") if call.json()["email"] == "dan@example.com")
        assert made.at < service.calls("POST")[0].at

        accounts.fail_next(1, 500, method="POST")
        tool.hire("eve", {"integration": "hook", "needs": ["tool"]}, "tool")
        tool.commit()
        eventually(lambda: tool.has("eve", "tool", "retrying"))
        assert len(service.calls("POST")) == 1
        eventually(lambda: len(service.calls("POST")) == 2)
        assert accounts.created["eve@example.com"] == 1
        eventually(lambda: tool.has("eve", "hook", "done"))


def test_a_pause_that_a_service_asks_for_is_kept(tool: Repo, accounts: AccountService) -> None:
    """Measured at the server: between the 429 and the next request to the host, by whomever, lies the pause."""
    accounts.fail_next(1, 429, method="POST", headers={"Retry-After": "2"})
    for stem in ("dan", "eve", "fay"):
        tool.hire(stem, "tool")
    tool.settings(interval="1d", limits={"per_host": 1})
    tool.commit()
    with Daemon(tool):
        eventually(lambda: len(accounts.created) == 3)
    refused = next(index for index, call in enumerate(accounts.requests) if call.method == "POST")
    assert accounts.requests[refused + 1].at - accounts.requests[refused].at >= 2
    assert set(accounts.created.values()) == {1}
    assert {row["attempts"] for row in statuses(tool, "dan@example.com")} == {1}, "a pause is no failure"


def test_settings_are_taken_over_and_broken_ones_are_not(tool: Repo, accounts: AccountService) -> None:
    tool.settings(interval="1d", drift="report")
    tool.commit()
    with Daemon(tool) as daemon:
        started(daemon)
        accounts.people.pop("ada@example.com")
        tool.settings(interval="1d", drift="heal")
        tool.commit()
        eventually(lambda: accounts.created["ada@example.com"])

        right = (tool.root / "config/reconciler.yaml").read_text()
        tool.write("config/reconciler.yaml", right + "intervall: 1m\n")
        tool.hire("dan", "tool")
        tool.commit()
        eventually(lambda: "did you mean" in daemon.log)
        assert "interval" in daemon.log
        assert daemon.running
        assert daemon.get("/healthz")[0] == 200
        assert not accounts.created["dan@example.com"], "a revision with broken settings is not acted on"

        tool.write("config/reconciler.yaml", right)
        tool.commit()
        eventually(lambda: accounts.created["dan@example.com"])
        eventually(lambda: "daemon.recovered" in daemon.log)


def test_a_folder_that_vanished_is_no_empty_folder(tool: Repo, accounts: AccountService) -> None:
    tool.settings(interval="1s", prune="revoke")
    tool.manifest("tool", accounts.manifest(revoke=True))
    tool.commit()
    with Daemon(tool) as daemon:
        started(daemon)
        for stem in ("ada", "bob", "cy", ".gitkeep"):
            tool.remove(f"hires/{stem}.yaml" if stem[0] != "." else f"hires/{stem}")
        tool.commit()
        eventually(lambda: "daemon.problem" in daemon.log)
        before = len(accounts.requests)
        eventually(lambda: len(accounts.requests) > before)
    assert accounts.calls("DELETE") == []
    assert len(accounts.people) == 3


@pytest.mark.parametrize("git", [True, False], ids=["source: worktree", "no git at all"])
def test_a_folder_is_acted_on_as_it_stands(tool: Repo, accounts: AccountService, git: bool) -> None:
    tool.settings(interval="1d", source="worktree" if git else "commit")
    if git:
        tool.commit()
    else:
        shutil.rmtree(tool.root / ".git")
    with Daemon(tool) as daemon:
        started(daemon)
        tool.hire("dan", "tool")
        eventually(lambda: accounts.created["dan@example.com"])
        tool.write("hires/broken.yaml", "nonsense")
        tool.hire("eve", "tool")
        eventually(lambda: accounts.created["eve@example.com"])
        assert accounts.created == {"dan@example.com": 1, "eve@example.com": 1}


def test_a_port_that_is_taken(tool: Repo) -> None:
    host, _, port = tool.listen.partition(":")
    with socket.create_server((host, int(port))):
        refused = run_cli(tool, "daemon")
    assert (refused.code, refused.out) == (1, "")
    assert f"listen {tool.listen}" in refused.err


def test_the_log_as_json(tool: Repo) -> None:
    with Daemon(tool, "--log-format", "json") as daemon:
        eventually(lambda: '"why": "start"' in daemon.log)
        assert daemon.terminate() == 0
        lines = [json.loads(line) for line in daemon.log.splitlines()]
    events = [line["event"] for line in lines]
    assert events[0] == "daemon.started"
    assert events[-1] == "daemon.stopped"
    [finished] = [line for line in lines if line["event"] == "pass.finished"]
    assert finished["present"] == 3
    assert finished["pass_id"]
