"""Ctrl-C: one line, exit code 130, whatever the command waits for; and what is said of an attempt after a kill."""

from __future__ import annotations

import signal

import pytest

from tests.cli.conftest import Call
from tests.repo import Repo, Result, running_cli
from tests.servers import AccountService, eventually


@pytest.mark.parametrize("arguments", ["--dry-run", "unmanaged", "import hr", "review start 2026-Q4"])
def test_ctrl_c_is_one_line(repo: Repo, accounts: AccountService, arguments: str) -> None:
    repo.manifest("saas", accounts.manifest(listing=True))
    repo.hire("ada", "saas")
    asked = {"execute": [{"url": f"{accounts.url}/people", "method": "GET"}], "data_structure": {"email": "mail"}}
    repo.write("config/imports/hr.yaml", asked)
    repo.commit()
    accounts.hang(None)
    with running_cli(repo, *arguments.split()) as running:
        eventually(lambda: accounts.requests)
        running.process.send_signal(signal.SIGINT)
        assert running.ends() == Result(130, "", "interrupted\n")
    assert repo.git("status", "--porcelain") == ""


def test_a_pass_that_leaves_something_to_do_is_not_done(repo: Repo, accounts: AccountService) -> None:
    repo.settings(limits={"per_host": 1})
    repo.manifest("saas", accounts.manifest())
    for hire in ("ada", "bob"):
        repo.hire(hire, "saas")
    repo.commit()
    answer = accounts.hang(method="POST")
    with running_cli(repo, "--output", "json") as running:
        eventually(lambda: accounts.calls("POST"))
        running.process.send_signal(signal.SIGINT)
        answer.set()
        ended = running.ends()
    assert (ended.code, ended.err.splitlines()[-1]) == (130, "interrupted")
    assert ended.json["summary"] == {"present": 1, "missing": 1}


def test_what_a_kill_cut_off_is_shown_as_the_next_pass_takes_it(
    repo: Repo, accounts: AccountService, call: Call
) -> None:
    repo.manifest("saas", accounts.manifest())
    repo.hire("ada", "saas")
    repo.commit()
    answer = accounts.hang(method="POST")
    with running_cli(repo):
        eventually(lambda: accounts.calls("POST"))
        assert "attempt 1 (execute)" in (alive := call(repo, "explain", "ada", "saas").out)
        assert ": running\n" in alive
    answer.set()
    [planned] = call(repo, "--dry-run", "--output", "json").json["grants"]
    [known] = call(repo, "status", "--output", "json").json["grants"]
    explained = call(repo, "explain", "ada", "saas", "--output", "json").json
    told = ("status", "action", "attempts", "retry_at", "last_error")
    assert [planned[name] for name in told[:3]] == ["retrying", "wait", 1]
    for each in (known, explained):
        assert [each[name] for name in told] == [planned[name] for name in told]
    assert explained["last_attempts"][0]["error"] == planned["last_error"]
    assert explained["next"][0].startswith(f"runs again at {planned['retry_at']}")
