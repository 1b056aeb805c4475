"""What every answer has, and what of a request is looked at before anything else: its Host, and how long it is.

Browsers load only our own files, run no inline script, and send no referrer elsewhere. Requests for unknown host names
are refused, against DNS rebinding: a site that points its own name at this machine would be the same site as the pages
to a browser, and could read them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.model.settings import loopback

__all__ = ["KnownHosts", "SafeHeaders", "body_of", "host_of"]

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with that, browsers send a form without its origin, and it could not be distinguished from
    # another site's. Other sites get no referrer from this value either.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


async def body_of(request: Request, most: int) -> bytes:
    """Read a request's body; of one that is longer than `most`, one byte more than that.

    Not even one that says so is refused unread: its sender is still at it, and would find the connection closed
    before the answer.
    """
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > most:
            break
    return bytes(found[: most + 1])


class SafeHeaders:
    """Adds the headers to every answer; those that a route set itself stay."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._application(scope, receive, safe)


_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][@:/?#\\\s]+)(:[0-9]*)?")
"""A valid Host header: a name or an address, and an optional port."""


def host_of(authority: str) -> str:
    """Return the host of `host:port` in lower case, an IPv6 address without brackets; empty if it is malformed."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


class KnownHosts:
    """Refuses with 421 each request whose Host is not in `names()`, nor loopback, nor the address it came to."""

    def __init__(self, application: ASGIApp, names: Callable[[], frozenset[str]]) -> None:
        self._application = application
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        header = Request(scope).headers.get("host", "")
        host = host_of(header) if _AUTHORITY.fullmatch(header) else ""
        reached = (scope.get("server") or ("",))[0]
        if host and (loopback(host) or host == reached or host in self._names()):
            await self._application(scope, receive, send)
        else:
            text = "this host is not served here: use listen's or public_url's\n"
            await PlainTextResponse(text, status_code=421)(scope, receive, send)
