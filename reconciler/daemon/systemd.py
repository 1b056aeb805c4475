"""Notifications to systemd (`Type=notify`): that the daemon is ready, makes progress, and stops.

The protocol is a datagram of `NAME=value` lines to the socket that the service manager put into the environment, as
sd_notify(3) and sd_watchdog_enabled(3) describe it. It is implemented here because the packages for it either wrap the
same few lines without the watchdog, or bind to libsystemd, which would have to be installed with the program.

`notify` runs in the event loop that is watched: if the loop blocks, notifications stop, and systemd restarts the
daemon.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from typing import Self

import structlog

from reconciler.model.value import Frozen

log = structlog.get_logger()


class Systemd(Frozen):
    """The service manager, if there is one.

    `address` is its socket; `watchdog` is the number of seconds within which it expects a notification, or None.
    """

    address: str | None
    watchdog: float | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC, and WATCHDOG_PID, which may name another process."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls(None, None)
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        wanted = mine and microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0
        # An abstract socket's name begins with a null byte, which no variable can hold.
        path = "\0" + address[1:] if address.startswith("@") else address
        return cls(path, int(microseconds) / 1e6 if wanted else None)

    def send(self, *lines: str) -> None:
        """Send the lines. Neither blocks nor raises: a failure is logged."""
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto("\n".join(lines).encode(), self.address)
        except OSError as error:
            log.warning("systemd.not_told", lines=lines, problem=str(error))

    async def notify(self, stopping: asyncio.Event, health: Callable[[], tuple[bool, str]]) -> None:
        """Notify that the daemon is ready; then, until cancelled, of its health, and that it stops.

        The watchdog is notified twice in its time, and only while the daemon is healthy.
        """
        self.send("READY=1")
        pinging = asyncio.create_task(self._ping(health))
        try:
            await stopping.wait()
            self.send("STOPPING=1")
            await pinging  # attempts in flight may take longer than the watchdog's patience
        finally:
            pinging.cancel()

    async def _ping(self, health: Callable[[], tuple[bool, str]]) -> None:
        while self.watchdog is not None:
            well, why = health()
            self.send(*["WATCHDOG=1"] * well, f"STATUS={' '.join(why.split())}")
            await asyncio.sleep(self.watchdog / 2)
