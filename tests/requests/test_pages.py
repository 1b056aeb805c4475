from __future__ import annotations

import json
import time

import pytest

from reconciler.model.errors import HostNotAllowed, MissingVariable, TransportError
from reconciler.model.form import FormField
from reconciler.model.manifest import Manifest
from reconciler.model.request import Listing
from reconciler.model.scope import Layer, Scope
from reconciler.requests import pages
from reconciler.requests.pages import Option, items, options
from tests.requests.conftest import reply

pytestmark = pytest.mark.anyio

MANIFEST = Manifest.model_validate({"headers": {"X-Api-Key": "{{KEY}}"}})
SCOPE = Scope((Layer("x", {"KEY": "s3cret-key", "ORG": "org-123"}, frozenset({"KEY", "ORG"})),))


def page(content: object, status: int = 200, **headers: str) -> bytes:
    return reply(status, json.dumps(content).encode(), **headers)


def listing(loopback, **more) -> Listing:
    given = {"url": f"{loopback.url}/{{{{ORG}}}}/users", "data_from": "data", "match": "email", **more}
    return Listing.model_validate(given)


async def read(client, call, scope: Scope = SCOPE) -> list:
    return [item async for item in items(client, call, scope, MANIFEST)]


async def test_one_page(loopback, connect):
    loopback.replies = [page({"data": [1, 2]})]
    assert await read(connect("127.0.0.1"), listing(loopback)) == [1, 2]
    assert loopback.requests[0].line == "GET /org-123/users HTTP/1.1"


async def test_the_answer_itself_may_be_the_list(loopback, connect):
    loopback.replies = [page([1])]
    assert await read(connect("127.0.0.1"), listing(loopback, data_from="")) == [1]


@pytest.mark.parametrize("end", [{}, {"next": {"uri": None}}, {"next": {"uri": ""}}, {"next": None}])
async def test_whole_next_urls(loopback, connect, end):
    loopback.replies = [
        page({"data": [1], "next": {"uri": f"{loopback.url}/second?offset=a%2Bb c"}}),
        page({"data": [2], "next": {"uri": "third"}}),
        page({"data": [3], **end}),
    ]
    call = listing(loopback, next_page_from="next.uri")
    assert await read(connect("127.0.0.1"), call) == [1, 2, 3]
    assert [raw.target for raw in loopback.requests] == ["/org-123/users", "/second?offset=a%2Bb%20c", "/third"]
    assert {raw.fields["x-api-key"] for raw in loopback.requests} == {b"s3cret-key"}


async def test_tokens(loopback, connect):
    loopback.replies = [page({"data": [1], "n": "a/b="}), page({"data": [2], "n": 5}), page({"data": [3], "n": ""})]
    call = listing(
        loopback, next_page_token_from="n", next_page=f"{loopback.url}/{{{{ORG}}}}/users?token={{{{NEXT_PAGE_TOKEN}}}}"
    )
    assert await read(connect("127.0.0.1"), call) == [1, 2, 3]
    assert [raw.target for raw in loopback.requests[1:]] == ["/org-123/users?token=a%2Fb%3D", "/org-123/users?token=5"]


async def test_a_page_never_takes_the_headers_to_a_host_that_is_not_allowed(loopback, connect):
    loopback.replies = [page({"data": [1], "next": f"http://localhost:{loopback.port}/steal"})]
    call = listing(loopback, next_page_from="next")
    with pytest.raises(TransportError, match=r"page 2: the manifests of acme: host localhost:\d+ is not allowed"):
        await read(connect("127.0.0.1"), call)
    assert len(loopback.requests) == 1


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        ({"status_code": [203, "404"]}, 404, None),
        ({"status_code": [203]}, 200, "page 1 answered 200, expected 203"),
        ({"fail_when_4xx_response_code": False}, 404, None),
        ({"fail_when_4xx_response_code": False}, 401, "page 1 answered 401"),
    ],
)
async def test_which_statuses_a_page_may_have(loopback, connect, more, status, says):
    field = {"id": "F", "type": "choice", "url": f"{loopback.url}/{{{{ORG}}}}", "method": "GET", "data_from": "data"}
    for call in (listing(loopback, **more), FormField.model_validate({**field, **more})):
        loopback.replies = [page({"data": [1]}, status)]
        if says is None:
            assert await read(connect("127.0.0.1"), call) == [1]
        else:
            with pytest.raises(TransportError, match=says):
                await read(connect("127.0.0.1"), call)


