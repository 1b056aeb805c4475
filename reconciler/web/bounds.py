"""Bound what a peer of `listen` can use: one of a few connections, for one request, and for a bounded time.

A connection too many is closed at once. So connections that are opened and left exhaust neither file descriptors nor
memory, and a health check finds room within seconds.
"""

from __future__ import annotations

import asyncio
import logging

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["MAX_CONNECTIONS", "Bounded", "bounded"]

MAX_CONNECTIONS = 64
"""The most connections at a time."""

TIMEOUT_SECONDS = 5.0
"""How long a request may take to arrive, and its answer to be read once it is ready."""

BACKLOG = 16
"""The most connections that the system queues, and that one iteration of the loop accepts."""


class Bounded(H11Protocol):
    """A connection that carries one request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection if there is room."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._deadline = self.loop.call_later(TIMEOUT_SECONDS, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _expire(self) -> None:
        """Close, unless the application is still making the answer, which has its own limits."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_started and not cycle.disconnected:
            self._deadline = self.loop.call_later(TIMEOUT_SECONDS, self._expire)
        else:
            self.transport.abort()


def bounded(application: object) -> uvicorn.Config:
    """Configure a server of an application within these bounds."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns about each malformed request
    return uvicorn.Config(
        application,  # type: ignore[arg-type]
        http=Bounded,
        ws="none",
        backlog=BACKLOG,
        headers=[("Connection", "close")],
        server_header=False,
        # A header must not decide the peer's address, which decides who is trusted.
        proxy_headers=False,
        log_config=None,
        access_log=False,
        lifespan="off",
    )
