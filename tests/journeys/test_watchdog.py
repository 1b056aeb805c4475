"""A daemon that stands still is found out: /healthz says so, and systemd no longer hears that it gets on."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.model.failpoints import Failpoint
from tests.faults.wedged import play
from tests.forked import nursery
from tests.repo import Daemon, Repo, run_cli
from tests.servers import AccountService, ask, eventually

WATCHDOG_SECONDS = 0.4
"""Seconds in which systemd wants to hear something: WatchdogSec."""

INTERVAL = "1s"


class Manager:
    """The service manager's end of the socket: what the daemon told it."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self._told: list[str] = []
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(round(WATCHDOG_SECONDS * 1e6))}

    def told(self) -> list[str]:
        """The messages so far."""
        with suppress(BlockingIOError):
            while True:
                self._told.append(self._socket.recv(4096).decode())
        return list(self._told)

    def pings(self) -> int:
        return sum("WATCHDOG=1" in text.split("\n") for text in self.told())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    repo.settings(interval=INTERVAL)
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    return repo


def test_systemd_hears_when_it_is_ready_that_it_gets_on_and_that_it_stops(
    tool: Repo, accounts: AccountService, manager: Manager
) -> None:
    tool.settings(interval="1d")
    tool.commit()
    with Daemon(tool, env=manager.environment) as daemon:
        began, before = time.monotonic(), manager.pings()
        eventually(lambda: manager.pings() >= before + 5)
        assert time.monotonic() - began > WATCHDOG_SECONDS, "twice in its time is often enough"
        assert daemon.terminate() == 0
    first, *between, last = manager.told()
    assert (first, last) == ("READY=1", "STOPPING=1")
    assert set(between) == {"WATCHDOG=1\nSTATUS=ok"}


@pytest.mark.parametrize("point", [Failpoint.PLAN, Failpoint.TAKEN_UP], ids=["in a pass", "between passes"])
def test_a_loop_that_stands_still(
    tool: Repo, accounts: AccountService, manager: Manager, tmp_path: Path, point: Failpoint
) -> None:
    once, log = tmp_path / "wedge", tmp_path / "log"
    child = nursery().call(tool, play, log, at=point.name, once=str(once), environment=manager.environment)
    try:
        eventually(lambda: accounts.created["ada@example.com"] and manager.pings() >= 4)
        eventually(lambda: health(tool) == (200, "ok"))
        once.touch()
        if point is Failpoint.TAKEN_UP:
            assert run_cli(tool, "accept", "ada", "tool").code == 0
        eventually(lambda: health(tool)[0] == 503)
        assert health(tool) == (503, "work is due and nothing gets done")
        silent = manager.pings()
        time.sleep(WATCHDOG_SECONDS)
        assert manager.pings() == silent, "systemd must not take it for well"
    finally:
        child.kill()
        assert child.wait() == -signal.SIGKILL, log.read_text()
    assert "STOPPING=1" not in manager.told()


def health(repo: Repo) -> tuple[int, str]:
    status, _, body = ask(f"http://{repo.listen}", "GET", "/healthz")
    return status, json.loads(body)["detail"]
