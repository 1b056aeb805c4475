"""Bound what a peer of `listen` can use: one of a few connections, for one request, and for a bounded time.

Where there is a connection too many, the one that has waited longest for its request is closed. So connections that are
opened and left exhaust neither file descriptors nor memory, and one that asks at once is answered. Health has places of
its own: whatever else is asked for can take all the others.
"""

from __future__ import annotations

import asyncio
import logging

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["HEALTH", "MAX_CONNECTIONS", "Bounded", "bounded"]

MAX_CONNECTIONS = 64
"""The most connections at a time."""

MAX_OF_AN_ADDRESS = 32
"""The most of them from one address."""

MAX_REQUESTS = 48
"""The most requests at a time for anything but health."""

HEALTH = frozenset({"/healthz", "/readyz"})

TIMEOUT_SECONDS = 5.0
"""How long a request may take to arrive, and its answer to be read once it is ready."""

BACKLOG = 16
"""The most connections that the system queues, and that one iteration of the loop accepts."""


class Bounded(H11Protocol):
    """A connection that carries one request."""

    made: float
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, and make room for it."""
        super().connection_made(transport)
        self.made = self.loop.time()
        self._deadline = self.loop.call_later(TIMEOUT_SECONDS, self._expire)
        everybody = [each for each in self.connections if isinstance(each, Bounded)]
        mine = [each for each in everybody if self.client and each.client and each.client[0] == self.client[0]]
        if len(mine) > MAX_OF_AN_ADDRESS:
            _drop_one(mine)
        elif len(everybody) > MAX_CONNECTIONS:
            _drop_one(everybody)

    @property
    def waits(self) -> bool:
        """Whether its request has not come as a whole."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.more_body

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


def _drop_one(connections: list[Bounded]) -> None:
    """Close the one that has waited longest for its request; the newest where none waits, which is one that does."""
    found = min((each for each in connections if each.waits), key=lambda each: each.made)
    found.connections.discard(found)
    found.transport.abort()


class _Shared:
    """Answers requests for anything but health only as long as they leave places for it."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["path"] in HEALTH:
            await self._application(scope, receive, send)
            return
        if self._requests >= MAX_REQUESTS:
            text = "too many requests at a time: try again in a moment\n"
            await PlainTextResponse(text, status_code=503, headers={"Retry-After": "1"})(scope, receive, send)
            return
        self._requests += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._requests -= 1


def bounded(application: ASGIApp) -> uvicorn.Config:
    """Configure a server of an application within these bounds."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns about each malformed request
    return uvicorn.Config(
        _Shared(application),
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
