"""Every request of the ready manifests, compared with the vendors' own descriptions where these are at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.gallery.catalog import everything
from reconciler.model.manifest import AnyPaged, Manifest
from reconciler.model.request import Exists, Paged
from reconciler.requests.pages import PageTurner, first_page
from reconciler.requests.render import render
from reconciler.transports.messages import RenderedRequest, Response
from tests.gallery import samples
from tests.gallery.services import SERVICES
from tests.gallery.slices import needs_slices, slice_of


def requests(manifest: Manifest, form: dict[str, Any]) -> Iterator[tuple[str, RenderedRequest]]:
    """Every request that the manifest can send to the API, by its place in the file; of a listing two pages."""
    scope = samples.scope(manifest, form)
    for place, call in manifest.calls():
        if place.startswith("oauth."):
            continue
        paging = call.pages if isinstance(call, Exists) else call if isinstance(call, Paged) else None
        if paging is not None and paging.next_page is not None:
            yield place, render(call.model_copy(update={"url": paging.next_page}), scope, manifest)
        if not isinstance(call, AnyPaged | Exists):
            yield place, render(call, scope, manifest)
            continue
        first = first_page(call, scope, manifest)
        yield place, first
        if paging is not None and paging.count_up is not None:
            turner = PageTurner(call, first, scope, manifest)
            total = {paging.count_up.total_from: 1_000_000} if paging.count_up.total_from else {}
            second = turner.turn(Response(200, content=json.dumps(total).encode()), [{}])
            assert second is not None
            yield place, second


@needs_slices
@pytest.mark.filterwarnings("ignore:Use of .* property is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_request_is_as_the_service_describes_it(name: str) -> None:
    manifest, described = everything()[name].manifest, SERVICES[name]
    found = []
    for form in samples.choices(manifest):
        for place, wire in requests(manifest, form):
            assert wire.url.startswith(described.base), f"{place} goes to {wire.url}"
            kind = next((value for key, value in wire.headers if key.lower() == "content-type"), "")
            target = wire.url.removeprefix(described.base)
            problems = slice_of(described.slice).problems(wire.method, target, wire.content, kind)
            found += [f"{place}: {problem}" for problem in problems]
    assert sorted(set(found)) == []


def test_manifest_that_follows_a_description_is_compared_with_it() -> None:
    claimed = {name for name, ready in everything().items() if ready.head["verified"] == "description"}
    assert claimed - SERVICES.keys() == set()
    assert SERVICES.keys() - everything().keys() == set()


@needs_slices
@pytest.mark.parametrize(
    ("method", "target", "content", "told"),
    [
        ("GET", "/orgs/acme/nothing", None, "is no operation"),
        ("GET", "/orgs/acme/members?per_page=many", None, "per_page"),
        ("GET", "/orgs/acme/members?per_pages=10", None, "unknown query parameter per_pages"),
        ("PUT", "/orgs/acme/memberships/ada", b'{"role": "owner"}', "owner"),
        ("PUT", "/orgs/acme/memberships/ada", b'{"roles": "admin"}', "unknown field roles"),
        ("DELETE", "/orgs/acme/memberships/ada", b'{"role": "admin"}', "takes no body"),
    ],
)
def test_a_request_that_is_not_as_described_is_noticed(method, target, content, told) -> None:
    problems = slice_of("github").problems(method, target, content, "application/json")
    assert any(told in each for each in problems), problems
