"""What the log says of a pass: whose attempt, at what; the last failure is an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.cli.output import logs
from tests.cli.conftest import Call
from tests.repo import Repo, Result
from tests.servers import AccountService


def lines(done: Result, event: str) -> list[dict[str, Any]]:
    """The log's lines of one event; each line is JSON."""
    return [line for text in done.err.splitlines() if (line := json.loads(text))["event"] == event]


def test_every_attempt_names_hire_access_and_integration(repo: Repo, accounts: AccountService, call: Call) -> None:
    repo.manifest("saas", accounts.manifest())
    repo.hire("ada", {"integration": "saas", "name": "saas-main"})
    repo.hire("bob", "saas")
    repo.settings(retry_delay="0s")
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/users")
    first = call(repo, "--log-format", "json")
    (made,), (failed,) = lines(first, "attempt.succeeded"), lines(first, "attempt.failed")
    names = {"ada": "saas-main", "bob": "saas"}
    for line in (made, failed):
        assert (line["access"], line["integration"], line["kind"]) == (names[line["hire"]], "saas", "execute")
    assert {made["hire"], failed["hire"]} == {"ada", "bob"}
    assert (made["level"], failed["level"]) == ("info", "warning")

    accounts.fail_next(1, 500, method="POST", prefix="/users")
    second = call(repo, "--log-format", "json")
    (last,) = lines(second, "attempt.failed")
    assert (last["hire"], last["level"], last["attempt"]) == (failed["hire"], "error", 2)


def test_guard_is_logged_when_it_trips_and_when_it_is_released(
    repo: Repo, accounts: AccountService, call: Call
) -> None:
    repo.manifest("saas", accounts.manifest())
    for number in range(6):
        repo.hire(f"hire{number}", "saas")
    repo.settings(max_new=5)
    repo.commit()
    (tripped,) = lines(call(repo, "--log-format", "json"), "guard.tripped")
    assert (tripped["level"], tripped["integration"]) == ("warning", "saas")
    assert "6 accounts would be made or updated, max_new is 5" in tripped["reason"]
    assert lines(call(repo, "--log-format", "json"), "guard.tripped") == []
    (released,) = lines(call(repo, "--log-format", "json", "--yes-really"), "guard.released")
    assert (released["level"], released["integration"]) == ("info", "saas")


def test_progress_reports_done_and_total(repo: Repo, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.manifest("saas", {"execute": [{"url": "https://saas.example.com/"}]})
    for name in ("ada", "bob"):
        repo.hire(name, {"integration": "saas", "at": "2999-01-01"})
    repo.commit()
    assert call(repo, "--dry-run").err == ""
    monkeypatch.setattr(logs, "QUIET_SECONDS", 0)
    assert call(repo, "--dry-run").err == "looked at 1 of 2 hires, 0 s\nlooked at 2 of 2 hires, 0 s\n"
