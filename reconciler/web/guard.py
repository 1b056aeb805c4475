"""Who may see the pages (docs/design/rules.md, "Pages").

With neither a token nor a proxy that signs people in, everybody on this machine may, over loopback, unless `public_url`
says that others come through a proxy. Otherwise only those may who have the token or come through that proxy. A refusal
reveals nothing about the state.

A session is a cookie that proves knowledge of the token: it has its expiry and a signature of it, under a key derived
from the token. So no session is stored: it survives a restart, holds on every member of a fleet, and ends with the
token. The derivation is slow on purpose, so that a stolen cookie does not reveal a short token by trial.

Before anything else, a request's Host and length are looked at. Requests for unknown host names are refused, against
DNS rebinding: a site that points its own name at this machine would be the same site as the pages to a browser, and
could read them. With the headers of every answer, browsers load only our own files, run no inline script, and send no
referrer elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.model.addresses import loopback
from reconciler.model.errors import SecretsError
from reconciler.model.secret import Secret
from reconciler.model.settings import Pages, Settings
from reconciler.model.value import Frozen

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


MAX_LOST = 32 << 20
"""The most bytes of a body that are read and lost: more than any git server sends."""


async def body_of(request: Request, most: int, seconds: float) -> bytes:
    """Read a request's body; of one that is longer than `most`, one byte more.

    Raises TimeoutError after `seconds`, and where its sender is gone. The rest of one that is too long is read, too,
    and lost: its sender is still at it, and would find the connection closed before the answer.
    """
    found, read = bytearray(), 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                found += part[: most + 1 - len(found)]
                read += len(part)
                if read > most + MAX_LOST:
                    break
    except (TimeoutError, ClientDisconnect):
        if read <= most:
            raise TimeoutError from None
    return bytes(found)


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


COOKIE = "reconciler_pages"

_FORWARDED = ("forwarded", "x-forwarded-", "x-real-ip", "via")
"""Prefixes of headers that proxies add: behind one, a peer on loopback may be anybody."""

_BEARER = re.compile(r"Bearer +(.+)", re.IGNORECASE)

LONGEST_NAME = 200

UNREADABLE = "Whether there is a PAGES_TOKEN cannot be told: `reconcile initial-data check reconciler` says why."
"""Strangers may read this: it names neither keys nor folders."""


class Visitor(Frozen):
    """Somebody who may see the pages: signed in by cookie, named by a proxy, or on this machine."""

    name: str | None = None
    signed_in: bool = False


class Refusal(Frozen):
    """Why somebody may not see a page. With `asks`, the token would let them in."""

    status: int
    text: str
    asks: bool = False
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        found = {"WWW-Authenticate": 'Bearer realm="access reconciler"'} if self.status == 401 else {}
        return found if self.retry_after is None else {**found, "Retry-After": str(self.retry_after)}


class Guard:
    """Decides on each request; thread-safe.

    `token` returns the token of the revision in force, or None if there is none; it raises SecretsError if the token
    cannot be read.
    """

    def __init__(self, listen: str, settings: Callable[[], Settings], token: Callable[[], Secret | None]) -> None:
        self._local = loopback(listen.rpartition(":")[0])
        self._settings = settings
        self._token = token
        self._attempts = Attempts()
        self._lock = Lock()

    def judge(self, request: Request) -> Visitor | Refusal:
        """Decide whether a page may be shown."""
        settings = self._settings()
        pages = settings.pages
        if pages is not None and (name := named(request, pages)) is not None:
            return Visitor(name)
        try:
            token = self._token()
        except SecretsError:
            return Refusal(503, UNREADABLE)
        if token is not None:
            cookie = request.cookies.get(COOKIE)
            if cookie is not None and is_signed(token, cookie, time.time()):
                return Visitor(signed_in=True)
            return Refusal(401, "Sign in to see this page.", asks=True)
        if pages is not None:
            return Refusal(401, "Sign in through the proxy in front of this program: nobody is named here.")
        alone = self._local and loopback(host_of(urlsplit(settings.public).netloc))
        if alone and not any(name.startswith(_FORWARDED) for name in request.headers):
            return Visitor()
        return Refusal(
            403,
            "Pages and metrics are for this machine only, and others can get here: set PAGES_TOKEN (reconcile "
            "initial-data set reconciler), or `pages` in config/reconciler.yaml.",
        )

    def judge_scrape(self, request: Request) -> Visitor | Refusal:
        """Decide whether a program may read what is for programs: like a page, or with the token as a bearer token."""
        found = self.judge(request)
        bearer = _BEARER.fullmatch(request.headers.get("authorization", ""))
        if isinstance(found, Visitor) or not found.asks or bearer is None:
            return found
        return self.check_token(request, _as_utf8(bearer[1])) or Visitor(signed_in=True)

    def check_token(self, request: Request, token: str) -> Refusal | None:
        """Compare a token from a request with the one in force: None if they are the same, else why it is refused."""
        address = _client(request, self._settings().pages)
        with self._lock:
            wait = self._attempts.wait(address, time.monotonic())
        if wait:
            return Refusal(429, f"Too many wrong tokens: try again in {wait} seconds.", asks=True, retry_after=wait)
        try:
            expected = self._token()
        except SecretsError:
            return Refusal(503, UNREADABLE)
        if expected is None:
            return Refusal(403, "There is no PAGES_TOKEN to sign in with.")
        if is_same(expected, token):
            return None
        with self._lock:
            self._attempts.wrong(address, time.monotonic())
        return Refusal(401, "That is not the token.", asks=True)

    def sign_in(self, answer: Response) -> None:
        """Set the cookie, after `check_token` accepted a token."""
        if (token := self._token()) is not None:
            self._set(answer, cookie_of(token, time.time()), LASTS_SECONDS)

    def sign_out(self, answer: Response) -> None:
        """Delete the cookie."""
        self._set(answer, "", 0)

    def _set(self, answer: Response, value: str, seconds: int) -> None:
        secure = self._settings().public.startswith("https://")
        spelled: Any = "Strict"  # as the RFC of cookies spells it; starlette's type has small letters only
        answer.set_cookie(COOKIE, value, max_age=seconds, httponly=True, samesite=spelled, secure=secure)


def named(request: Request, pages: Pages) -> str | None:
    """Return the user that the proxy names; None if the request is not from the proxy, or has no or several names."""
    if not pages.trusts(_peer(request)):
        return None
    names = [_as_utf8(name).strip() for name in request.headers.getlist(pages.trusted_header)]
    return names[0][:LONGEST_NAME] if len(names) == 1 and names[0] else None


def _as_utf8(header: str) -> str:
    """Read the value of a header, which was read as Latin-1."""
    return header.encode("latin-1").decode(errors="replace")


def _client(request: Request, pages: Pages | None) -> str:
    """Return the address that a wrong token counts for: of what comes through the proxy, the one that it names.

    A proxy appends the address that it sees, so the last one that is no proxy's counts; those before may be made up.
    """
    peer = _peer(request)
    if pages is None or not pages.trusts(peer):
        return peer
    hops = [hop.strip() for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    return next((hop for hop in reversed(hops) if hop and not pages.trusts(hop)), peer)[:LONGEST_NAME]


def _peer(request: Request) -> str:
    """Return the address at the other end of the connection; no header can change it."""
    return request.client.host if request.client is not None else ""


LASTS_SECONDS = 12 * 3600
"""How long a session lasts."""

WINDOW_SECONDS = 60.0
MAX_OF_ADDRESS = 10
"""The most wrong tokens from one address within the window."""

MAX_ADDRESSES = 10_000
"""Of how many addresses wrong tokens are remembered, so that nobody fills the memory."""

IPV6_PREFIX = 64
"""Addresses of one such network count as one: a client that has one of them has them all."""


def is_same(token: Secret, given: str) -> bool:
    """Whether a given text is the token, compared in constant time."""
    return hmac.compare_digest(_digest(token.reveal()), _digest(given))


def cookie_of(token: Secret, now: float) -> str:
    """Make the value of a cookie for a session that begins now; `now` is in seconds since 1970."""
    ends = str(int(now) + LASTS_SECONDS)
    return f"{ends}.{_signature(token, ends)}"


def is_signed(token: Secret, cookie: str, now: float) -> bool:
    """Whether a cookie was made with this token and has not expired."""
    ends, _, signature = cookie.partition(".")
    signed = hmac.compare_digest(_signature(token, ends).encode(), signature.encode(errors="replace"))
    return signed and now < int(ends)


def _signature(token: Secret, ends: str) -> str:
    return hmac.new(_key(token), ends.encode(errors="replace"), hashlib.sha256).hexdigest()


@lru_cache(maxsize=2)
def _key(token: Secret) -> bytes:
    return hashlib.scrypt(token.reveal().encode(), salt=b"access-reconciler pages", n=2**14, r=8, p=1, dklen=32)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


class Attempts:
    """Counts wrong tokens by address; times are seconds of a monotonic clock.

    There is no limit on all addresses together: a client that reached it would lock out all others.
    """

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str, now: float) -> int:
        """Return after how many seconds an address may try a token again; 0 for at once."""
        times = self._wrong.get(_counted(address))
        if times is None or len(times) < MAX_OF_ADDRESS or times[0] <= now - WINDOW_SECONDS:
            return 0
        return int(times[0] + WINDOW_SECONDS - now) + 1

    def wrong(self, address: str, now: float) -> None:
        """Count a wrong token."""
        counted = _counted(address)
        self._wrong.setdefault(counted, deque(maxlen=MAX_OF_ADDRESS)).append(now)
        self._wrong.move_to_end(counted)
        if len(self._wrong) > MAX_ADDRESSES:
            self._wrong.popitem(last=False)


def _counted(address: str) -> str:
    """Return what an address is counted as: an IPv6 address as its network."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or ip_network((parsed, IPV6_PREFIX), strict=False))
