from __future__ import annotations

from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.model.errors import Blocked
from reconciler.model.scope import Layer, Scope
from reconciler.requests.template import render_url
from reconciler.transports.address import parse

VALUES = {
    "email": "o'brien+x@example.com",
    "ODD": 'a/b?c#d%20 e"é&=',
    "HOST": "acme.example:8443",
    "SUB": "acme",
    "SIX": "[::1]:80",
    "IDN": "bücher",
    "BASE": "https://acme.example/v1%20x",
    "ORIGIN": "https://acme.example",
    "BARE": "acme.example",
    "DOT": ".",
    "DOTS": "..",
    "EMPTY": "",
    "NONE": [],
    "UP": "https://acme.example/a/..",
    "PATH": "acme.example/x",
    "AT": "user@acme.example",
    "TOKENS": ["a", "b"],
    "ORG": "123456",
    "KEY": "https://acme.example/s3cret",
    "KEYHOST": "https://acme.example/",
    "JUNK": "not a url",
    "LOGIN": "https://user:s3cret@acme.example/x",
}
SECRET = frozenset({"ORG", "KEY", "KEYHOST", "JUNK", "LOGIN", "SUB"})
SCOPE = Scope((Layer("x", VALUES, SECRET),), frozenset({"oauth", "responses"}))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://x.example/users/{{email}}", "https://x.example/users/o%27brien%2Bx%40example.com"),
        ("https://x.example/{{ODD}}", "https://x.example/a%2Fb%3Fc%23d%2520%20e%22%C3%A9%26%3D"),
        ("https://x.example/?q={{ODD}}", "https://x.example/?q=a%2Fb%3Fc%23d%2520%20e%22%C3%A9%26%3D"),
        ("https://x.example/{{TOKENS}}", "https://x.example/a%2Cb"),
        ("https://{{HOST}}/x", "https://acme.example:8443/x"),
        ("https://{{SUB}}.okta.example/x", "https://acme.okta.example/x"),
        ("https://{{SIX}}/x", "https://[::1]:80/x"),
        ("https://{{IDN}}.example/x", "https://xn--bcher-kva.example/x"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("{{BASE}}/users/{{email}}", "https://acme.example/v1%20x/users/o%27brien%2Bx%40example.com"),
        ("{{ORIGIN}}/a b", "https://acme.example/a%20b"),
        ("{{ORIGIN}}.au/x", "https://acme.example.au/x"),
        ("  https://x.example/a \n", "https://x.example/a"),
        (
            'https://x.example/scim?filter=userName eq "{{email}}"',
            "https://x.example/scim?filter=userName%20eq%20%22o%27brien%2Bx%40example.com%22",
        ),
        ("https://x.example/a%20b%2F%zz%?q=[1]&a+b='x'", "https://x.example/a%20b%2F%25zz%25?q=[1]&a+b='x'"),
        ("https://x.example/a/../b/./c", "https://x.example/a/../b/./c"),
        ("https://x.example/a{{EMPTY}}/b", "https://x.example/a/b"),
        ("https://x.example/{{EMPTY}}b/?c={{EMPTY}}", "https://x.example/b/?c="),
        ("https://x.example//a/{{EMPTY}}{{responses.0.id}}/", "https://x.example//a/{{responses.0.id}}/"),
        ("https://x.example/a..{{SUB}}/b?c=..&d={{DOTS}}", "https://x.example/a..acme/b?c=..&d=.."),
        ("https://x.example/<{{SUB}}>|^`\\", "https://x.example/%3Cacme%3E%7C%5E%60%5C"),
        ("https://{{HOST}}/../{{SUB}}", "https://acme.example:8443/../acme"),
        ("https://x.example/{{responses.0.id}}/{{SUB}}", "https://x.example/{{responses.0.id}}/acme"),
        ("{{oauth.instance_url}}/a b/{{ORG}}", "{{oauth.instance_url}}/a%20b/123456"),
    ],
)
def test_a_url(text, url):
    assert render_url(text, SCOPE).text == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://x.example/{{DOT}}", r"\{\{DOT\}\} would make a part of the URL's path '\.'"),
        ("https://x.example/{{DOTS}}/x", "DOTS"),
        ("https://x.example/a/{{DOTS}}?q", "DOTS"),
        ("https://x.example/{{DOT}}{{DOT}}/x", "DOT"),
        ("https://x.example/.{{DOT}}/x", "DOT"),
        ("https://x.example/%2e{{DOT}}/x", "DOT"),
        ("https://x.example/.{{EMPTY}}/x", "EMPTY"),
        ("https://x.example/{{EMPTY}}../x", "EMPTY"),
        ("https://x.example/users/{{EMPTY}}", r"\{\{EMPTY\}\} is empty, and would leave a part of the URL's path out"),
        ("https://x.example/users/{{EMPTY}}?q={{EMPTY}}", "EMPTY"),
        ("https://x.example/users/{{EMPTY}}/teams", "EMPTY"),
        ("https://x.example/users/{{NONE}}{{EMPTY}}#x", "NONE"),
        ("{{ORIGIN}}/{{EMPTY}}/x", "EMPTY"),
        ("{{UP}}/x", "UP"),
        ("{{ORIGIN}}/{{DOTS}}", "DOTS"),
        ("https://{{PATH}}/x", "PATH.*not a host"),
        ("https://{{AT}}/x", "AT.*not a host"),
        ("https://{{EMPTY}}/x", "EMPTY.*not a host"),
        ("https://{{BASE}}/x", "BASE.*not a host"),
        ("https://x.example{{ODD}}/x", "ODD.*not a host"),
        ("https://a..b.é/x", "not a name that a host can have"),
    ],
)
def test_a_url_that_a_value_would_bend_is_blocked(text, says):
    with pytest.raises(Blocked, match=says):
        render_url(text, SCOPE)


