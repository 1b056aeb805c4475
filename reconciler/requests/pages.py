"""Read listings page by page; a form field's options are a listing too.

The next URL is checked against the allowed hosts before anything is sent to it, and circular or endless paging is
stopped.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from reconciler.model.errors import Blocked, TransportError
from reconciler.model.manifest import AnyPaged, FormField, Manifest
from reconciler.model.scope import Scope, walk
from reconciler.model.value import value_class
from reconciler.requests.client import Client
from reconciler.requests.match import refusal
from reconciler.requests.paging import PageTurner, first_page
from reconciler.requests.protocols import DIRECTORY, SQL, scheme_of
from reconciler.requests.template import written
from reconciler.transports.answer import LARGE, LIMIT, Response
from reconciler.transports.request import RenderedRequest

__all__ = ["MOST_PAGES", "MorePages", "Option", "items", "options"]

MOST_PAGES = 10_000
MOST_BYTES = 256 * 1024 * 1024
MOST_ITEMS = 1_000_000
MOST_SECONDS = 600.0


@value_class
class Option:
    """An option of a form field: the value that requests use, and the name that people choose by."""

    value: Any
    name: str


class MorePages(TransportError):
    """There are more pages than may be read."""


class _Bounds:
    """What one reading may take, whatever the pages lead to."""

    def __init__(self) -> None:
        self._until = time.monotonic() + MOST_SECONDS
        self._bytes = self._items = 0

    def exceeded(self, content: bytes, items: list[Any]) -> str | None:
        """Count a page; return what it is too much of."""
        self._bytes += len(content)
        self._items += len(items)
        if self._bytes > MOST_BYTES:
            return f"{MOST_BYTES >> 20} MiB"
        if self._items > MOST_ITEMS:
            return f"{MOST_ITEMS:,} items"
        return f"{MOST_SECONDS / 60:g} minutes" if time.monotonic() > self._until else None


async def items(
    client: Client,
    call: AnyPaged,
    scope: Scope,
    manifest: Manifest,
    *,
    pages: int | None = None,
    most: int = LIMIT,
) -> AsyncIterator[Any]:
    """Yield every item of every page; `most` bounds the bytes of a page.

    Raises MorePages where another page follows when so many `pages`, or MOST_PAGES, were read.
    Raises Blocked where the first page cannot be asked for, and TransportError for a page that fails, is not JSON, has
    no list at `data_from`, or leads to where it must not lead, and where the reading takes too much in all.
    """
    bounds = _Bounds()
    pages = pages or MOST_PAGES
    turner = PageTurner(call, first_page(call, scope, manifest), scope, manifest)
    following: RenderedRequest | None = turner.wire
    while following is not None:
        number = turner.number
        if number > pages:
            raise MorePages(f"{following.shown_url}: more than {pages} pages", left=True)
        if scheme_of(following.url) in SQL | DIRECTORY:  # whose one answer has everybody
            most = LARGE
        answer = await _page(client, call, replace(following, most=most), number)
        found = walk(answer.json(), call.data_from)
        if not isinstance(found, list):
            where = f"at {call.data_from}" if call.data_from else "in the answer"
            raise TransportError(f"{following.shown_url}: page {number} has no list {where}", left=True)
        if (exceeded := bounds.exceeded(answer.content, found)) is not None:
            more = f"{following.shown_url}: more than {exceeded} by page {number}: not read whole"
            raise TransportError(more, left=True)
        following = turner.turn(answer, found)
        for item in found:
            yield item


async def options(client: Client, field: FormField, scope: Scope, manifest: Manifest) -> list[Option]:
    """Read the options that a form field fetches; one without a name is named by its value. Raises like `items`."""
    found: list[Option] = []
    async for item in items(client, field, scope, manifest):
        value = walk(item, field.choice_value)
        if value is None:
            raise TransportError(f"form {field.id}: option {len(found) + 1} has no {field.choice_value}", left=True)
        found.append(Option(value, written(walk(item, field.choice_name) or value)))
    return found


async def _page(client: Client, call: AnyPaged, wire: RenderedRequest, number: int) -> Response:
    """Read one page."""
    try:
        answer = await client.send(wire, follow=True)
    except Blocked as error:
        if number == 1:
            raise
        raise TransportError(f"page {number}: {error}", left=False) from None
    problem = _problem(client, call, answer, wire.most)
    if problem is not None:
        raise TransportError(f"{call.method} {wire.shown_url}: page {number} {problem}", left=True)
    return answer


def _problem(client: Client, call: AnyPaged, answer: Response, most: int) -> str | None:
    if (reason := refusal(call, answer.status)) is not None:
        return f"{reason}{client.excerpt(answer)}"
    if answer.truncated:
        return f"is longer than {most >> 20} MiB"
    return f"is not JSON{client.excerpt(answer)}" if answer.json() is None else None
