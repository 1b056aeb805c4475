"""Send the requests of one service through one client.

A request is sent exactly as it was rendered: the request line's target goes out as bytes, without normalization. Every
address is checked against the allowed hosts right before connecting, including redirects and further pages. The
environment's proxies are used (for https as a tunnel), but never for loopback.

Whether a failed request can have taken effect is not guessed from the error: its connection reports when it begins to
write the request, and only then is it `left`.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

from reconciler.model.clock import Clock
from reconciler.model.errors import TransportError
from reconciler.model.failpoints import Failpoint, Reached, unwatched
from reconciler.model.secret import Redactor
from reconciler.model.settings import Limits
from reconciler.model.text import verb
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import Cause
from reconciler.requests.excerpt import excerpt
from reconciler.requests.hosts import AllowedHosts
from reconciler.requests.throttle import LONGEST, Throttle
from reconciler.requests.url import escape
from reconciler.transports.address import Address, parse
from reconciler.transports.messages import RenderedRequest, Response
from reconciler.transports.opening import Machine, Transports

Answered = Callable[[str, int | None, float], None]
"""Told of each sending: whose it was, the answer's status or None where none came, and the seconds that it took."""

Leaving = Callable[[], Awaitable[None]]
"""Awaited right before a request leaves, after all waiting: the place to write it down."""

MaySend = Callable[[], None]
"""Called before a request is written down, and right before its bytes leave; raises LedgerError if they may not."""

LONGEST_HOST = 253
REDIRECTS = 5
WAITS = 3

PAUSES = frozenset({403, 429, 503})
"""Statuses with which services ask for a pause; a 403 is one where it has a Retry-After (docs/manifest.md)."""

MOVED = frozenset({301, 302, 303, 307, 308})


@dataclass(slots=True)
class _Progress:
    """How far a request got."""

    sending: Sending
    departed: Callable[[], None]
    left: bool = False
    whole: bool = False

    def leaves(self) -> None:
        if not self.left:
            self.sending.reached(Failpoint.REQUEST, done=False)
            self.sending.may_send()  # nothing is waited for from here until its bytes are written
            self.left = True

    def has_left(self) -> None:
        if self.left and not self.whole:
            self.whole = True
            self.departed()
            self.sending.reached(Failpoint.REQUEST, done=True)


class Sending(Frozen, kw_only=True):
    """What all clients of a process have in common."""

    clock: Clock
    throttle: Throttle
    redactor: Redactor
    reached: Reached = unwatched
    may_send: MaySend = lambda: None
    answered: Answered = lambda _name, _status, _seconds: None
    machine: Machine = Machine()


