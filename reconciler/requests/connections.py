"""One exchange over a connection. The only module that imports httpx, and httpcore under it.

httpx knows proxies and whom TLS trusts, and its httpcore speaks HTTP; importing httpx takes as long as a hundred
requests, so it waits until it is needed. Past them goes what costs more than it is worth here: a pool searches itself
at each request, and httpx's models, redirects and cookies nobody wants. The network is asyncio's own: httpcore's way
through anyio takes a third more time a request, and does not tell when a request begins to leave.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache, lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from urllib.request import getproxies, proxy_bypass

import httpcore

from reconciler.model.errors import UsageError
from reconciler.model.settings import loopback
from reconciler.requests.answer import Answer, Unpacker, Unreadable
from reconciler.requests.pipe import CLOSED, Pipe
from reconciler.requests.url import Address, Origin

if TYPE_CHECKING:
    import httpx

__all__ = ["Connections", "NoAnswer", "Watch"]

KEPT_OPEN = 4.0
"""Seconds. Many servers close an idle connection after five: a request sent just then would be lost."""

for _name in ("httpx", "httpcore"):  # they write whole URLs and headers into the log
    logging.getLogger(_name).setLevel(logging.WARNING)


class NoAnswer(Exception):
    """An exchange brought no whole answer: why, and whether the request can have taken effect."""

    def __init__(self, why: str, *, left: bool) -> None:
        super().__init__(why)
        self.left = left


class Watch(Protocol):
    """Told how far a request got."""

    left: bool
    """Whether it began to leave."""

    def leaves(self) -> None:
        """Its next bytes are about to leave."""

    def has_left(self) -> None:
        """Nothing of it is left to send: an answer is waited for."""


class _Nobody:
    left = False

    def leaves(self) -> None:
        pass

    def has_left(self) -> None:
        pass


class _Stream(httpcore.AsyncNetworkStream):
    """A connection's bytes, as httpcore wants them. Only connecting has a time limit: the client bounds the whole."""

    def __init__(self, network: _Network, pipe: Pipe) -> None:
        self._network = network
        self._pipe = pipe

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What came, at least a byte; nothing at the end."""
        self._network.watch.has_left()
        try:
            return await self._pipe.read(max_bytes)
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send; what asks a proxy for a tunnel is none of a request."""
        if not buffer:
            return
        watch = self._network.watch
        if not watch.left and (self._pipe.over or self._pipe.unread):
            # A WriteError would make httpcore read on, and what came unasked would be the answer.
            raise httpcore.ConnectError(CLOSED)
        if not self._pipe.over and not buffer.startswith(b"CONNECT "):
            watch.leaves()
        try:
            await self._pipe.write(buffer)
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Close at once, whatever the other side does."""
        self._pipe.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted from here on."""
        async with _in_time(timeout):
            await self._pipe.encrypt(ssl_context, server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of a connection; it is not used again where it is `is_readable` while it is idle."""
        return self._pipe.spoiled if info == "is_readable" else self._pipe.transport.get_extra_info(info)


class _Network(httpcore.AsyncNetworkBackend):
    """The network as one connection sees it: `watch` follows the request that it carries."""

    def __init__(self) -> None:
        self.watch: Watch = _Nobody()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host."""
        async with _in_time(timeout):
            return _Stream(self, await Pipe.connect(host, port))


@asynccontextmanager
async def _in_time(seconds: float | None) -> AsyncIterator[None]:
    """Connecting. Raises httpcore's errors of it."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise httpcore.ConnectTimeout from error
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error


@cache
def _tls() -> ssl.SSLContext:
    """One for all: making it takes longer than making a connection. SSL_CERT_FILE and SSL_CERT_DIR are kept."""
    import httpx

    return httpx.create_ssl_context()


def _proxy(scheme: str, host: str) -> httpx.Proxy | None:
    """The proxy that the environment has for a host; none for this machine's own addresses. Raises UsageError."""
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


class _Line:
    """A connection, and the network as it sees it."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.network = _Network()
        self.since = 0.0
        """Since when it is idle, in seconds of `time.monotonic`."""
        scheme, host, port = origin
        way = _proxy(scheme, host)
        tls = _tls() if scheme == "https" or way is not None else None
        # A pool knows how to make connections; it keeps none.
        if way is None:
            pool = httpcore.AsyncConnectionPool(
                ssl_context=tls, keepalive_expiry=KEPT_OPEN, network_backend=self.network
            )
        else:
            pool = httpcore.AsyncHTTPProxy(
                httpcore.URL(scheme=way.url.raw_scheme, host=way.url.raw_host, port=way.url.port, target=b"/"),
                proxy_auth=way.raw_auth,
                proxy_ssl_context=tls if way.url.scheme == "https" else None,
                ssl_context=tls,
                keepalive_expiry=KEPT_OPEN,
                network_backend=self.network,
            )
        self.http = pool.create_connection(httpcore.Origin(scheme.encode(), _bare(host), port))


class Connections:
    """The connections of one service: as many as were ever needed at once, which the throttle bounds.

    The one used last is taken first, and those that then lie idle are closed.
    """

    def __init__(self) -> None:
        """Raises UsageError where the environment's proxy cannot be used."""
        self._idle: list[_Line] = []
        for scheme in ("http", "https"):
            _proxy(scheme, "")

    async def exchange(
        self,
        address: Address,
        method: str,
        headers: Iterable[tuple[str, str]],
        content: bytes,
        watch: Watch,
        connecting: float,
    ) -> Answer:
        """Send a request, and read its answer up to the limit; `connecting` bounds making a connection, in seconds.

        `headers` are sent beside Host. Raises NoAnswer.
        """
        request = httpcore.Request(
            method,
            httpcore.URL(
                scheme=address.scheme.encode(),
                host=_bare(address.host),
                port=address.port,
                target=address.target.encode(),
            ),
            headers=[(b"Host", address.name.encode()), *((name.encode(), _bytes(value)) for name, value in headers)],
            content=content,
            extensions={"timeout": {"connect": connecting}},
        )
        try:
            line = await self._take(address.origin) or _Line(address.origin)
            line.network.watch = watch
            try:
                return await _speak(line.http, request)
            finally:
                await self._give_back(line)
        except (httpcore.ConnectError, httpcore.ProxyError) as error:
            # These texts come from the operating system and from TLS; those of the errors below can hold headers.
            raise NoAnswer(f"no connection: {error}", left=False) from None
        except httpcore.ConnectTimeout:
            raise NoAnswer("no connection in time", left=False) from None
        except httpcore.LocalProtocolError:
            raise NoAnswer("the request is none that HTTP allows", left=watch.left) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError):
            raise NoAnswer("the connection broke before a whole answer came", left=watch.left) from None
        except Unreadable as error:
            raise NoAnswer(f"the answer is {error}", left=True) from None

    async def _take(self, origin: Origin) -> _Line | None:
        for place in reversed(range(len(self._idle))):
            if self._idle[place].origin == origin:
                line = self._idle.pop(place)
                if not line.http.has_expired():
                    return line
                await line.http.aclose()
                return None
        return None

    async def _give_back(self, line: _Line) -> None:
        line.since = monotonic()
        if line.http.is_idle() and not _spoiled(line.http):
            self._idle.append(line)
        else:
            await line.http.aclose()
        while self._idle and line.since - self._idle[0].since > KEPT_OPEN:  # others take some while one is closed
            await self._idle.pop(0).http.aclose()

    async def aclose(self) -> None:
        """Close all that are idle."""
        while self._idle:
            await self._idle.pop().http.aclose()


