"""Listings that come in pages, and a choice's options, which are one.

Both ways of paging (docs/manifest.md): the answer holds the whole next URL, or a token that `next_page` takes. Either
way the next URL is checked against the allowed hosts before anything is sent to it, and a service that leads round in a
circle or on for ever is stopped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin

from reconciler.model.errors import Blocked, RequestFailed
from reconciler.model.manifest import AnyPaged, FormField, Manifest
from reconciler.model.scope import Layer, Scope, walk
from reconciler.requests.answer import Answer
from reconciler.requests.client import Client
from reconciler.requests.render import Wire, render
from reconciler.requests.template import written
from reconciler.requests.url import escape

__all__ = ["MOST_PAGES", "Option", "items", "options"]

MOST_PAGES = 10_000


@dataclass(frozen=True, slots=True)
class Option:
    """One of a choice's options: the value that requests use, and the name that people choose by."""

    value: Any
    name: str


async def items(client: Client, call: AnyPaged, scope: Scope, manifest: Manifest) -> AsyncIterator[Any]:
    """Every item of every page.

    Raises Blocked where the first page cannot be asked for, and RequestFailed for a page that fails, is not JSON, has
    no list at `data_from`, or leads to where it must not lead.
    """
    wire = render(call, scope, manifest)
    seen: set[str] = set()
    for number in range(1, MOST_PAGES + 1):
        if wire.url in seen:
            raise RequestFailed(f"{wire.shown_url}: page {number} is one that was read before", left=True)
        seen.add(wire.url)
        content = await _page(client, call, wire, number)
        found = walk(content, call.data_from)
        if not isinstance(found, list):
            where = f"at {call.data_from}" if call.data_from else "in the answer"
            raise RequestFailed(f"{wire.shown_url}: page {number} has no list {where}", left=True)
        for item in found:
            yield item
        following = _next(call, wire, scope, manifest, content, number)
        if following is None:
            return
        wire = following
    raise RequestFailed(f"{wire.shown_url}: more than {MOST_PAGES} pages", left=True)


async def options(client: Client, field: FormField, scope: Scope, manifest: Manifest) -> list[Option]:
    """The options that a form field fetches; one without a name is called by its value. Raises like `items`."""
    found: list[Option] = []
    async for item in items(client, field, scope, manifest):
        value = walk(item, field.choice_value)
        if value is None:
            raise RequestFailed(f"form {field.id}: option {len(found) + 1} has no {field.choice_value}", left=True)
        found.append(Option(value, written(walk(item, field.choice_name) or value)))
    return found


async def _page(client: Client, call: AnyPaged, wire: Wire, number: int) -> Any:
    """One page's content."""
    try:
        answer = await client.send(wire, follow=True)
    except Blocked as error:
        if number == 1:
            raise
        raise RequestFailed(f"page {number}: {error}", left=False) from None
    problem = _problem(answer)
    if problem is not None:
        raise RequestFailed(f"{call.method} {wire.shown_url}: page {number} {problem}", left=True)
    return answer.json()


def _problem(answer: Answer) -> str | None:
    if not 200 <= answer.status < 300:
        return f"answered {answer.status}"
    if answer.truncated:
        return "is longer than 1 MiB"
    return "is not JSON" if answer.json() is None else None


def _next(call: AnyPaged, wire: Wire, scope: Scope, manifest: Manifest, content: Any, number: int) -> Wire | None:
    """The next page's request; None after the last. What may be shown of it is the first page's URL."""
    path = call.next_page_from or call.next_page_token_from
    found = walk(content, path) if path else None
    if found in (None, "", False):
        return None
    if not isinstance(found, str | int):
        raise RequestFailed(f"{wire.shown_url}: page {number} has no text at {path}", left=True)
    if call.next_page is None:
        try:
            url = urljoin(wire.url, escape(str(found).strip()))
        except ValueError:
            raise RequestFailed(f"{wire.shown_url}: page {number} has no URL at {path}", left=True) from None
        return replace(wire, url=url)
    token = Layer("the page before", {"NEXT_PAGE_TOKEN": found})
    following = call.model_copy(update={"url": call.next_page})
    try:
        return replace(render(following, scope.over(token), manifest), shown_url=wire.shown_url)
    except Blocked as error:
        raise RequestFailed(f"{wire.shown_url}: page {number + 1}: {error}", left=False) from None
