"""Read listings page by page; a form field's options are a listing too, and a check may be answered by one.

The ways of paging (docs/manifest.md): the answer has the next page's URL, in its content or its Link header, or a token
for `next_page` or `data`; a flag says that there is more, and a value where it begins; or a parameter of the URL counts
up. The next URL is checked against the allowed hosts before anything is sent to it, and circular or endless paging is
stopped.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urljoin

from reconciler.model.errors import Blocked, TransportError
from reconciler.model.form import FormField
from reconciler.model.manifest import AnyPaged, Manifest, paging_of
from reconciler.model.request import PAGE_TOKEN, CountUp, Exists, More
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.value import Frozen, replace
from reconciler.requests.match import refusal
from reconciler.requests.protocols import DIRECTORY, SQL, scheme_of
from reconciler.requests.render import render
from reconciler.requests.template import written
from reconciler.requests.url import escape
from reconciler.transports.address import HTTP, locate
from reconciler.transports.messages import LARGE, LIMIT, RenderedRequest, Response

if TYPE_CHECKING:
    from reconciler.requests.client import Client

MOST_PAGES = 10_000
MOST_BYTES = 256 * 1024 * 1024
MOST_ITEMS = 1_000_000
MOST_SECONDS = 600.0


class Option(Frozen):
    """An option of a form field: the value that requests use, and the name that people choose by."""

    value: Any
    name: str


class TokenRefused(TransportError):
    """A page was answered 401: its token may be renewed."""


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
    client: Client, call: AnyPaged, scope: Scope, manifest: Manifest, *, pages: int | None = None, most: int = LIMIT
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
        failed = TokenRefused if answer.status == 401 else TransportError
        raise failed(f"{call.method} {wire.shown_url}: page {number} {problem}", left=True)
    return answer


def _problem(client: Client, call: AnyPaged, answer: Response, most: int) -> str | None:
    if (reason := refusal(call, answer.status)) is not None:
        return f"{reason}{client.excerpt(answer)}"
    if answer.truncated:
        return f"is longer than {most >> 20} MiB"
    return f"is not JSON{client.excerpt(answer)}" if answer.json() is None else None


def first_page(call: AnyPaged | Exists, scope: Scope, manifest: Manifest) -> RenderedRequest:
    """Render the request for the first page, with which a count starts. Raises Blocked."""
    wire, paging = render(call, scope, manifest), paging_of(call)
    count = None if paging is None else paging[1].count_up
    return wire if count is None else replace(wire, url=_with(wire.url, count.parameter, count.first))


class PageTurner:
    """Leads through the pages that begin with `first`. `number` and `wire` are the page's that is read now."""

    def __init__(self, call: AnyPaged | Exists, first: RenderedRequest, scope: Scope, manifest: Manifest) -> None:
        paging = paging_of(call)
        assert paging is not None
        self._call, (_, self._paging), self._scope, self._manifest = call, paging, scope, manifest
        self._seen = {(first.url, first.content)}
        self._before: list[Any] = []
        self._read = 0
        self.wire = first
        self.number = 1

    def turn(self, answer: Response, found: list[Any]) -> RenderedRequest | None:
        """Return the next page's request; None after the last one. `found` are the items of this page.

        Raises TransportError for a page that leads nowhere, back, or is the one before again.
        """
        count = self._paging.count_up
        if count is not None and found and found == self._before:
            raise self._fails("equals the one before")
        self._read, self._before = self._read + len(found), found
        following = self._linked(answer) if count is None else self._counted_on(count, answer)
        if following is None:
            return None
        self.number += 1
        self.wire = following
        if (following.url, following.content) in self._seen:
            raise self._fails("is one that was read before")
        self._seen.add((following.url, following.content))
        return following

    def _fails(self, why: str) -> TransportError:
        return TransportError(f"{self.wire.shown_url}: page {self.number} {why}", left=True)

    def _counted_on(self, count: CountUp, answer: Response) -> RenderedRequest | None:
        """Return the request for the next page; None after an empty one, or once all items were read."""
        if not self._before:
            return None
        if count.total_from is not None:
            total = walk(answer.json(), count.total_from)
            total = int(total) if isinstance(total, str) and total.isascii() and total.isdigit() else total
            if not isinstance(total, int) or isinstance(total, bool):
                raise self._fails(f"has no number at {count.total_from}")
            if self._read >= total:
                return None
        return replace(self.wire, url=_with(self.wire.url, count.parameter, count.first + self.number * count.step))

    def _linked(self, answer: Response) -> RenderedRequest | None:
        """Return the request that the answer leads to; None after the last page. Only the first page's URL is shown."""
        source = self._paging.next_page_from
        if isinstance(source, More):
            return self._more(source, answer)
        path = source or self._paging.next_page_token_from
        found = _next_link(answer.at(path)) if path and _LINKS.fullmatch(path) else answer.at(path) if path else None
        if found in _NOTHING:
            return None
        if not isinstance(found, str | int):
            raise self._fails(f"has no text at {path}")
        if source is None:
            return self._by_token(found)
        try:
            url = urljoin(self.wire.url, escape(str(found).strip()))
        except ValueError:
            raise self._fails(f"has no URL at {path}") from None
        if not _same_protocol(self.wire.url, url):
            raise self._fails("leads to another protocol")
        return replace(self.wire, url=url)

    def _more(self, source: More, answer: Response) -> RenderedRequest | None:
        if answer.at(source.more) in (*_NOTHING, "false"):
            return None
        origin = answer.at(source.origin)
        if origin in _NOTHING or not isinstance(origin, str | int):
            raise self._fails(f"says at {source.more} that there is more, and has no text at {source.origin}")
        return replace(self.wire, url=_with(self.wire.url, source.parameter, origin))

    def _by_token(self, token: str | int) -> RenderedRequest:
        call, layer = self._call, Layer("the page before", {PAGE_TOKEN: token})
        following = call
        if self._paging.next_page is not None:
            following = call.model_copy(update={"url": self._paging.next_page})
        try:
            wire = render(following, self._scope.over(layer), self._manifest)
        except Blocked as error:
            what = f"{self.wire.shown_url}: page {self.number + 1}: {error}"
            raise TransportError(what, left=False) from None
        return replace(wire, shown_url=self.wire.shown_url)


_NOTHING = (None, "", False)


def _with(url: str, parameter: str, value: str | int) -> str:
    """Return the URL with the parameter set to this value, replacing any that it has."""
    before, hash_mark, fragment = url.partition("#")
    path, _, query = before.partition("?")
    others = [part for part in query.split("&") if part and unquote(part.partition("=")[0]) != parameter]
    added = f"{quote(parameter, safe='')}={quote(str(value), safe='')}"
    return f"{path}?{'&'.join([*others, added])}{hash_mark}{fragment}"


_LINKS = re.compile(r"header:\s*link", re.IGNORECASE)
_LINK = re.compile(r"<([^<>]*+)>((?:\s*+;\s*+[^\s\"=,;]++\s*+(?:=\s*+(?:\"[^\"]*+\"|[^\s\",;]*+))?)*+)")
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


def _same_protocol(url: str, following: str) -> bool:
    """Whether two URLs are of one protocol: an answer may not choose a program of this machine, or a database."""
    here, there = locate(url), locate(following)
    if here is None or there is None:
        return True  # no host is allowed for such a one
    return here.scheme == there.scheme or {here.scheme, there.scheme} <= HTTP