def _spoiled(http: Any) -> bool:
    """Whether a connection never came about, or more came over it with an answer than belongs to it.

    httpcore would take what is left over for the next request's answer, and says nowhere that there is something.
    """
    while (inner := getattr(http, "_connection", None)) is not None:
        http = inner
    state = getattr(http, "_h11_state", None)
    return state is None or bool(state.trailing_data[0])


async def _speak(line: httpcore.AsyncConnectionInterface, request: httpcore.Request) -> Answer:
    """Send, and read up to the limit. Raises Unreadable for an answer that cannot be unpacked."""
    response = await line.handle_async_request(request)
    try:
        headers = _headers(response.headers)
        unpacker = Unpacker(headers.get("content-encoding", ""))
        async for chunk in response.aiter_stream():
            unpacker.feed(chunk)
            if unpacker.full:
                break
        return Answer(response.status, headers, unpacker.finish(), unpacker.full)
    finally:
        await response.aclose()


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """An answer's headers by their lower-case names; one that comes several times is comma-joined."""
    found: dict[str, str] = {}
    for key, value in raw:
        name, text = key.decode("latin-1").lower(), _text(value)
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _bare(host: str) -> bytes:
    """A host as it is looked up: an IPv6 address without its brackets."""
    return host.strip("[]").encode()


def _bytes(value: str) -> bytes:
    return value.encode(errors="replace")