@pytest.mark.parametrize("query", ["q={{EMPTY}}", "a=b&q={{EMPTY}}", "q={{EMPTY}}&a={{ORG}}", "q={{EMPTY}}#x"])
def test_a_query_that_would_ask_for_everybody_is_blocked(query: str) -> None:
    url = f"https://x.example/users?{query}"
    assert "q=" in render_url(url, SCOPE).text, "as a request that makes something may have it"
    with pytest.raises(Blocked, match=r"EMPTY.* is empty, and the URL's query would ask for every account"):
        render_url(url, SCOPE, selects=True)


@pytest.mark.parametrize("query", ["q={{ORG}}", "q=x{{EMPTY}}", "q={{EMPTY}}x", "filter=a eq '{{EMPTY}}'", "q="])
def test_a_query_that_asks_for_something(query: str) -> None:
    url = f"https://x.example/users?{query}"
    assert render_url(url, SCOPE, selects=True) == render_url(url, SCOPE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://x.example/{{ORG}}/{{email}}", "https://x.example/***/o%27brien%2Bx%40example.com"),
        ("https://{{SUB}}.okta.example/{{SUB}}", "https://acme.okta.example/***"),
        ("{{KEY}}/users", "https://acme.example/***/users"),
        ("{{KEYHOST}}users", "https://acme.example/users"),
        ("{{ORIGIN}}/users", "https://acme.example/users"),
        ("{{JUNK}}/users", "***/users"),
        ("{{LOGIN}}/users", "***/users"),
        ("https://x.example/{{responses.0.id}}", "https://x.example/{{responses.0.id}}"),
        ("{{oauth.url}}/x", "{{oauth.url}}/x"),
    ],
)
def test_shown_parts_of_a_url(text, shown):
    made = render_url(text, SCOPE)
    assert made.shown == shown
    assert "s3cret" not in repr(made)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.example/",
        "x.example/a",
        "//x.example/a",
        "https:/x.example",
        "https://",
        "https:///x",
        "https://user@x.example/",
        "https://user:pw@x.example/",
        "https://good.example\\@evil.example/",
        "https://good.example%5C@evil.example/",
        "https://good.example@evil.example/",
        "https://x.example:0/",
        "https://x.example:65536/",
        "https://x.example:8 0/",
        "https://[::g]/",
        "https://[1:2]/",
        "https://x y/",
        "https://x.example/a b",
        "https://x.example/é",
        "https://x.example/\r\nHost: y",
        "https://x.example\r\n/",
        "javascript:alert(1)",
        "",
        f"https://{'a' * 254}/",
    ],
)
def test_invalid_urls_are_refused(url):
    assert parse(url) is None


@pytest.mark.parametrize(
    ("url", "host", "port", "target", "name"),
    [
        ("HTTPS://X.Example/A?b#c", "x.example", 443, "/A?b", "x.example"),
        ("http://x.example", "x.example", 80, "/", "x.example"),
        ("https://x.example:443/", "x.example", 443, "/", "x.example"),
        ("https://x.example:/", "x.example", 443, "/", "x.example"),
        ("https://x.example:8443?a=b", "x.example", 8443, "/?a=b", "x.example:8443"),
        ("http://[0:0::1]:81/", "[::1]", 81, "/", "[::1]:81"),
        ("https://x.example/a@b:c//", "x.example", 443, "/a@b:c//", "x.example"),
    ],
)
def test_an_address(url, host, port, target, name):
    address = parse(url)
    assert address is not None
    assert (address.host, address.port, address.target, address.name) == (host, port, target, name)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT, TEXT)
def test_a_value_stays_in_its_segment_and_in_its_parameter(one, two):
    assume(one not in {"", ".", ".."})
    scope = Scope((Layer("x", {"one": one, "two": two}),))
    address = parse(render_url("https://x.example/a/{{one}}/b?p={{two}}&q=1", scope).text)
    assert address is not None
    assert address.origin == ("https", "x.example", 443)
    path, _, query = address.target.partition("?")
    assert [unquote(part) for part in path.split("/")] == ["", "a", one, "b"]
    assert parse_qs(query, keep_blank_values=True) == {"p": [two], "q": ["1"]}


@given(TEXT)
def test_a_value_in_the_host_part_is_a_host_or_blocked(value):
    scope = Scope((Layer("x", {"h": value}),))
    try:
        url = render_url("https://{{h}}.example/x", scope).text
    except Blocked:
        return
    address = parse(url)
    assert address is None or (address.host.endswith(".example") and address.target == "/x")
