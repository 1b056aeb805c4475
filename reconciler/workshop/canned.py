"""A client that answers from a case instead of asking a service, and notes what was asked, and for which part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from reconciler.engine.observe.integrations import Integration
from reconciler.model.case import CannedAnswer
from reconciler.model.errors import Blocked, TransportError
from reconciler.model.scope import Scope
from reconciler.model.secret import Redactor
from reconciler.model.value import Frozen
from reconciler.requests.client import Client, Leaving
from reconciler.requests.pages import first_page
from reconciler.requests.protocols import as_answered
from reconciler.requests.render import render
from reconciler.transports.messages import LIMIT, RenderedRequest, Response

__all__ = ["CannedClient", "CheckPart", "Exchange", "parts_asked", "same_url"]


class Exchange(Frozen):
    """A request and its answer; None where none came, and then `why`."""

    request: RenderedRequest
    answer: Response | None
    why: str = ""


class CannedClient(Client):
    """Gives each request the first answer that fits and was not given yet, then the last that fits again."""

    def __init__(self, answers: Iterable[CannedAnswer]) -> None:
        self._redactor = Redactor()
        self._answers = list(answers)
        self._given: set[int] = set()
        self.exchanges: list[Exchange] = []

    async def send(
        self,
        wire: RenderedRequest,
        *,
        follow: bool = False,  # noqa: ARG002  a case gives the answer that the redirect leads to
        leaving: Leaving | None = None,  # noqa: ARG002  nothing leaves
        behind: bool = False,  # noqa: ARG002
    ) -> Response:
        """Return the answer. Raises TransportError where no answer fits, and for a redirect."""
        answer = self._answer(wire)
        why = "no answer of the case fits it" if answer is None else ""
        if answer is not None and 300 <= answer.status < 400 and answer.status not in wire.statuses:
            why = f"answered {answer.status}"
        self.exchanges.append(Exchange(wire, answer, why))
        if answer is None or why:
            raise TransportError(f"{wire.method} {wire.url}: {why}", left=answer is not None)
        return answer

    @property
    def unanswered(self) -> list[RenderedRequest]:
        """Return the requests that no answer of the case fits."""
        return [each.request for each in self.exchanges if each.answer is None]

    def _answer(self, wire: RenderedRequest) -> Response | None:
        fitting = [index for index, answer in enumerate(self._answers) if _fits(answer, wire)]
        if not fitting:
            return None
        at = next((index for index in fitting if index not in self._given), fitting[-1])
        self._given.add(at)
        return as_answered(wire, _response(self._answers[at]))


def _fits(answer: CannedAnswer, wire: RenderedRequest) -> bool:
    if answer.method != wire.method or not same_url(answer.url, wire.url):
        return False
    return answer.data is None or _sent(wire) == answer.data


def _sent(wire: RenderedRequest) -> Any:
    """Return what a request sends, decoded: JSON, or a form as a map of texts."""
    text = (wire.content or b"").decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return dict(parse_qsl(text, keep_blank_values=True))


def same_url(one: str, other: str) -> bool:
    """Whether two URLs are the same but for their escapes and the order of their parameters."""
    return one == other or _parts(one) == _parts(other)


def _parts(url: str) -> tuple[str, str, str, list[tuple[str, str]]]:
    parts = urlsplit(url)
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    return parts.scheme.lower(), parts.netloc.lower(), unquote(parts.path), query


def _response(answer: CannedAnswer) -> Response:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    body = answer.body
    if body is None:
        content = b""
    elif isinstance(body, str):
        content = body.encode()
    else:
        content = json.dumps(body, ensure_ascii=False).encode()
        headers.setdefault("content-type", "application/json")
    return Response(answer.status, headers, content[:LIMIT], truncated=len(content) > LIMIT)


class CheckPart(StrEnum):
    """A part of a check that sends requests of its own, as the manifest's key."""

    CHECK = "exists"
    READY = "exists.ready"
    PENDING = "exists.pending"
    LISTING = "exists.list"
    OTHER = "another request"


def parts_asked(integration: Integration, scope: Scope, exchanges: Iterable[Exchange]) -> tuple[CheckPart, ...]:
    """Return which part each exchange is of, in their order; `scope` is the grant's.

    A page further on has another URL, of the same path or not: it is of the part before it.
    """
    firsts = dict(_first_requests(integration, scope.now()))
    exists = integration.manifest.exists
    paged = {CheckPart.PENDING, CheckPart.LISTING} | (
        {CheckPart.CHECK} if exists is not None and exists.pages is not None else set()
    )
    found: list[CheckPart] = []
    for exchange in exchanges:
        wire, before = exchange.request, found[-1] if found else CheckPart.OTHER
        exact = [part for part, first in firsts.items() if _same(first, wire)]
        alike = [part for part, first in firsts.items() if first.method == wire.method and _path(first) == _path(wire)]
        if exact:
            found.append(exact[0])
        elif before in paged and (before in alike or not alike):
            found.append(before)
        else:
            found.append(alike[0] if alike else CheckPart.OTHER)
    return tuple(found)


def _first_requests(integration: Integration, scope: Scope) -> Iterator[tuple[CheckPart, RenderedRequest]]:
    manifest = integration.manifest
    exists = manifest.exists
    if exists is None:
        return
    renders: dict[CheckPart, Callable[[], RenderedRequest]] = {
        CheckPart.CHECK: lambda: first_page(exists, scope, manifest),
    }
    if (ready := exists.ready) is not None:
        renders[CheckPart.READY] = lambda: render(ready, scope, manifest)
    if (pending := exists.pending) is not None:
        renders[CheckPart.PENDING] = lambda: first_page(pending, scope, manifest)
    if (listing := exists.listing) is not None:
        renders[CheckPart.LISTING] = lambda: first_page(listing, scope, manifest)
    for part, rendered in renders.items():
        with suppress(Blocked):
            yield part, rendered()


def _same(one: RenderedRequest, other: RenderedRequest) -> bool:
    return one.method == other.method and same_url(one.url, other.url) and one.content == other.content


def _path(wire: RenderedRequest) -> str:
    return wire.url.partition("?")[0]
