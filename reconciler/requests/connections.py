"""The connections of a service: our own, or httpcore's where a proxy stands between.

The only module that imports httpx and httpcore. httpx knows the environment's proxies and whom TLS trusts; importing it
takes as long as a hundred requests, so it waits until it is needed. httpcore knows tunnels. Its network is asyncio's
own, as ours is: its way through anyio does not tell when a request begins to leave.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import httpcore

from reconciler.model.errors import UsageError
from reconciler.model.settings import loopback
from reconciler.requests.answer import LIMIT, Padding, Response, Unpacker, Unreadable, joined
from reconciler.requests.direct import Direct, NotAllowed, NotSent
from reconciler.requests.pipe import CLOSED, Pipe
from reconciler.requests.url import Address, Origin
from reconciler.requests.watch import Watch

if TYPE_CHECKING:
    import httpx

__all__ = ["Connections", "NoAnswer"]

PIECE_BYTES = 4096
"""Bytes that h11, which is slow over many small pieces, is given before others have their turn."""

KEPT_OPEN_SECONDS = 4.0
"""Seconds. Many servers close an idle connection after five: a request sent just then would be lost."""

BROKE = "the connection broke before a whole answer came"

for _name in ("httpx", "httpcore"):  # they write whole URLs and headers into the log
    logging.getLogger(_name).setLevel(logging.WARNING)


class NoAnswer(Exception):
    """An exchange brought no whole answer: why, and whether the request can have taken effect."""

    def __init__(self, why: str, *, left: bool) -> None:
        super().__init__(why)
        self.left = left


class _Nobody:
    most = LIMIT
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
            data = await self._pipe.read(min(max_bytes, PIECE_BYTES))
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        self._network.padding.check(len(data), 0)
        return data

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
    """The network as one connection sees it: `watch` follows the request that it carries, `padding` its answer."""

    def __init__(self) -> None:
        self.watch: Watch = _Nobody()
        self.padding = Padding()

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

    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


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


class _Proxied:
    """A connection through a proxy."""

    def __init__(self, origin: Origin, way: httpx.Proxy, connecting: float) -> None:
        self._network = _Network()
        self._connecting = connecting
        scheme, host, port = origin
        # A pool knows how to make connections; it keeps none.
        pool = httpcore.AsyncHTTPProxy(
            httpcore.URL(scheme=way.url.raw_scheme, host=way.url.raw_host, port=way.url.port, target=b"/"),
            proxy_auth=way.raw_auth,
            proxy_ssl_context=_tls() if way.url.scheme == "https" else None,
            ssl_context=_tls(),
            keepalive_expiry=KEPT_OPEN_SECONDS,
            network_backend=self._network,
        )
        self._origin = httpcore.Origin(scheme.encode(), _bare(host).encode(), port)
        self._http = pool.create_connection(self._origin)

    @property
    def usable(self) -> bool:
        """Whether another exchange can follow.

        None can where more came with an answer than belongs to it: httpcore would take what is left over for the next
        answer, and says nowhere that there is something.
        """
        http: Any = self._http
        while (inner := getattr(http, "_connection", None)) is not None:
            http = inner
        state = getattr(http, "_h11_state", None)
        return self._http.is_idle() and state is not None and not state.trailing_data[0]

    @property
    def spoiled(self) -> bool:
        """Whether something came while it was idle."""
        return self._http.has_expired()

    async def aclose(self) -> None:
        """Close at once."""
        await self._http.aclose()

    async def exchange(
        self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], content: bytes, watch: Watch
    ) -> Response:
        """Send a request, and read its answer up to the limit. Raises httpcore's errors, and Unreadable."""
        origin = self._origin
        self._network.watch, self._network.padding = watch, Padding()
        request = httpcore.Request(
            method,
            httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target),
            headers=headers,
            content=content,
            extensions={"timeout": {"connect": self._connecting}},
        )
        response = await self._http.handle_async_request(request)
        try:
            received = joined(response.headers)
            unpacker = Unpacker(received.get("content-encoding", ""), watch.most)
            async for chunk in response.aiter_stream():
                self._network.padding.check(0, len(chunk))
                unpacker.feed(chunk)
                if unpacker.full:
                    break
            return Response(response.status, received, unpacker.finish(), unpacker.full)
        finally:
            await response.aclose()


async def _direct(origin: Origin, connecting: float) -> Direct:
    """A connection of our own. Raises NoAnswer."""
    scheme, host, port = origin
    try:
        async with asyncio.timeout(connecting):
            pipe = await Pipe.connect(_bare(host), port)
            if scheme == "https":
                await pipe.encrypt(_tls(), _bare(host))
    except TimeoutError:
        raise NoAnswer("no connection in time", left=False) from None
    except OSError as error:
        raise NoAnswer(f"no connection: {error}", left=False) from None
    return Direct(pipe)


@dataclass(slots=True)
class _Line:
    """A connection that is kept, and since when it is idle, in seconds of `time.monotonic`."""

    origin: Origin
    way: Direct | _Proxied
    since: float = 0.0


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
        *,
        connecting: float,
    ) -> Response:
        """Send a request, and read its answer up to the limit; `connecting` bounds making a connection, in seconds.

        `headers` are sent beside Host. Raises NoAnswer.
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
        except (httpcore.ConnectError, httpcore.ProxyError, NotSent) as error:
            # These texts come from the operating system and from TLS; those of the errors below can hold headers.
            raise NoAnswer(f"no connection: {error}", left=False) from None
        except httpcore.ConnectTimeout:
            raise NoAnswer("no connection in time", left=False) from None
        except (httpcore.LocalProtocolError, NotAllowed):
            raise NoAnswer("the request is none that HTTP allows", left=watch.left) from None
        except (httpcore.NetworkError, OSError) as error:  # the words of the operating system, or of TLS
            raise NoAnswer(f"{BROKE}: {error}" if str(error) else BROKE, left=watch.left) from None
        except (httpcore.ProtocolError, httpcore.TimeoutException):
            raise NoAnswer(BROKE, left=watch.left) from None
        except Unreadable as error:
            raise NoAnswer(f"the answer is {error}", left=watch.left) from None

    async def _made(self, origin: Origin, connecting: float) -> _Line:
        proxy = _proxy(origin[0], origin[1])
        if proxy is None:
            return _Line(origin, await _direct(origin, connecting))
        return _Line(origin, _Proxied(origin, proxy, connecting))

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
        """Close all that are idle."""
        while self._idle:
            await self._idle.pop().way.aclose()


def _bare(host: str) -> str:
    """A host as it is looked up: an IPv6 address without its brackets."""
    return host.strip("[]")
