"""Sends one request over a transport, and remembers whether it left."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from reconciler.model.errors import TransportError
from reconciler.transports.address import locate
from reconciler.transports.messages import LIMIT, RenderedRequest, Response
from reconciler.transports.transport import Transport


@dataclass
class Progress:
    most: int = LIMIT
    left: bool = False
    leaving: asyncio.Event = field(default_factory=asyncio.Event)

    def leaves(self) -> None:
        self.left = True
        self.leaving.set()

    def has_left(self) -> None:
        assert self.left


async def exchange(
    transport: Transport,
    method: str,
    url: str,
    headers: dict[str, str] | None = None,
    content: bytes | None = None,
    *,
    progress: Progress | None = None,
    most: int = LIMIT,
) -> Response:
    """Send a request once, as the client does."""
    address = locate(url)
    assert address is not None, url
    request = RenderedRequest(
        method=method, url=url, shown_url=url, headers=tuple((headers or {}).items()), content=content, most=most
    )
    return await transport.send(request, address, progress or Progress(most))


async def refused(transport: Transport, method: str, url: str, **more: object) -> TransportError:
    """The same, where no answer comes."""
    try:
        answer = await exchange(transport, method, url, **more)  # type: ignore[arg-type]
    except TransportError as error:
        return error
    raise AssertionError(answer)
