"""Who may see the pages (docs/design/rules.md, "Pages").

On loopback everybody on the machine may, as long as there is neither a token nor a proxy that signs people in. With one
of them, or off loopback, only who shows the token or comes through that proxy. A refusal says nothing of what there is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from starlette.requests import Request
from starlette.responses import Response

from reconciler.model.errors import SecretsError
from reconciler.model.secret import Secret
from reconciler.model.settings import Pages, Settings, loopback
from reconciler.web.sessions import LASTS_SECONDS, Attempts, cookie_of, is_signed, same

__all__ = ["COOKIE", "Guard", "Refusal", "Visitor"]

COOKIE = "reconciler_pages"

_FORWARDED = ("forwarded", "x-forwarded-", "x-real-ip", "via")
"""How headers begin by which proxies give themselves away: behind one, who connects from loopback may be anybody."""

_BEARER = re.compile(r"Bearer +(.+)", re.IGNORECASE)

LONGEST_NAME = 200

UNREADABLE = "Whether there is a PAGES_TOKEN cannot be told: `reconcile initial-data check reconciler` says why."
"""Strangers read this: it names neither keys nor folders."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may see the pages: by the cookie, or as a proxy names them, or whoever is on this machine."""

    name: str | None = None
    signed_in: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody may not see a page; `asks` where the token would let them in."""

    status: int
    text: str
    asks: bool = False
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with the answer."""
        found = {"WWW-Authenticate": 'Bearer realm="access reconciler"'} if self.status == 401 else {}
        return found if self.retry_after is None else {**found, "Retry-After": str(self.retry_after)}


class Guard:
    """Decides over each request. Any number of threads may ask it.

    `token` gives the token of the revision in force, None where there is none, and raises SecretsError where it cannot
    be told.
    """

    def __init__(self, listen: str, settings: Callable[[], Settings], token: Callable[[], Secret | None]) -> None:
        self._local = loopback(listen.rpartition(":")[0])
        self._settings = settings
        self._token = token
        self._attempts = Attempts()
        self._lock = Lock()

    def judge(self, request: Request) -> Visitor | Refusal:
        """Whether a page may be shown."""
        pages = self._settings().pages
        if pages is not None and (name := _named(request, pages)) is not None:
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
        if self._local and not any(name.startswith(_FORWARDED) for name in request.headers):
            return Visitor()
        return Refusal(
            403,
            "Pages and metrics are served on this machine only: set PAGES_TOKEN (reconcile initial-data set "
            "reconciler), or `pages` in config/reconciler.yaml.",
        )

    def judge_scrape(self, request: Request) -> Visitor | Refusal:
        """Whether the metrics may be read: as a page, or with the token as a bearer."""
        found = self.judge(request)
        said = _BEARER.fullmatch(request.headers.get("authorization", ""))
        if isinstance(found, Visitor) or not found.asks or said is None:
            return found
        return self.tried(request, said[1]) or Visitor(signed_in=True)

    def tried(self, request: Request, said: str) -> Refusal | None:
        """Hold what somebody says against the token: None where it is the token, else why it is not taken."""
        peer = _peer(request)
        with self._lock:
            wait = self._attempts.wait(peer, time.monotonic())
        if wait:
            return Refusal(429, f"Too many wrong tokens: try again in {wait} seconds.", asks=True, retry_after=wait)
        try:
            token = self._token()
        except SecretsError:
            return Refusal(503, UNREADABLE)
        if token is None:
            return Refusal(403, "There is no PAGES_TOKEN to sign in with.")
        if same(token, said):
            return None
        with self._lock:
            self._attempts.wrong(peer, time.monotonic())
        return Refusal(401, "That is not the token.", asks=True)

    def sign_in(self, answer: Response) -> None:
        """Give the cookie to whoever just said the token."""
        if (token := self._token()) is not None:
            self._set(answer, cookie_of(token, time.time()), LASTS_SECONDS)

    def sign_out(self, answer: Response) -> None:
        """Take the cookie away."""
        self._set(answer, "", 0)

    def _set(self, answer: Response, value: str, seconds: int) -> None:
        secure = self._settings().public.startswith("https://")
        answer.set_cookie(COOKIE, value, max_age=seconds, httponly=True, samesite="strict", secure=secure)


def _named(request: Request, pages: Pages) -> str | None:
    """Who is signed in as the proxy says; None where the request is not the proxy's, or names nobody or several."""
    if not pages.trusts(_peer(request)):
        return None
    names = [name.strip() for name in request.headers.getlist(pages.trusted_header)]
    return names[0][:LONGEST_NAME] if len(names) == 1 and names[0] else None


def _peer(request: Request) -> str:
    """The address at the other end of the connection, which no header can say otherwise."""
    return request.client.host if request.client is not None else ""
