"""Which part of a check a request is: the check itself, whether the service is ready, invitations, the listing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import StrEnum

from reconciler.engine.observe.integrations import Integration
from reconciler.model.errors import Blocked
from reconciler.model.scope import Scope
from reconciler.requests.pages import first_page
from reconciler.requests.render import render
from reconciler.transports.request import RenderedRequest
from reconciler.workshop.canned import Exchange, same_url

__all__ = ["Part", "parts_asked"]


class Part(StrEnum):
    """A part of a check that sends requests of its own, as the manifest's key."""

    CHECK = "exists"
    READY = "exists.ready"
    PENDING = "exists.pending"
    LISTING = "exists.list"
    OTHER = "another request"


def parts_asked(integration: Integration, scope: Scope, exchanges: Iterable[Exchange]) -> tuple[Part, ...]:
    """Return which part each exchange is of, in their order; `scope` is the grant's.

    A page further on has another URL, of the same path or not: it is of the part before it.
    """
    firsts = dict(_first_requests(integration, scope.now()))
    exists = integration.manifest.exists
    paged = {Part.PENDING, Part.LISTING} | ({Part.CHECK} if exists is not None and exists.pages is not None else set())
    found: list[Part] = []
    for exchange in exchanges:
        wire, before = exchange.request, found[-1] if found else Part.OTHER
        exact = [part for part, first in firsts.items() if _same(first, wire)]
        near = [part for part, first in firsts.items() if first.method == wire.method and _path(first) == _path(wire)]
        if exact:
            found.append(exact[0])
        elif before in paged and (before in near or not near):
            found.append(before)
        else:
            found.append(near[0] if near else Part.OTHER)
    return tuple(found)


def _first_requests(integration: Integration, scope: Scope) -> Iterator[tuple[Part, RenderedRequest]]:
    manifest = integration.manifest
    exists = manifest.exists
    if exists is None:
        return
    renders: dict[Part, Callable[[], RenderedRequest]] = {
        Part.CHECK: lambda: first_page(exists, scope, manifest),
    }
    if (ready := exists.ready) is not None:
        renders[Part.READY] = lambda: render(ready, scope, manifest)
    if (pending := exists.pending) is not None:
        renders[Part.PENDING] = lambda: first_page(pending, scope, manifest)
    if (listing := exists.listing) is not None:
        renders[Part.LISTING] = lambda: first_page(listing, scope, manifest)
    for part, rendered in renders.items():
        with suppress(Blocked):
            yield part, rendered()


def _same(one: RenderedRequest, other: RenderedRequest) -> bool:
    return one.method == other.method and same_url(one.url, other.url) and one.content == other.content


def _path(wire: RenderedRequest) -> str:
    return wire.url.partition("?")[0]
