"""Which names the pages answer to: a site that points its own name at this machine must not read them.

That is DNS rebinding: to the browser, both are one site.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.model.settings import loopback

__all__ = ["KnownHosts", "host_of"]


_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][@:/?#\\\s]+)(:[0-9]*)?")
"""A Host as it has to be: a name or an address, and a port."""


def host_of(authority: str) -> str:
    """The name or address in `host:port`, in lower case and without an IPv6 address's brackets; empty for nonsense."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


class KnownHosts:
    """Refuse with 421 each request whose Host is not of `names()`, nor loopback, nor the address it came to."""

    def __init__(self, application: ASGIApp, names: Callable[[], frozenset[str]]) -> None:
        self._application = application
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        said = Request(scope).headers.get("host", "")
        asked = host_of(said) if _AUTHORITY.fullmatch(said) else ""
        reached = (scope.get("server") or ("",))[0]
        if asked and (loopback(asked) or asked == reached or asked in self._names()):
            await self._application(scope, receive, send)
        else:
            text = "this host is not served here: use listen's or public_url's\n"
            await PlainTextResponse(text, status_code=421)(scope, receive, send)
