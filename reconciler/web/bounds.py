"""What a peer of `listen` may take: one of a few connections, for one request, and for a bounded time.

A connection over the number is closed at once, so that connections which are opened and left use up neither the
program's file descriptors nor its memory, and there is always room for a health check a few seconds later.
"""

from __future__ import annotations

import asyncio
import logging

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["AT_ONCE", "Bounded", "bounded"]

AT_ONCE = 64
"""Connections at one time."""

TIMEOUT_SECONDS = 5.0
"""Seconds in which a request has to be whole, and its answer taken once it is ready."""

BACKLOG = 16
"""Connections that the system keeps until they are accepted, and that are accepted in one turn of the loop."""


class Bounded(H11Protocol):
    """A connection that carries one request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept it where there is room."""
        super().connection_made(transport)
        if len(self.connections) > AT_ONCE:
            transport.abort()
        else:
            self._deadline = self.loop.call_later(TIMEOUT_SECONDS, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _expire(self) -> None:
        """Close, unless the application still works on the answer, which has limits of its own."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_started and not cycle.disconnected:
            self._deadline = self.loop.call_later(TIMEOUT_SECONDS, self._expire)
        else:
            self.transport.abort()


def bounded(application: object) -> uvicorn.Config:
    """How an application is served within these bounds."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns at every request that is none
    return uvicorn.Config(
        application,  # type: ignore[arg-type]
        http=Bounded,
        ws="none",
        backlog=BACKLOG,
        headers=[("Connection", "close")],
        server_header=False,
        # It would take a header's word for where a connection comes from, which decides who is trusted.
        proxy_headers=False,
        log_config=None,
        access_log=False,
        lifespan="off",
    )
