"""Get from a page to the next one: of a listing, of a form field's options, of a check that is answered by a listing.

The ways of paging (docs/manifest.md): the answer has the next page's URL, in its content or its Link header, or a token
for `next_page` or `data`; a flag says that there is more, and a value where it begins; or a parameter of the URL counts
up. Circular paging is noticed here; where a page may be asked for is the client's to decide.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urljoin

from reconciler.model.errors import Blocked, TransportError
from reconciler.model.exists import Exists
from reconciler.model.manifest import AnyPaged, Manifest, paging_of
from reconciler.model.request import PAGE_TOKEN, CountUp, More
from reconciler.model.scope import Layer, Scope, walk
from reconciler.requests.render import render
from reconciler.requests.url import escape
from reconciler.transports.address import HTTP, locate
from reconciler.transports.answer import Response
from reconciler.transports.request import RenderedRequest

__all__ = ["PageTurner", "first_page"]


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
