"""A connection through a proxy, made by httpcore, which knows tunnels.

Its network is asyncio's, like that of direct connections: anyio does not show when a request begins to leave.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httpcore

from reconciler.model.errors import TransportError
from reconciler.transports.address import Origin
from reconciler.transports.answer import LIMIT, Response
from reconciler.transports.http.direct import NotAllowed, StaleConnection
from reconciler.transports.http.pipe import CLOSED, Pipe
from reconciler.transports.http.unpack import Padding, Unpacker, joined
from reconciler.transports.transport import BROKE, Watch

if TYPE_CHECKING:
    import httpx

__all__ = ["Proxied"]

PIECE_BYTES = 4096
"""Bytes that h11, which is slow over many small pieces, is given before other tasks run."""


class _NotWatched:
    most = LIMIT
    left = False

    def leaves(self) -> None:
        pass

    def has_left(self) -> None:
        pass


class _Stream(httpcore.AsyncNetworkStream):
    """A connection's bytes as httpcore reads and writes them. Only connecting has a time limit."""

    def __init__(self, network: _Network, pipe: Pipe) -> None:
        self._network = network
        self._pipe = pipe

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what came, at least a byte; nothing at the end."""
        self._network.watch.has_left()
        try:
            data = await self._pipe.read(min(max_bytes, PIECE_BYTES))
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        self._network.padding.check(len(data), 0)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send. What asks a proxy for a tunnel is not part of a request."""
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
        """Return the same connection, encrypted from here on."""
        async with _in_time(timeout):
            await self._pipe.encrypt(ssl_context, server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of a connection; it is not used again where it is `is_readable` while it is idle."""
        return self._pipe.spoiled if info == "is_readable" else self._pipe.transport.get_extra_info(info)


class _Network(httpcore.AsyncNetworkBackend):
    """The network as one connection sees it: `watch` follows the request that it carries, `padding` its answer."""

    def __init__(self) -> None:
        self.watch: Watch = _NotWatched()
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
    """Bound connecting. Raises httpcore's errors."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise httpcore.ConnectTimeout from error
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error


class Proxied:
    """A connection through a proxy."""

    def __init__(
        self, origin: Origin, way: httpx.Proxy, tls: ssl.SSLContext, *, connecting: float, kept: float
    ) -> None:
        """`connecting` bounds making the connection, in seconds; idle for longer than `kept`, it counts as closed."""
        self._network = _Network()
        self._connecting = connecting
        scheme, host, port = origin
        # A pool knows how to make connections; it keeps none.
        pool = httpcore.AsyncHTTPProxy(
            httpcore.URL(scheme=way.url.raw_scheme, host=way.url.raw_host, port=way.url.port, target=b"/"),
            proxy_auth=way.raw_auth,
            proxy_ssl_context=tls if way.url.scheme == "https" else None,
            ssl_context=tls,
            keepalive_expiry=kept,
            network_backend=self._network,
        )
        self._origin = httpcore.Origin(scheme.encode(), host.strip("[]").encode(), port)
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
        """Whether something came while the connection was idle."""
        return self._http.has_expired()

    async def aclose(self) -> None:
        """Close at once."""
        await self._http.aclose()

    async def exchange(
        self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], content: bytes | None, watch: Watch
    ) -> Response:
        """Send a request, and read its answer up to the limit.

        Raises StaleConnection, NotAllowed, OSError, TransportError and Unreadable.
        """
        origin = self._origin
        self._network.watch, self._network.padding = watch, Padding()
        request = httpcore.Request(
            method,
            httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target),
            headers=headers if content is None else [*headers, (b"Content-Length", b"%d" % len(content))],
            content=content,
            extensions={"timeout": {"connect": self._connecting}},
        )
        with _as_ours(watch):
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


@contextmanager
def _as_ours(watch: Watch) -> Iterator[None]:
    """Raise httpcore's errors as those of a direct connection."""
    try:
        yield
    except (httpcore.ConnectError, httpcore.ProxyError) as error:
        raise StaleConnection(str(error)) from None
    except httpcore.ConnectTimeout:
        raise TransportError("no connection in time", left=False) from None
    except httpcore.LocalProtocolError:
        raise NotAllowed from None
    except httpcore.NetworkError as error:  # the words of the operating system, or of TLS
        raise OSError(str(error)) from None
    except (httpcore.ProtocolError, httpcore.TimeoutException):
        raise TransportError(BROKE, left=watch.left) from None