async def test_a_page_is_signed(loopback, connect):
    loopback.replies = [page({"data": [1]})]
    scope = SCOPE.over(Layer("y", {"API_TOKEN": "t", "API_SECRET": "s3cret"}))
    assert await read(connect("127.0.0.1"), listing(loopback, extra_headers="pritunl"), scope) == [1]
    assert loopback.requests[0].fields["auth-token"] == b"t"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (page({"data": []}, 500), "page 1 answered 500"),
        (page({"data": []}, 404), "page 1 answered 404"),
        (reply(body=b"<html>"), "page 1 is not JSON"),
        (reply(body=b"null"), "page 1 is not JSON"),
        (reply(body=b"[" + b"1," * (1 << 20)), "page 1 is longer than 1 MiB"),
        (page({"data": {"a": 1}}), "page 1 has no list at data"),
        (page({"other": []}), "page 1 has no list at data"),
        (page([1]), "page 1 has no list at data"),
        (page({"data": [], "next": {"deep": 1}}), "page 1 has no text at next"),
        (page({"data": [], "next": "http://[bad/"}), "page 1 has no URL at next"),
        (page({"data": [], "next": "javascript:x"}), "page 2: the manifests of acme: a URL does not start"),
        (page({"data": []}, 302, Location="/elsewhere-not-json-at-all"), "is not followed"),
    ],
)
async def test_a_page_that_fails(loopback, connect, answer, says):
    loopback.replies = [answer]
    with pytest.raises(TransportError, match=says) as raised:
        await read(connect("127.0.0.1"), listing(loopback, next_page_from="next"))
    assert "org-123" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


async def test_a_circle_is_an_error(loopback, connect):
    loopback.replies = [
        page({"data": [1], "next": "/a"}),
        page({"data": [2], "next": "/b"}),
        page({"data": [3], "next": "/a"}),
    ]
    with pytest.raises(TransportError, match="page 4 is one that was read before"):
        await read(connect("127.0.0.1"), listing(loopback, next_page_from="next"))
    assert len(loopback.requests) == 3


async def test_a_listing_that_never_ends_is_an_error(loopback, connect, monkeypatch):
    async def script(raw, writer):
        return page({"data": [1], "next": f"/{len(loopback.requests)}"})

    monkeypatch.setattr(pages, "MOST_PAGES", 5)
    loopback.script = script
    with pytest.raises(TransportError, match="more than 5 pages"):
        await read(connect("127.0.0.1"), listing(loopback, next_page_from="next"))


@pytest.mark.parametrize(
    ("bound", "value", "says"),
    [
        ("MOST_BYTES", 1 << 20, "more than 1 MiB by page 3: not read whole"),
        ("MOST_ITEMS", 2, "more than 2 items by page 3: not read whole"),
        ("MOST_SECONDS", -1.0, "minutes by page 1: not read whole"),
    ],
)
async def test_a_listing_takes_no_more_than_its_bounds(loopback, connect, monkeypatch, bound, value, says):
    async def script(raw, writer):
        return page({"data": ["x" * 400_000], "next": f"/{len(loopback.requests)}"})

    monkeypatch.setattr(pages, bound, value)
    loopback.script = script
    with pytest.raises(TransportError, match=says):
        await read(connect("127.0.0.1"), listing(loopback, next_page_from="next"))


