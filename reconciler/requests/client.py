"""Sends requests, one service's through one client. The only module that imports httpx, and httpcore under it.

What leaves is exactly what was rendered: the request line's target is given to httpcore as bytes, past httpx's own
normalising. Every address is checked against the allowed hosts right before it is connected to, redirects and further
pages included. The environment's proxies are used, as a company's network may let nothing else out (https goes through
them in a tunnel), but never for this machine's own addresses.

Whether a request that failed can have taken effect is not guessed from the error: the transport tells when it begins to
write the request, and only from then on has it `left`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from time import monotonic
from typing import Any
from urllib.parse import urljoin
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from reconciler.model.clock import Clock
from reconciler.model.errors import RequestFailed, UsageError
from reconciler.model.failpoints import Failpoint, Reached, unwatched
from reconciler.model.manifest import SAFE_METHODS
from reconciler.model.settings import Limits, loopback
from reconciler.requests.answer import Answer, Unpacker, Unreadable
from reconciler.requests.hosts import AllowedHosts
from reconciler.requests.render import Wire
from reconciler.requests.throttle import LONGEST, Throttle
from reconciler.requests.url import Address, escape, parse

__all__ = ["Answer", "Client", "Leaving"]

Leaving = Callable[[], Awaitable[None]]
"""Awaited right before a request leaves, after all waiting: the place to write it down."""

Origin = tuple[str, str, int]
"""Scheme, host and port."""

KEPT_OPEN = 4.0
"""Seconds. Many servers close an idle connection after five: a request sent just then would be lost."""

CONNECTING = 0.8
"""The share of a request's time after which a connection has to stand."""

REDIRECTS = 5
WAITS = 3
BODIES = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose request says that it has no body, where it has none."""

MOVED = frozenset({301, 302, 303, 307, 308})

for _name in ("httpx", "httpcore"):  # they write whole URLs and headers into the log
    logging.getLogger(_name).setLevel(logging.WARNING)


@cache
def _tls() -> ssl.SSLContext:
    """One for all clients: making it takes longer than making a client. SSL_CERT_FILE and SSL_CERT_DIR are kept."""
    return httpx.create_ssl_context()


@lru_cache(maxsize=1024)
def _origin(scheme: str, host: str, port: int) -> httpx.URL:
    """Where to connect to, with the host as DNS and the Host header have it."""
    return httpx.URL(f"{scheme}://{host}:{port}/")


@dataclass(slots=True)
class _Progress:
    """Whether the request began to leave."""

    left: bool = False


class _Lines:
    """Connections of one service.

    A pool searches itself at each request, which at twenty connections costs more than the request; a stack costs
    nothing to search. There are as many as were ever needed at once, which the throttle bounds; the one used last is
    taken first, and those that then lie idle are closed. What httpx adds to its httpcore (redirects, cookies, models
    of requests and responses) nobody here wants, and it costs two fifths of a request.
    """

    def __init__(self) -> None:
        self._idle: list[tuple[float, Origin, httpcore.AsyncConnectionInterface]] = []
        for scheme in ("http", "https"):
            _maker(_proxy(scheme, ""))  # to tell right away where the environment's proxy cannot be used

    @asynccontextmanager
    async def one(self, origin: Origin) -> AsyncIterator[httpcore.AsyncConnectionInterface]:
        """A connection for one exchange."""
        line = await self._take(origin) or self._new(origin)
        try:
            yield line
        finally:
            now = monotonic()
            if line.is_idle():
                self._idle.append((now, origin, line))
            else:
                await line.aclose()
            while self._idle and now - self._idle[0][0] > KEPT_OPEN:  # others take some while one is closed
                await self._idle.pop(0)[2].aclose()

    async def _take(self, origin: Origin) -> httpcore.AsyncConnectionInterface | None:
        for place in reversed(range(len(self._idle))):
            if self._idle[place][1] == origin:
                line = self._idle.pop(place)[2]
                if not line.has_expired():
                    return line
                await line.aclose()
                return None
        return None

    def _new(self, origin: Origin) -> httpcore.AsyncConnectionInterface:
        url = _origin(*origin)
        maker = _maker(_proxy(origin[0], origin[1]))
        return maker.create_connection(httpcore.Origin(url.raw_scheme, url.raw_host, origin[2]))

    async def aclose(self) -> None:
        """Close all that are idle."""
        while self._idle:
            await self._idle.pop()[2].aclose()


def _proxy(scheme: str, host: str) -> str | None:
    """The proxy that the environment has for a host; none for this machine's own addresses."""
    known = getproxies()
    found = known.get(scheme) or known.get("all")
    if not found or loopback(host) or (host and proxy_bypass(host)):
        return None
    return found if "://" in found else f"http://{found}"


