"""What is known to be renderable is, and a request that is filled in is the one that would be rendered."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.errors import Blocked
from reconciler.model.manifest import Manifest
from reconciler.model.request import Exists
from reconciler.model.scope import Layer, Scope
from reconciler.requests.render import Rehearsal, render

MANIFEST = Manifest.model_validate(
    {
        "headers": {"Accept": "application/json", "Authorization": "Bearer {{TOKEN}}"},
        "execute": [{"url": "https://x.example"}],
    }
)
URLS = [
    "https://x.example/users/{{email}}",
    " https://x.example/é%/{{extra.TEAM}}/.{{email}}?q=%25{{email}}&x=%s ",
    "https://X.example:8443/{{USER}}?a={{extra.TEAM}}",
    "https://{{email}}.example/users/{{extra.TEAM}}",
    "https://x.example/%2{{extra.TEAM}}/.{{email}}/",
    "https://x.example/users",
    "https://x.example/{{USER}}/%s/{{email}}",
    "https://x.example/{{TOKEN}}/{{email}}",
]
MORE = [
    {},
    {"headers": {"X-Who": "{{email}}"}},
    {"headers": {"X-Token": "{{oauth.access_token}}"}},
    {"method": "POST", "data": {"email": "{{email}}"}},
    {"status_code": [200, 404]},
    {"quote": "odata"},
]
PLAIN = st.text("abcAZ019@._+-", max_size=8)
VALUES = st.one_of(
    PLAIN, PLAIN, st.text(max_size=8), st.sampled_from(["", ".", "..", "a/../b", "%2e", "a'b"]), st.none()
)


def outcome(made: Any, scope: Scope) -> Any:
    try:
        return made(scope)
    except Blocked as error:
        return str(error)


@given(
    st.sampled_from(URLS),
    st.sampled_from(MORE),
    st.sampled_from(["me", "m@e", "a b", "é", "100%", ""]),
    st.lists(st.tuples(VALUES, VALUES, st.booleans()), min_size=2, max_size=5),
)
def test_what_is_known_to_be_renderable_is_and_filled_in_as_it_is_rendered(
    url: str, more: dict[str, Any], user: str, grants: list[tuple[Any, Any, bool]]
) -> None:
    call = Exists.model_validate({"url": url, "expected": "x", **more})
    rehearsal = Rehearsal(call, MANIFEST, {"TOKEN", "USER"}, {"oauth"})
    own = Layer("initial data", {"TOKEN": "t0ken-1", "USER": user}, frozenset({"TOKEN"}))
    for place, (email, team, secret) in enumerate(grants):
        oauth = Layer("oauth", {"oauth": {"access_token": f"token-{place}"}})
        hire = Layer("hires/a.yaml", {"email": email, "extra": {"TEAM": team}}, frozenset({"email"} if secret else ()))
        rendered = partial(render, call, manifest=MANIFEST)
        scope = Scope((oauth, own, hire)).now()
        made, whole = outcome(partial(rehearsal.rendered, render=rendered), scope), outcome(rendered, scope)
        assert made == whole or (made is None and not isinstance(whole, str))
        assert outcome(partial(rehearsal.filled, render=rendered), scope) == whole


@pytest.mark.parametrize(
    ("url", "more", "renders", "fills"),
    [(URLS[0], MORE[0], 1, 1), (URLS[3], {}, 3, 3), (URLS[0], MORE[2], 1, 3), (URLS[6], {}, 1, 1)],
)
def test_request_is_rendered_once_for_all_grants_with_plain_values(
    url: str, more: dict[str, Any], renders: int, fills: int
) -> None:
    call = Exists.model_validate({"url": url, "expected": "x", **more})
    rehearsal, rendered = Rehearsal(call, MANIFEST, {"TOKEN", "USER"}, {"oauth"}), list[Scope]()

    def once(scope: Scope) -> Any:
        rendered.append(scope)
        return render(call, scope, MANIFEST)

    for times, method in ((renders, rehearsal.rendered), (fills, rehearsal.filled)):
        rendered.clear()
        for email in ("ada", "bob", "eve"):
            values = {"email": email, "extra": {"TEAM": "a"}, "TOKEN": "t", "USER": "m@e"}
            method(Scope((Layer("all", {**values, "oauth": {"access_token": "t"}}),)).now(), once)
        assert len(rendered) == times
