"""HTTP as a transport: what every request has, its signature, and a connection for it."""

from __future__ import annotations

from reconciler.model.clock import Clock
from reconciler.transports.address import Address
from reconciler.transports.answer import Response
from reconciler.transports.http.connections import Connections
from reconciler.transports.request import RenderedRequest
from reconciler.transports.transport import Watch

__all__ = ["Http"]

CONNECTING = 0.8
"""The share of a request's time after which a connection has to stand."""

DEFAULTS = {
    "user-agent": ("User-Agent", "access-reconciler"),
    "accept": ("Accept", "*/*"),
    "accept-encoding": ("Accept-Encoding", "gzip"),
}
"""Headers that are sent unless a request has its own."""

BODIES = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose request says that it has no body, where it has none."""


class Http:
    """Sends requests over HTTP. `seconds` is the time that one may take."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """Raises UsageError if the environment's proxy cannot be used."""
        self._clock = clock
        self._connecting = CONNECTING * seconds
        self._connections = Connections()

    async def send(self, request: RenderedRequest, address: Address, watch: Watch) -> Response:
        """Send a request; see `Transport`."""
        return await self._connections.exchange(
            address,
            request.method,
            self._headers(request, address),
            request.content or (b"" if request.method in BODIES else None),
            watch,
            connecting=self._connecting,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connections.aclose()

    def _headers(self, request: RenderedRequest, address: Address) -> list[tuple[str, str]]:
        headers = dict(DEFAULTS)
        given = [*request.headers]
        if request.signer is not None:
            given += request.signer.headers(request.method, address.path, self._clock.now())
        for name, _ in given:
            headers.pop(name.lower(), None)
        return [*headers.values(), *given]
