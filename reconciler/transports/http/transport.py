"""HTTP as a transport: what every request has, its signature, and a connection for it: direct, or through a proxy."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from reconciler.model.addresses import loopback
from reconciler.model.clock import Clock
from reconciler.model.errors import TransportError, UsageError
from reconciler.model.verdict import Cause
from reconciler.transports.address import Address
from reconciler.transports.http.direct import Direct, NotAllowed, StaleConnection, Unreadable
from reconciler.transports.http.pipe import Pipe
from reconciler.transports.messages import RenderedRequest, Response
from reconciler.transports.transport import BROKE, Idle, Watch, tls_context

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
    """Sends requests over HTTP. `seconds` is the time that one may take.

    There are as many connections as were ever needed at once, which the throttle bounds.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        """Raises UsageError if the environment's proxy cannot be used."""
        self._clock = clock
        self._connecting = CONNECTING * seconds
        self._idle = Idle(Direct.close)
        self._proxies = getproxies()
        for scheme in ("http", "https"):
            _proxy(self._proxies, scheme, "")

    async def send(self, request: RenderedRequest, address: Address, watch: Watch) -> Response:
        """Send a request; see `Transport`."""
        headers = [(b"Host", address.name.encode()), *self._headers(request, address)]
        content = request.content or (b"" if request.method in BODIES else None)
        target = address.target.encode()

        try:
            while True:
                idle = self._idle.take(address.origin)
                way = idle or await _connected(address, self._connecting, self._proxies)
                try:
                    return await way.exchange(request.method, target, headers, content, watch, most=request.most)
                except StaleConnection:
                    if idle is None:
                        raise
                finally:
                    if way.usable:
                        self._idle.keep(address.origin, way)
                    else:
                        way.close()
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

    async def aclose(self) -> None:
        """Close all idle connections."""
        self._idle.close()

    def _headers(self, request: RenderedRequest, address: Address) -> list[tuple[bytes, bytes]]:
        headers = dict(DEFAULTS)
        given = [*request.headers]
        if request.signer is not None:
            given += request.signer.headers(request.method, address.path, self._clock.now())
        for name, _ in given:
            headers.pop(name.lower(), None)
        return [(name.encode(), value.encode(errors="replace")) for name, value in [*headers.values(), *given]]


# Connections


class _Proxy(NamedTuple):
    scheme: str
    host: str
    port: int
    headers: tuple[tuple[bytes, bytes], ...]


def _proxy(known: Mapping[str, str], scheme: str, host: str) -> _Proxy | None:
    """Return the environment's proxy for a host; none for loopback. Raises UsageError."""
    found = known.get(scheme) or known.get("all")
    if not found or loopback(host) or (host and proxy_bypass(host)):
        return None
    return _read(found if "://" in found else f"http://{found}")


def _read(proxy: str) -> _Proxy:
    try:
        parts = urlsplit(proxy)
        usual = {"http": 80, "https": 443}[parts.scheme]
        host, port = parts.hostname or "", parts.port
        if not re.fullmatch(r"[\w.:-]+", host):
            raise ValueError(host)
    except (ValueError, KeyError):
        raise UsageError(
            "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used: give an http:// address"
        ) from None
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    basic = (b"Proxy-Authorization", b"Basic " + base64.b64encode(login.encode()))
    return _Proxy(parts.scheme, host, port or usual, (basic,) if login != ":" else ())


@cache
def _tls() -> ssl.SSLContext:
    """Return the TLS context, made once. SSL_CERT_FILE and _DIR apply."""
    context = tls_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _connected(address: Address, seconds: float, proxies: Mapping[str, str]) -> Direct:
    """Open a connection, in a tunnel if it is encrypted and a proxy is on the way. Raises TransportError."""
    proxy = _proxy(proxies, address.scheme, address.host)
    bare = address.host.strip("[]")  # as an IPv6 address is resolved
    if address.scheme == "https":
        _tls()  # before anything is open that would have to be closed
    try:
        async with asyncio.timeout(seconds):
            if proxy is None:
                pipe = await Pipe.connect(bare, address.port)
            else:
                pipe = await Pipe.connect(proxy.host, proxy.port)
                if proxy.scheme == "https":
                    await pipe.encrypt(_tls(), proxy.host)
                if address.scheme == "http":
                    return Direct(pipe, f"http://{address.host}:{address.port}".encode(), proxy.headers)
                await _tunnel(pipe, address, proxy)
            if address.scheme == "https":
                await pipe.encrypt(_tls(), bare)
    except TimeoutError:
        raise TransportError("no connection in time", left=False, cause=Cause.BUSY) from None
    except (OSError, StaleConnection, Unreadable) as error:
        why = f"the proxy's answer is {error}" if isinstance(error, Unreadable) else str(error)
        raise TransportError(f"no connection: {why}", left=False, cause=_cause(error)) from None
    return Direct(pipe)


async def _tunnel(pipe: Pipe, address: Address, proxy: _Proxy) -> None:
    try:
        await Direct(pipe).tunnel(f"{address.host}:{address.port}".encode(), proxy.headers)
    except BaseException:
        pipe.close()
        raise


def _cause(error: Exception) -> Cause | None:
    """Tell a service that is down from a name that nobody has, or a certificate that is not valid."""
    return Cause.BUSY if isinstance(error, ConnectionError) else None
