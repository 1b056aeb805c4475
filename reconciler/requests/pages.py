"""Read listings page by page; a form field's options are a listing too.

The ways of paging (docs/manifest.md): the answer has the next page's URL, in its content or its Link header, or a token
for `next_page` or `data`; or a parameter of the URL counts up. The next URL is checked against the allowed hosts before
anything is sent to it, and circular or endless paging is stopped.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urljoin

from reconciler.model.errors import Blocked, TransportError
from reconciler.model.manifest import AnyPaged, FormField, Manifest
from reconciler.model.request import PAGE_TOKEN, CountUp
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.template import PLACEHOLDER, names
from reconciler.model.value import value_class
from reconciler.requests.client import Client
from reconciler.requests.match import refusal
from reconciler.requests.render import render
from reconciler.requests.template import written
from reconciler.requests.url import escape
from reconciler.transports.answer import LIMIT, Response
from reconciler.transports.request import RenderedRequest

__all__ = ["MOST_PAGES", "MorePages", "Option", "items", "options"]

MOST_PAGES = 10_000


@value_class
class Option:
    """An option of a form field: the value that requests use, and the name that people choose by."""

    value: Any
    name: str


class MorePages(TransportError):
    """There are more pages than may be read."""


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
    no list at `data_from`, or leads to where it must not lead.
    """
    wire = _first(call, scope, manifest)
    seen: set[tuple[str, bytes | None]] = set()
    before: list[Any] = []
    read = 0
    pages = pages or MOST_PAGES
    for number in range(1, pages + 1):
        if (wire.url, wire.content) in seen:
            raise TransportError(f"{wire.shown_url}: page {number} is one that was read before", left=True)
        seen.add((wire.url, wire.content))
        answer = await _page(client, call, replace(wire, most=most), number)
        found = walk(answer.json(), call.data_from)
        if not isinstance(found, list):
            where = f"at {call.data_from}" if call.data_from else "in the answer"
            raise TransportError(f"{wire.shown_url}: page {number} has no list {where}", left=True)
        if call.count_up is not None and found and found == before:
            raise TransportError(f"{wire.shown_url}: page {number} equals the one before", left=True)
        for item in found:
            yield item
        read, before = read + len(found), found
        if call.count_up is not None:
            following = _counted_on(call.count_up, wire, answer, number, read) if found else None
        else:
            following = _next(call, wire, scope, manifest=manifest, answer=answer, number=number)
        if following is None:
            return
        wire = following
    raise MorePages(f"{wire.shown_url}: more than {pages} pages", left=True)


async def options(client: Client, field: FormField, scope: Scope, manifest: Manifest) -> list[Option]:
    """Read the options that a form field fetches; one without a name is named by its value. Raises like `items`."""
    found: list[Option] = []
    async for item in items(client, field, scope, manifest):
        value = walk(item, field.choice_value)
        if value is None:
            raise TransportError(f"form {field.id}: option {len(found) + 1} has no {field.choice_value}", left=True)
        found.append(Option(value, written(walk(item, field.choice_name) or value)))
    return found


def _first(call: AnyPaged, scope: Scope, manifest: Manifest) -> RenderedRequest:
    """Return the first page's request: a token in its data is null, and a count starts."""
    if PAGE_TOKEN in names(call.data):
        call = call.model_copy(update={"data": _without_token(call.data)})
    wire = render(call, scope, manifest)
    return wire if call.count_up is None else replace(wire, url=_counted(wire.url, call.count_up, call.count_up.first))


def _without_token(data: Any) -> Any:
    match data:
        case str():
            whole = PLACEHOLDER.fullmatch(data)
            if whole is not None and whole[1] == PAGE_TOKEN:
                return None
            return PLACEHOLDER.sub(lambda found: "null" if found[1] == PAGE_TOKEN else found[0], data)
        case dict():
            return {key: _without_token(value) for key, value in data.items()}
        case list():
            return [_without_token(value) for value in data]
        case _:
            return data


def _counted(url: str, count: CountUp, value: int) -> str:
    """Return the URL with the parameter set to this value, replacing any that it has."""
    before, hash_mark, fragment = url.partition("#")
    path, _, query = before.partition("?")
    name = quote(count.parameter, safe="")
    others = [part for part in query.split("&") if part and unquote(part.partition("=")[0]) != count.parameter]
    return f"{path}?{'&'.join([*others, f'{name}={value}'])}{hash_mark}{fragment}"


def _counted_on(
    count: CountUp, wire: RenderedRequest, answer: Response, number: int, read: int
) -> RenderedRequest | None:
    """Return the request for the next page; None once as many items were read as there are."""
    if count.total_from is not None:
        total = walk(answer.json(), count.total_from)
        total = int(total) if isinstance(total, str) and total.isascii() and total.isdigit() else total
        if not isinstance(total, int) or isinstance(total, bool):
            raise TransportError(f"{wire.shown_url}: page {number} has no number at {count.total_from}", left=True)
        if read >= total:
            return None
    return replace(wire, url=_counted(wire.url, count, count.first + number * count.step))


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


def _next(
    call: AnyPaged, wire: RenderedRequest, scope: Scope, *, manifest: Manifest, answer: Response, number: int
) -> RenderedRequest | None:
    """Return the next page's request; None after the last. Only the first page's URL may be shown."""
    path = call.next_page_from or call.next_page_token_from
    found = _next_link(answer.at(path)) if path and _LINKS.fullmatch(path) else answer.at(path) if path else None
    if found in (None, "", False):
        return None
    if not isinstance(found, str | int):
        raise TransportError(f"{wire.shown_url}: page {number} has no text at {path}", left=True)
    if call.next_page_from is not None:
        try:
            url = urljoin(wire.url, escape(str(found).strip()))
        except ValueError:
            raise TransportError(f"{wire.shown_url}: page {number} has no URL at {path}", left=True) from None
        return replace(wire, url=url)
    token = Layer("the page before", {"NEXT_PAGE_TOKEN": found})
    following = call if call.next_page is None else call.model_copy(update={"url": call.next_page})
    try:
        return replace(render(following, scope.over(token), manifest), shown_url=wire.shown_url)
    except Blocked as error:
        raise TransportError(f"{wire.shown_url}: page {number + 1}: {error}", left=False) from None


_LINKS = re.compile(r"header:\s*link", re.IGNORECASE)
_LINK = re.compile(r"<([^>]*+)>((?:\s*+;\s*+[^\s\"=,;]++\s*+(?:=\s*+(?:\"[^\"]*+\"|[^\s\",;]*+))?)*+)")
_PARAMETER = re.compile(r";\s*+([^\s\"=,;]++)\s*+(?:=\s*+(?:\"([^\"]*+)\"|([^\s\",;]*+)))?")


def _next_link(header: Any) -> str | None:
    """Return the URL that a Link header (RFC 8288) calls `next`; None without one, or if it marks the end.

    Sentry names a next page after the last one too, with `results="false"`.
    """
    for url, parameters in _LINK.findall(header or ""):
        found: dict[str, str] = {}
        for name, quoted, bare in _PARAMETER.findall(parameters):
            found.setdefault(name.lower(), quoted or bare)
        if "next" in found.get("rel", "").lower().split():
            return None if found.get("results") == "false" else str(url)
    return None
