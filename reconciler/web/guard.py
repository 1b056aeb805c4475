"""Who may see the pages (docs/design/rules.md, "Pages").

With neither a token nor a proxy that signs people in, everybody on this machine may, over loopback, unless `public_url`
says that others come through a proxy. Otherwise only those may who have the token or come through that proxy. A refusal
reveals nothing about the state.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from reconciler.model.errors import SecretsError
from reconciler.model.secret import Secret
from reconciler.model.settings import Pages, Settings, loopback
from reconciler.model.value import Frozen
from reconciler.web.hosts import host_of
from reconciler.web.sessions import LASTS_SECONDS, Attempts, cookie_of, is_same, is_signed

__all__ = ["COOKIE", "Guard", "Refusal", "Visitor", "named"]

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
        return self.check_token(request, bearer[1]) or Visitor(signed_in=True)

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
    names = [name.strip() for name in request.headers.getlist(pages.trusted_header)]
    return names[0][:LONGEST_NAME] if len(names) == 1 and names[0] else None


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
