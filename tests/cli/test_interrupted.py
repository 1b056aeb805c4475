"""Ctrl-C: one line, exit code 130, whatever the command waits for."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.repo import PROGRAM, Repo
from tests.servers import AccountService, eventually


@pytest.mark.parametrize("arguments", ["--dry-run", "unmanaged", "import hr", "review start 2026-Q4"])
def test_ctrl_c_is_one_line(repo: Repo, accounts: AccountService, arguments: str) -> None:
    repo.manifest("saas", accounts.manifest(listing=True))
    repo.hire("ada", "saas")
    asked = {"execute": [{"url": f"{accounts.url}/people", "method": "GET"}], "data_structure": {"email": "mail"}}
    repo.write("config/imports/hr.yaml", asked)
    repo.commit()
    accounts.hang(None)
    running = subprocess.Popen(
        [PROGRAM, *arguments.split()],
        cwd=repo.root,
        env=repo.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: accounts.requests, 30)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, "", "interrupted\n")
    assert repo.git("status", "--porcelain") == ""
