"""A failure is written down, retried once at its time, and then left to a person, whatever happens to the process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService, eventually


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    """One hire and one integration of two requests, committed."""
    repo.manifest("tool", accounts.manifest(team=True))
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    return repo


def status(repo: Repo) -> dict[str, object]:
    return call_cli(repo, "status", "--output", "json").grant("ada", "tool")


def moment(text: object) -> datetime:
    return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def test_the_retry_is_an_hour_on_and_survives_a_kill_and_a_restart(tool: Repo, accounts: AccountService) -> None:
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    before = datetime.now(UTC)
    with Daemon(tool) as daemon:
        eventually(lambda: "failed=1" in daemon.log)
        after = datetime.now(UTC)
        shown = status(tool)
        daemon.kill9()
    assert (shown["status"], shown["action"], shown["attempts"]) == ("retrying", "wait", 1)
    assert "500" in str(shown["last_error"])
    due = moment(shown["retry_at"])
    assert before.replace(microsecond=0) <= due - timedelta(hours=1) <= after

    calls = len(accounts.calls("POST"))
    assert status(tool) == shown, "what a kill left behind is what was written"
    with Daemon(tool) as daemon:
        eventually(lambda: "why=start" in daemon.log)
        again = status(tool)
    assert (again["status"], again["retry_at"], again["attempts"]) == ("retrying", shown["retry_at"], 1)
    assert len(accounts.calls("POST")) == calls, "nothing is sent before its time"


def test_the_daemon_retries_by_itself_and_checks_first(tool: Repo, accounts: AccountService) -> None:
    tool.settings(retry_delay="1s", interval="10m")
    tool.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/teams")
    with Daemon(tool):
        eventually(lambda: len(accounts.calls("POST", "/teams")) == 2)
        eventually(lambda: tool.has("ada", "tool", "present"))
    first = next(i for i, call in enumerate(accounts.requests) if call.path.startswith("/teams"))
    assert [call.method for call in accounts.requests[first:]] == ["POST", "GET", "POST", "GET"]
    assert accounts.requests[first + 2].at - accounts.requests[first].at >= 1
    assert accounts.created == {"ada@example.com": 1}
    assert accounts.teams == {"7": ["ada@example.com"]}


def test_by_hand_beside_a_running_daemon(tool: Repo, accounts: AccountService) -> None:
    """`retry`, `run` and `accept` leave a command; the daemon acts on it at once."""
    tool.settings(retry_delay="1s", interval="10m")
    tool.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
    tool.commit()
    accounts.fail_next(4, 503, method="POST", prefix="/users")
    with Daemon(tool):
        eventually(lambda: len(accounts.calls("POST")) == 4)
        eventually(lambda: tool.has("ada", "tool", "failed") and tool.has("bob", "tool", "failed"))
        assert call_cli(tool, "status").code == 1

        asked = call_cli(tool, "retry", "ada")
        assert asked.code == 0, asked.err
        assert "ada/tool" in asked.out
        assert "bob" not in asked.out
        eventually(lambda: accounts.teams.get("7") == ["ada@example.com"])
        eventually(lambda: tool.has("ada", "tool", "present"))
        assert tool.has("bob", "tool", "failed")

        again = call_cli(tool, "run", "ada", "tool")
        assert again.code == 0, again.err
        eventually(lambda: [c.json()["email"] for c in accounts.calls("POST")].count("ada@example.com") > 3 + 1)

        accounts.add("bob@example.com")  # somebody made it by hand
        accepted = call_cli(tool, "accept", "bob", "tool")
        assert (accepted.code, accepted.out) == (0, "handed over: accept bob/tool\n")
        assert "is held by `reconcile daemon` (process " in accepted.err
        assert ", which was asked to accept bob/tool: `reconcile status` shows when it is done" in accepted.err
        eventually(lambda: tool.has("bob", "tool", "present"))
    assert accounts.created["bob@example.com"] == 0


def test_retry_without_a_daemon(tool: Repo, accounts: AccountService) -> None:
    assert call_cli(tool, "retry", "ada").code == 1, "the ledger does not know her yet"
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    assert call_cli(tool).code == 1
    assert call_cli(tool, "retry", "--integration", "tool").code == 0
    done = call_cli(tool, "--output", "json")
    assert (done.code, done.grant("ada", "tool")["status"], done.grant("ada", "tool")["attempts"]) == (0, "present", 1)
    assert call_cli(tool, "retry", "ada", "tool").code == 0, "nothing to start afresh"

    accounts.people.clear()
    assert call_cli(tool, "run", "ada", "tool").code == 0
    told = call_cli(tool, "history", "--integration", "tool", "--event", "run_requested", "--output", "json").json
    assert [(line["hire"], line["revision"]) for line in told] == [("ada", tool.git("rev-parse", "HEAD"))]
