"""Ctrl-C: one line, exit code 130, whatever the command waits for."""

from __future__ import annotations

import signal

import pytest

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
