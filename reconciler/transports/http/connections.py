"""The connections of a service: direct, or through a proxy.

The only module that imports httpx, for the environment's proxies and TLS trust. Importing it takes as long as a hundred
requests, so it is imported when it is needed, like the module for proxies.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from time import monotonic
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

from reconciler.model.errors import TransportError, UsageError
from reconciler.model.settings import loopback
from reconciler.model.verdict import Cause
from reconciler.transports.address import Address, Origin
from reconciler.transports.answer import Response
from reconciler.transports.http.direct import Direct, NotAllowed, StaleConnection
from reconciler.transports.http.pipe import Pipe
from reconciler.transports.http.unpack import Unreadable
from reconciler.transports.transport import BROKE, Watch
from reconciler.transports.trust import tls_context

if TYPE_CHECKING:
    import httpx

    from reconciler.transports.http.proxied import Proxied

__all__ = ["Connections"]

KEPT_OPEN_SECONDS = 4.0
"""Seconds. Many servers close an idle connection after five: a request sent just then would be lost."""

for _name in ("httpx", "httpcore"):  # they write whole URLs and headers into the log
    logging.getLogger(_name).setLevel(logging.WARNING)


@cache
def _tls() -> ssl.SSLContext:
    """Return the TLS context, made once. SSL_CERT_FILE and _DIR apply."""
    context = tls_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy(scheme: str, host: str) -> httpx.Proxy | None:
    """Return the environment's proxy for a host; none for loopback. Raises UsageError."""
    known = getproxies()
    found = known.get(scheme) or known.get("all")
    if not found or loopback(host) or (host and proxy_bypass(host)):
        return None
    return _way(found if "://" in found else f"http://{found}")


@lru_cache(maxsize=16)
def _way(proxy: str) -> httpx.Proxy:
    import httpx

    try:
        way = httpx.Proxy(proxy)
        if way.url.scheme not in ("http", "https"):
            raise ValueError(way.url.scheme)
    except (ValueError, httpx.InvalidURL):
        raise UsageError(
            "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used: give an http:// address"
        ) from None
    return way


async def _direct(origin: Origin, connecting: float) -> Direct:
    """Open a direct connection. Raises TransportError."""
    scheme, host, port = origin
    try:
        async with asyncio.timeout(connecting):
            pipe = await Pipe.connect(_bare(host), port)
            if scheme == "https":
                await pipe.encrypt(_tls(), _bare(host))
    except TimeoutError:
        raise TransportError("no connection in time", left=False, cause=Cause.BUSY) from None
    except OSError as error:
        raise TransportError(f"no connection: {error}", left=False, cause=_cause(error)) from None
    return Direct(pipe)


def _cause(error: OSError) -> Cause | None:
    """Tell a service that is down from a name that nobody has, or a certificate that is not valid."""
    return Cause.BUSY if isinstance(error, ConnectionError) else None


@dataclass(slots=True)
class _Line:
    """A kept connection, and since when it is idle, in seconds of `time.monotonic`."""

    origin: Origin
    way: Direct | Proxied
    since: float = 0.0


class Connections:
    """The connections of one service: as many as were ever needed at once, which the throttle bounds.

    The one used last is taken first, and those that then lie idle are closed.
    """

    def __init__(self) -> None:
        """Raises UsageError if the environment's proxy cannot be used."""
        self._idle: list[_Line] = []
        for scheme in ("http", "https"):
            _proxy(scheme, "")

    async def exchange(
        self,
        address: Address,
        method: str,
        headers: Iterable[tuple[str, str]],
        content: bytes | None,
        watch: Watch,
        *,
        connecting: float,
    ) -> Response:
        """Send a request and read its answer up to the limit; `connecting` bounds connecting, in seconds.

        `headers` are sent beside Host and Content-Length, which a request without `content` does not have. Raises
        TransportError.
        """
        given = [(name.encode(), value.encode(errors="replace")) for name, value in headers]
        try:
            line = await self._take(address.origin) or await self._made(address.origin, connecting)
            try:
                return await line.way.exchange(
                    method, address.target.encode(), [(b"Host", address.name.encode()), *given], content, watch
                )
            finally:
                await self._give_back(line)
        except StaleConnection as error:
            # Its text comes from the operating system and from TLS; those of the errors below can hold headers.
            raise TransportError(f"no connection: {error}", left=False) from None
        except NotAllowed:
            raise TransportError("the request is none that HTTP allows", left=watch.left) from None
        except OSError as error:  # the words of the operating system, or of TLS
            what = f"{BROKE}: {error}" if str(error) else BROKE
            raise TransportError(what, left=watch.left, cause=_cause(error)) from None
        except Unreadable as error:
            raise TransportError(f"the answer is {error}", left=watch.left) from None

    async def _made(self, origin: Origin, connecting: float) -> _Line:
        proxy = _proxy(origin[0], origin[1])
        if proxy is None:
            return _Line(origin, await _direct(origin, connecting))
        from reconciler.transports.http.proxied import Proxied

        return _Line(origin, Proxied(origin, proxy, _tls(), connecting=connecting, kept=KEPT_OPEN_SECONDS))

    async def _take(self, origin: Origin) -> _Line | None:
        for place in reversed(range(len(self._idle))):
            if self._idle[place].origin == origin:
                line = self._idle.pop(place)
                if monotonic() - line.since <= KEPT_OPEN_SECONDS and not line.way.spoiled:
                    return line
                await line.way.aclose()
                return None
        return None

    async def _give_back(self, line: _Line) -> None:
        line.since = monotonic()
        if line.way.usable:
            self._idle.append(line)
        else:
            await line.way.aclose()
        while (
            self._idle and line.since - self._idle[0].since > KEPT_OPEN_SECONDS
        ):  # others take some while one is closed
            await self._idle.pop(0).way.aclose()

    async def aclose(self) -> None:
        """Close all idle connections."""
        while self._idle:
            await self._idle.pop().way.aclose()


def _bare(host: str) -> str:
    """Return a host as it is resolved: an IPv6 address without its brackets."""
    return host.strip("[]")
