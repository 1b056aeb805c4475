"""What systemd is told of the daemon (`Type=notify`): that it is ready, that it gets on, and that it stops.

The protocol is a datagram of `NAME=value` lines to the socket that the service manager put into the environment, as
sd_notify(3) and sd_watchdog_enabled(3) describe it. It is spelled out here because the packages for it either wrap the
same few lines, without the watchdog's half of it, or bind to libsystemd, which would have to be there wherever the
program is installed.

Whoever calls `keep_told` does so in the loop that is watched: where that stands still, nothing is told any more, and
systemd starts the daemon again.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import structlog

__all__ = ["Systemd"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Systemd:
    """The service manager, where there is one.

    `address` is its socket; `watchdog` the seconds in which it wants to hear that the daemon gets on, None where it
    does not.
    """

    address: str | None
    watchdog: float | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """What the environment says: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which may name somebody else."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls(None, None)
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        wanted = mine and microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0
        # An abstract socket's name begins with a null byte, which no variable can hold.
        path = "\0" + address[1:] if address.startswith("@") else address
        return cls(path, int(microseconds) / 1e6 if wanted else None)

    def tell(self, *lines: str) -> None:
        """Send the lines. Never waits, and never raises: what cannot be told is logged."""
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto("\n".join(lines).encode(), self.address)
        except OSError as error:
            log.warning("systemd.not_told", lines=lines, problem=str(error))

    async def keep_told(self, stopping: asyncio.Event, health: Callable[[], tuple[bool, str]]) -> None:
        """Tell that the daemon is ready; then, for ever, how it is, and that it stops when it is told to.

        That it gets on is told twice in the time of the watchdog, and only while it is well. Ends by being cancelled.
        """
        self.tell("READY=1")
        pinging = asyncio.create_task(self._ping(health))
        try:
            await stopping.wait()
            self.tell("STOPPING=1")
            await pinging  # attempts in flight may take longer than the watchdog's patience
        finally:
            pinging.cancel()

    async def _ping(self, health: Callable[[], tuple[bool, str]]) -> None:
        while self.watchdog is not None:
            well, why = health()
            self.tell(*["WATCHDOG=1"] * well, f"STATUS={' '.join(why.split())}")
            await asyncio.sleep(self.watchdog / 2)