@lru_cache(maxsize=16)
def _maker(proxy: str | None) -> httpcore.AsyncConnectionPool:
    """What makes connections, through a proxy or not; it keeps none. Raises UsageError."""
    if proxy is None:
        return httpcore.AsyncConnectionPool(ssl_context=_tls(), keepalive_expiry=KEPT_OPEN)
    try:
        way = httpx.Proxy(proxy)
        if way.url.scheme not in ("http", "https"):
            raise ValueError(way.url.scheme)
    except (ValueError, httpx.InvalidURL):
        raise UsageError(
            "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used: give an http:// address"
        ) from None
    return httpcore.AsyncHTTPProxy(
        httpcore.URL(scheme=way.url.raw_scheme, host=way.url.raw_host, port=way.url.port, target=b"/"),
        proxy_auth=way.raw_auth,
        ssl_context=_tls(),
        keepalive_expiry=KEPT_OPEN,
    )


class Client:
    """Sends the requests of one service. `file` is the manifest that messages name."""

    def __init__(
        self,
        service: str,
        limits: Limits,
        hosts: AllowedHosts,
        clock: Clock,
        throttle: Throttle,
        file: str,
        reached: Reached = unwatched,
    ) -> None:
        self.service = service
        self._hosts = hosts
        self._clock = clock
        self._throttle = throttle
        self._file = file
        self._reached = reached
        self._timeout = limits.timeout
        self._lines = _Lines()

    async def send(self, wire: Wire, *, follow: bool = False, leaving: Leaving | None = None) -> Answer:
        """Send a request; a pause that the service asks for is waited out, three times at most (DESIGN, Execute).

        `follow` allows redirects within the same scheme, host and port; it is for checks and look-ups. `leaving` is
        awaited before each sending. Raises HostNotAllowed, and RequestFailed for whatever brings no whole answer: no
        connection, a timeout, a redirect that is not followed, a change that was answered with more than 1 MiB.
        """
        waits = redirects = 0
        while True:
            address = self._hosts.check(wire.url, self._file)
            answer = await self._exchange(wire, address, leaving)
            pause = self._pause(answer)
            if pause is not None:
                self._throttle.hold(address.name, pause)
                if waits < WAITS:
                    waits += 1
                    continue
            if 300 <= answer.status < 400 and answer.status not in wire.statuses:
                wire = self._redirected(wire, address, answer, follow=follow and redirects < REDIRECTS)
                redirects += 1
                continue
            if answer.truncated and answer.status < 400 and wire.method not in SAFE_METHODS:
                raise RequestFailed(f"{_what(wire, address)}: answered {answer.status} with more than 1 MiB", left=True)
            return answer

    async def aclose(self) -> None:
        """Close all connections."""
        await self._lines.aclose()

    async def _exchange(self, wire: Wire, address: Address, leaving: Leaving | None) -> Answer:
        """One sending and its answer, within the limits."""
        what = _what(wire, address)
        try:
            _origin(*address.origin)
        except httpx.InvalidURL:
            raise RequestFailed(f"{what}: not an address that can be asked", left=False) from None
        progress = _Progress()
        async with self._throttle.turn(address.name) as departed, self._lines.one(address.origin) as line:
            if leaving is not None:
                await leaving()

            async def trace(event: str, info: Mapping[str, Any]) -> None:
                if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
                    self._reached(Failpoint.REQUEST, done=False)
                    progress.left = True
                elif progress.left and event.endswith("send_request_body.complete"):
                    departed()
                    self._reached(Failpoint.REQUEST, done=True)

            try:
                async with asyncio.timeout(self._timeout.total_seconds()):
                    answer = await _speak(line, self._request(wire, address, trace))
            except TimeoutError:
                why = "no whole answer" if progress.left else "no connection"
                raise RequestFailed(
                    f"{what}: {why} within {self._timeout.total_seconds():g} s", left=progress.left
                ) from None
            except (httpcore.ConnectError, httpcore.ProxyError) as error:
                # These texts come from the operating system and from TLS; those of the errors below can hold headers.
                raise RequestFailed(f"{what}: no connection: {error}", left=False) from None
            except httpcore.ConnectTimeout:
                raise RequestFailed(f"{what}: no connection in time", left=False) from None
            except httpcore.LocalProtocolError:
                raise RequestFailed(f"{what}: the request is none that HTTP allows", left=progress.left) from None
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError):
                raise RequestFailed(f"{what}: the connection broke before a whole answer came", left=True) from None
            except Unreadable as error:
                raise RequestFailed(f"{what}: the answer is {error}", left=True) from None
        self._reached(Failpoint.RESPONSE, done=True)
        return answer

    def _request(
        self, wire: Wire, address: Address, trace: Callable[[str, Mapping[str, Any]], Awaitable[None]]
    ) -> httpcore.Request:
        url = _origin(*address.origin)
        body = wire.content or b""
        headers = [("Host", url.netloc.decode())]
        if body or wire.method in BODIES:
            headers.append(("Content-Length", str(len(body))))
        headers += [("User-Agent", "access-reconciler"), ("Accept", "*/*"), ("Accept-Encoding", "gzip")]
        given = [*wire.headers]
        if wire.signer is not None:
            given += wire.signer.headers(wire.method, address.path, self._clock.now())
        names = {name.lower() for name, _ in given}
        headers = [*(header for header in headers if header[0].lower() not in names), *given]
        return httpcore.Request(
            wire.method,
            httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=address.origin[2], target=address.target.encode()
            ),
            headers=[(name.encode(), value.encode(errors="replace")) for name, value in headers],
            content=body,
            extensions={
                "trace": trace,
                # `_exchange` bounds the whole, which no sum of parts does. Connecting has a shorter limit of its own: a
                # TLS handshake that is cancelled, instead of timing out by itself, leaves its socket open.
                "timeout": {"connect": CONNECTING * self._timeout.total_seconds()},
            },
        )

    def _pause(self, answer: Answer) -> timedelta | None:
        """What a 429 or a 503 asks to wait, where it is at most a minute."""
        asked = answer.headers.get("retry-after", "").strip()
        if answer.status not in (429, 503) or not asked:
            return None
        if asked.isascii() and asked.isdigit():
            pause: timedelta | None = timedelta(seconds=int(asked[:6]))
        else:
            pause = _until(asked, self._clock.now())
        return pause if pause is not None and pause <= LONGEST else None

    def _redirected(self, wire: Wire, address: Address, answer: Answer, *, follow: bool) -> Wire:
        """The request that a redirect asks for. Raises RequestFailed where it is not followed."""
        target = _location(wire, answer)
        if target is None or target[1].origin != address.origin or not follow or answer.status not in MOVED:
            where = f", a redirect to {target[1].name} that is not followed" if target else ""
            raise RequestFailed(f"{_what(wire, address)}: answered {answer.status}{where}", left=True)
        url = target[0]
        if wire.method in SAFE_METHODS or answer.status in (307, 308):
            return replace(wire, url=url)
        headers = tuple(header for header in wire.headers if not header[0].lower().startswith("content-"))
        return replace(wire, url=url, method="GET", content=None, headers=headers)


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


def _what(wire: Wire, address: Address) -> str:
    return f"{wire.method} {address.name}"


def _location(wire: Wire, answer: Answer) -> tuple[str, Address] | None:
    location = answer.headers.get("location")
    if not location:
        return None
    try:
        url = urljoin(wire.url, escape(location.strip()))
    except ValueError:  # brackets that hold no address
        return None
    address = parse(url)
    return None if address is None else (url, address)


def _until(asked: str, now: datetime) -> timedelta | None:
    """The span until an HTTP date; none for a date that is past. None for what is no date."""
    try:
        moment = parsedate_to_datetime(asked)
    except (ValueError, OverflowError):
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(moment - now, timedelta())
