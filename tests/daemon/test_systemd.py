"""Whom systemd means by what it puts into the environment, and what it hears of a daemon that is not well."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from reconciler.daemon.systemd import Systemd

ME = str(os.getpid())


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        pytest.param({}, Systemd(None, None), id="no systemd"),
        pytest.param({"NOTIFY_SOCKET": "/run/n"}, Systemd("/run/n", None), id="no watchdog"),
        pytest.param({"NOTIFY_SOCKET": "@n"}, Systemd("\0n", None), id="an abstract socket"),
        pytest.param({"NOTIFY_SOCKET": "vsock:2:9"}, Systemd(None, None), id="a socket of another kind"),
        pytest.param({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000"}, Systemd("/n", 3.0), id="a watchdog"),
        pytest.param({"WATCHDOG_USEC": "3000000"}, Systemd(None, None), id="nowhere to tell"),
        pytest.param(
            {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": ME}, Systemd("/n", 3.0), id="for me"
        ),
        pytest.param(
            {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, Systemd("/n", None), id="not me"
        ),
        *(
            pytest.param({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": text}, Systemd("/n", None), id=f"{text!r}")
            for text in ("", "0", "-1", "1.5", "soon", "²")
        ),
    ],
)
def test_of(environment: dict[str, str], wanted: Systemd) -> None:
    assert Systemd.of(environment) == wanted


def test_without_a_service_manager_nothing_is_sent(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        Systemd(None, None).send("READY=1")
        Systemd(str(tmp_path / "gone"), None).send("READY=1")
    assert [line["event"] for line in lines] == ["systemd.not_told"]


@pytest.mark.parametrize("abstract", [False, True], ids=["in the file system", "abstract"])
def test_unwell(tmp_path: Path, abstract: bool) -> None:
    """It hears why, and not that it gets on; once that is over it does again."""
    path = f"{tmp_path}/n"
    address, named = (f"\0{path}", f"@{path}") if abstract else (path, path)
    systemd = Systemd.of({"NOTIFY_SOCKET": named, "WATCHDOG_USEC": "1000"})
    states = iter([(True, "ok"), (False, "the ledger: disk full:\nmake room"), (True, "ok")])

    async def walk() -> None:
        stopping, over = asyncio.Event(), asyncio.Event()

        def health() -> tuple[bool, str]:
            found = next(states, None)
            if found is None:
                over.set()
            return found or (True, "ok")

        telling = asyncio.create_task(systemd.notify(stopping, health))
        await asyncio.wait_for(over.wait(), 10)
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        asyncio.run(walk())
        told = [manager.recv(4096).decode() for _ in range(4)]
    assert told == [
        "READY=1",
        "WATCHDOG=1\nSTATUS=ok",
        "STATUS=the ledger: disk full: make room",
        "WATCHDOG=1\nSTATUS=ok",
    ]


def test_no_watchdog(tmp_path: Path) -> None:
    """It hears that the daemon is ready and that it stops, and nothing in between."""
    path = str(tmp_path / "n")

    async def walk() -> None:
        stopping = asyncio.Event()
        telling = asyncio.create_task(Systemd(path, None).notify(stopping, lambda: (True, "ok")))
        await asyncio.sleep(0)
        stopping.set()
        await asyncio.wait_for(telling, 10)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.setblocking(False)
        asyncio.run(walk())
        told = [manager.recv(4096), manager.recv(4096)]
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
    assert told == [b"READY=1", b"STOPPING=1"]