@pytest.mark.parametrize("part", ["<", "<>", "<>;a=", '<>;a="', "<a>  ", "<>;a", '<a>;b="<"'])
async def test_a_hostile_link_header_costs_time_in_proportion_to_its_size(loopback, connect, part):
    lines = b"".join(b"Link: %b\r\n" % (part * (8000 // len(part))).encode() for _ in range(12))
    loopback.replies = [reply(200, b"[1]").replace(b"\r\n", b"\r\n" + lines, 1)]
    before = time.process_time()
    assert await read(connect("127.0.0.1"), listing(loopback, data_from="", next_page_from="header:Link")) == [1]
    assert time.process_time() - before < 1


async def test_a_first_page_that_cannot_be_asked_for_is_blocked(loopback, connect):
    with pytest.raises(MissingVariable):
        await read(connect("127.0.0.1"), listing(loopback), Scope())
    with pytest.raises(HostNotAllowed):
        await read(connect("other.example"), listing(loopback))


def field(loopback, **more) -> FormField:
    return FormField.model_validate({"id": "TEAM", "type": "choice", "url": f"{loopback.url}/teams", **more})


async def test_options_and_their_default_names(loopback, connect):
    loopback.replies = [page([{"id": 1, "name": "Design"}, {"id": 2}, {"id": 3, "name": ""}])]
    made = await options(connect("127.0.0.1"), field(loopback), SCOPE, MANIFEST)
    assert made == [Option(1, "Design"), Option(2, "2"), Option(3, "3")]
    assert loopback.requests[0].line == "POST /teams HTTP/1.1"


async def test_options_with_dotted_names_over_pages(loopback, connect):
    call = field(
        loopback, method="GET", data_from="d.teams", choice_value="t.gid", choice_name="t.label.en", next_page_from="n"
    )
    loopback.replies = [
        page({"d": {"teams": [{"t": {"gid": "1", "label": {"en": "One"}}}]}, "n": "/more"}),
        page({"d": {"teams": [{"t": {"gid": "2"}}]}}),
    ]
    assert await options(connect("127.0.0.1"), call, SCOPE, MANIFEST) == [Option("1", "One"), Option("2", "2")]


async def test_an_option_without_a_value_is_an_error(loopback, connect):
    loopback.replies = [page([{"id": 1}, {"gid": 2}])]
    with pytest.raises(TransportError, match="form TEAM: option 2 has no id"):
        await options(connect("127.0.0.1"), field(loopback), SCOPE, MANIFEST)


# A Link header, a parameter that counts, a token in the data


@pytest.mark.parametrize(
    "link",
    [
        '<{}>; rel="next", </last>; rel="last"',
        '</first>; rel=first, <{}>; title="a, b; rel=x"; rel="prefetch next"',
        "<{}>;REL=Next",
    ],
)
async def test_a_link_header_leads_on(loopback, connect, link):
    target = f"{loopback.url}/elsewhere?a=1"
    loopback.replies = [page([1], link=link.format(target)), page([2], link="</first>; rel=first")]
    call = listing(loopback, data_from="", next_page_from="header:Link")
    assert await read(connect("127.0.0.1"), call) == [1, 2]
    assert [raw.target for raw in loopback.requests] == ["/org-123/users", "/elsewhere?a=1"]


async def test_empty_next_page_ends_reading(loopback, connect):
    loopback.replies = [
        page([1], link='</prev>; rel="previous"; results="false", </second>; rel="next"; results="true"'),
        page([2], link='</first>; rel="previous"; results="true", </third>; rel="next"; results="false"'),
    ]
    call = listing(loopback, data_from="", next_page_from="header:Link")
    assert await read(connect("127.0.0.1"), call) == [1, 2]
    assert [raw.target for raw in loopback.requests] == ["/org-123/users", "/second"]


async def test_a_link_header_leads_to_no_other_host(loopback, connect):
    loopback.replies = [page([1], link='<http://127.0.0.2:9/>; rel="next"')]
    with pytest.raises(TransportError, match=r"page 2: .*not allowed"):
        await read(connect("127.0.0.1"), listing(loopback, data_from="", next_page_from="header:Link"))


def counting(loopback, **count):
    return listing(loopback, count_up={"parameter": "startIndex", **count})


async def test_an_offset_counts_from_the_first_page_on_up_to_the_total(loopback, connect):
    loopback.replies = [page({"data": [1, 2], "total": 3}), page({"data": [3], "total": "3"})]
    call = counting(loopback, first=1, step=2, total_from="total")
    assert await read(connect("127.0.0.1"), call) == [1, 2, 3]
    assert [raw.target for raw in loopback.requests] == [f"/org-123/users?startIndex={at}" for at in (1, 3)]


async def test_pages_count_up_to_an_empty_one(loopback, connect):
    loopback.replies = [page({"data": [1]}), page({"data": [2]}), page({"data": []})]
    call = listing(loopback, url=f"{loopback.url}/users?a=b&page=9", count_up={"parameter": "page", "first": 0})
    assert await read(connect("127.0.0.1"), call) == [1, 2]
    assert [raw.target for raw in loopback.requests] == [f"/users?a=b&page={at}" for at in (0, 1, 2)]


async def test_a_page_that_equals_the_one_before_is_a_failed_page(loopback, connect):
    loopback.replies = [page({"data": [1]})]
    with pytest.raises(TransportError, match="page 2 equals the one before"):
        await read(connect("127.0.0.1"), counting(loopback))
    assert len(loopback.requests) == 2


async def test_a_total_that_is_no_number_is_a_failed_page(loopback, connect):
    loopback.replies = [page({"data": [1], "total": None})]
    with pytest.raises(TransportError, match="no number at total"):
        await read(connect("127.0.0.1"), counting(loopback, total_from="total"))


@pytest.mark.parametrize(
    "data",
    [
        {"query": "users", "variables": {"after": "{{NEXT_PAGE_TOKEN}}", "org": "{{ORG}}"}},
        '{"query": "users", "variables": {"after": "{{ NEXT_PAGE_TOKEN }}", "org": "{{ORG}}"}}',
        '{"query": "users", "variables": {"after": {{NEXT_PAGE_TOKEN}}, "org": {{ORG}}}}',
    ],
)
async def test_a_token_in_the_data_is_null_on_the_first_page(loopback, connect, data):
    loopback.replies = [page({"data": [1], "next": "c2"}), page({"data": [2], "next": None})]
    call = listing(loopback, method="POST", data=data, next_page_token_from="next")
    assert await read(connect("127.0.0.1"), call) == [1, 2]
    bodies = [json.loads(raw.body) for raw in loopback.requests]
    assert [body["variables"] for body in bodies] == [
        {"after": None, "org": "org-123"},
        {"after": "c2", "org": "org-123"},
    ]


async def test_a_token_that_does_not_change_is_a_page_that_was_read_before(loopback, connect):
    loopback.replies = [page({"data": [1], "next": "c2"})]
    call = listing(loopback, method="POST", data={"after": "{{NEXT_PAGE_TOKEN}}"}, next_page_token_from="next")
    with pytest.raises(TransportError, match="read before"):
        await read(connect("127.0.0.1"), call)


@pytest.mark.parametrize("end", [{"more": False}, {"more": None}, {}])
async def test_a_flag_says_that_there_is_more_and_a_value_where(loopback, connect, end):
    loopback.replies = [
        page({"data": [{"id": "a b"}, {"id": "b&c"}], "more": True}),
        page({"data": [{"id": 7}], "more": True}),
        page({"data": [{"id": "z"}], **end}),
    ]
    call = listing(loopback, next_page_from={"more": "more", "parameter": "after", "from": "data.-1.id"})
    assert [item["id"] for item in await read(connect("127.0.0.1"), call)] == ["a b", "b&c", 7, "z"]
    places = ["/org-123/users", "/org-123/users?after=b%26c", "/org-123/users?after=7"]
    assert [raw.target for raw in loopback.requests] == places


@pytest.mark.parametrize(
    ("second", "why"),
    [({"data": [], "more": True}, "no text at data.-1.id"), ({"data": [{"id": "a"}], "more": True}, "read before")],
)
async def test_more_that_leads_nowhere_is_a_failed_page(loopback, connect, second, why):
    loopback.replies = [page({"data": [{"id": "a"}], "more": True}), page(second)]
    call = listing(loopback, next_page_from={"more": "more", "parameter": "after", "from": "data.-1.id"})
    with pytest.raises(TransportError, match=why):
        await read(connect("127.0.0.1"), call)
