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
        eventually(lambda: accounts.requests, 30)
        running.process.send_signal(signal.SIGINT)
        assert running.ends(30) == Result(130, "", "interrupted\n")
    assert repo.git("status", "--porcelain") == ""