class Client:
    """Sends the requests of one service."""

    def __init__(self, service: str, limits: Limits, hosts: AllowedHosts, sending: Sending) -> None:
        """Raises UsageError if the environment's proxy cannot be used."""
        self.service = service
        self._hosts = hosts
        self._sending = sending
        self._throttle = sending.throttle
        self._name = service
        self._seconds = limits.timeout.total_seconds()
        self._transports = Transports(sending.clock, self._seconds, sending.machine, sending.redactor.redact)

    def of(self, integration: str) -> Self:
        """Return the same client, which reports its requests under an integration's name."""
        other = copy.copy(self)
        other._name = integration  # noqa: SLF001  its own
        return other

    async def send(
        self, wire: RenderedRequest, *, follow: bool = False, leaving: Leaving | None = None, behind: bool = False
    ) -> Response:
        """Send a request. A pause that the service asks for is waited out, up to three times.

        No more requests leave than its answers say that it takes.

        See docs/design/rules.md, "Execute".

        `follow` allows redirects within the same scheme, host and port; it is for checks and look-ups. `leaving` is
        awaited before each sending. With `behind` it lets others go first at its host. Raises HostNotAllowed, and
        TransportError for whatever brings no whole answer: no connection, a timeout, a redirect that is not followed, a
        change that was answered with more than 1 MiB. Raises LedgerError if this process may not send now: that says
        nothing about the service.
        """
        waits = redirects = 0
        while True:
            address = self._hosts.check(wire.url, f"the manifests of {self.service}")
            answer = await self._exchange(wire, address, leaving, behind=behind)
            if (said := _allowance(answer.headers, self._sending.clock)) is not None:
                self._throttle.allow(address.name, *said)
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
            if answer.truncated and answer.status < 400 and not wire.reads:
                what = f"answered {answer.status} with more than {wire.most >> 20} MiB{self.excerpt(answer)}"
                raise TransportError(f"{_what(wire, address)}: {what}", left=True)
            return answer

    def excerpt(self, answer: Response) -> str:
        """Quote the service, to be appended to the reason why an answer is no success."""
        return excerpt(answer, self._sending.redactor)

    def redact(self, value: Any) -> Any:
        """Return a value without the known secrets."""
        return self._sending.redactor.redact_all(value)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transports.aclose()

    async def _exchange(
        self, wire: RenderedRequest, address: Address, leaving: Leaving | None, *, behind: bool
    ) -> Response:
        """Send once and read the answer, within the limits."""
        transport, sending = self._transports.of(address.scheme), self._sending
        async with self._throttle.turn(address.name, behind=behind) as departed:
            sending.may_send()
            if leaving is not None:
                await leaving()
            progress = _Progress(sending, departed)
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._seconds):
                    answer = await transport.send(wire, address, progress)
                sending.answered(self._name, answer.status, time.monotonic() - began)
            except TimeoutError:
                sending.answered(self._name, None, time.monotonic() - began)
                why = "no whole answer" if progress.left else "no connection"
                what = f"{_what(wire, address)}: {why} within {self._seconds:g} s"
                raise TransportError(what, left=progress.left, cause=Cause.BUSY) from None
            except TransportError as error:
                sending.answered(self._name, None, time.monotonic() - began)
                raise TransportError(f"{_what(wire, address)}: {error}", left=error.left, cause=error.cause) from None
        sending.reached(Failpoint.RESPONSE, done=True)
        return answer

    def _pause(self, answer: Response) -> timedelta | None:
        """Return how long an answer asks to wait, if that is at most a minute."""
        if answer.status not in PAUSES:
            return None
        asked = answer.headers.get("retry-after", "").strip()
        if asked.isascii() and asked.isdigit():
            pause: timedelta | None = timedelta(seconds=int(asked[:6]))
        else:
            pause = _until(asked, self._sending.clock.now()) if asked else None
        return pause if pause is not None and pause <= LONGEST else None

    def _redirected(
        self, wire: RenderedRequest, address: Address, answer: Response, *, follow: bool
    ) -> RenderedRequest:
        """Return the request that a redirect asks for. Raises TransportError if it is not followed."""
        target = _location(wire, answer)
        if target is None or target[1].origin != address.origin or not follow or answer.status not in MOVED:
            host = target[1].name if target is not None else _elsewhere(answer)
            where = f", a redirect to {host} that is not followed" if host else ""
            raise TransportError(
                f"{_what(wire, address)}: answered {answer.status}{where}{self.excerpt(answer)}", left=True
            )
        url = target[0]
        if wire.reads or answer.status in (307, 308):
            return replace(wire, url=url)
        headers = tuple(header for header in wire.headers if not header[0].lower().startswith("content-"))
        return replace(wire, url=url, method="GET", content=None, headers=headers)


def _what(wire: RenderedRequest, address: Address) -> str:
    return f"{verb(wire.method, address.scheme)} {address.name}"


def _location(wire: RenderedRequest, answer: Response) -> tuple[str, Address] | None:
    location = answer.headers.get("location")
    if not location:
        return None
    try:
        url = urljoin(wire.url, escape(location.strip()))
    except ValueError:  # brackets that hold no address
        return None
    address = parse(url)
    return None if address is None else (url, address)


def _elsewhere(answer: Response) -> str:
    """Describe the host of a redirect that does not lead to an http or https address; empty if it has none."""
    try:
        host = urlsplit(answer.headers.get("location", "").strip()).hostname
    except ValueError:
        return ""
    return quote(host or "", safe="[]:")[:LONGEST_HOST]


def _until(asked: str, now: datetime) -> timedelta | None:
    """Return the time until an HTTP date; zero if it is past. None if it is no date."""
    try:
        moment = parsedate_to_datetime(asked)
    except (ValueError, OverflowError):
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(moment - now, timedelta())


# What a service says of its own limit. There is no standard yet; three spellings of the two headers are common. The
# second one has seconds, or a time since 1970.
_HEADERS = tuple((f"{prefix}-remaining", f"{prefix}-reset") for prefix in ("x-ratelimit", "ratelimit", "x-rate-limit"))

_DIGITS = 10

_SINCE_1970 = 1_000_000_000
"""More seconds than this are a time."""


def _allowance(headers: Mapping[str, str], clock: Clock) -> tuple[int, timedelta] | None:
    """Return how many requests more a service says that it takes, and for how long; None where it says nothing."""
    for remaining, reset in _HEADERS:
        if remaining in headers:
            left, until = _number(headers[remaining]), _number(headers.get(reset, ""))
            if left is None or not until:
                return None
            if until <= _SINCE_1970:
                return left, timedelta(seconds=until)
            return left, max(datetime.fromtimestamp(until, UTC) - clock.now(), timedelta())
    return None


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
