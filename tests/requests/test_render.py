from __future__ import annotations

import json
from datetime import date
from email import message_from_bytes
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.errors import Blocked, MissingVariable
from reconciler.model.form import FormField
from reconciler.model.manifest import Manifest
from reconciler.model.request import Exists, Pending, Request, Revoke
from reconciler.model.scope import Layer, Scope
from reconciler.requests.render import canonical, expected, outline, question, render
from tests.timing import at_most

MANIFEST = Manifest.model_validate(
    {
        "headers": {"Accept": "application/json", "Authorization": "Bearer {{TOKEN}}"},
        "initial_data_form": [{"id": "PASSWORD", "name": "generate"}],
        "execute": [{"url": "https://x.example", "store_data": {"account": "id"}}],
    }
)
HIRE = Layer("hires/ada.yaml", {"email": "ada@example.com", "start": date(2026, 12, 1), "TEAMS": ["1", "2"], "N": 3,
                                "Q": 'a"b\\\n&=', "NAME": "Zoë"})  # fmt: skip
SECRETS = Layer("initial data", {"TOKEN": "t0ken-1", "USER": "me", "KEY": "s3cret-key", "BAD": "a\r\nX-Evil: 1"},
                frozenset({"TOKEN", "USER", "KEY", "BAD"}))  # fmt: skip
SCOPE = Scope((HIRE, SECRETS), frozenset({"oauth", "responses", "PASSWORD", "account", "redirect_url"}))
FORM = "application/x-www-form-urlencoded"
NEEDED: dict[type, Any] = {Exists: {"expected": "x"}, Pending: {"match": "email"}}


def call(**more) -> Request:
    return Request.model_validate({"url": "https://x.example/{{email}}", **more})


def headers(**given: str) -> dict[str, str]:
    wire = render(call(headers={name.replace("_", "-"): value for name, value in given.items()}), SCOPE, MANIFEST)
    return dict(wire.headers)


def test_default_headers_and_a_requests_own():
    assert dict(render(call(), SCOPE, MANIFEST).headers) == {
        "Accept": "application/json",
        "Authorization": "Bearer t0ken-1",
    }
    assert headers(X="1") == {"X": "1"}
    assert "Accept" in dict(render(call(headers={}), SCOPE, MANIFEST).headers)


@pytest.mark.parametrize(
    ("kind", "method", "blocks"),
    [
        (Exists, "GET", True),
        (Exists, "POST", True),
        (Pending, "GET", True),
        (Request, "GET", True),
        (Request, "DELETE", True),
        (Revoke, "POST", True),
        (Revoke, "PUT", True),
        (Request, "POST", False),
        (Request, "PUT", False),
        (Request, "PATCH", False),
    ],
)
def test_what_finds_or_removes_an_account_asks_for_no_empty_value(
    kind: type[Exists | Pending | Request], method: str, *, blocks: bool
) -> None:
    """A service would answer with everybody, and the first of them be taken for the person."""
    given = {"url": "https://x.example/users?email={{NOBODY}}", "method": method}
    asks = kind.model_validate(given | NEEDED.get(kind, {}))
    scope = SCOPE.over(Layer("hires/ada.yaml (extra)", {"NOBODY": ""}))
    if blocks:
        with pytest.raises(Blocked, match=r"variable \{\{NOBODY\}\} is empty"):
            render(asks, scope, MANIFEST)
    else:
        assert render(asks, scope, MANIFEST).url == "https://x.example/users?email="


@pytest.mark.parametrize(
    ("kind", "method", "blocks"),
    [
        (Exists, "POST", True),
        (Pending, "POST", True),
        (Request, "GET", True),
        (Request, "DELETE", True),
        (Revoke, "POST", True),
        (Revoke, "PATCH", True),
        (Revoke, "PUT", False),
        (Request, "POST", False),
    ],
)
@pytest.mark.parametrize(
    ("data", "headers"),
    [
        ({"query": {"by": ["{{NOBODY}}"]}}, {}),
        ("{{NOBODY}}", {}),
        ('{"query": {{NOBODY}}, "page": 1}', {}),
        ("page=1&email={{NOBODY}}", {"Content-Type": FORM}),
        ({"email": "{{NOBODY}}"}, {"Content-Type": FORM}),
        ({"email": "{{NOBODY}}"}, {"Content-Type": "multipart/form-data"}),
    ],
)
def test_what_finds_or_removes_an_account_has_no_empty_value_in_its_data(
    kind: type[Exists | Pending | Request], method: str, data: Any, headers: dict[str, str], *, blocks: bool
) -> None:
    given = {"url": "https://x.example/search", "method": method, "data": data, "headers": headers}
    asks = kind.model_validate(given | NEEDED.get(kind, {}))
    scope = SCOPE.over(Layer("hires/ada.yaml (extra)", {"NOBODY": ""}))
    if blocks:
        with pytest.raises(
            Blocked, match=r"variable \{\{NOBODY\}\} is empty, and the data would ask for every account"
        ):
            render(asks, scope, MANIFEST)
    else:
        assert render(asks, scope, MANIFEST).content is not None


@pytest.mark.parametrize(
    "data", [{"query": "email:{{NOBODY}}", "flag": ""}, "email:{{NOBODY}}", {"query": "{{email}}", "teams": "{{NONE}}"}]
)
def test_what_is_in_part_empty_is_asked_for(data: Any) -> None:
    asks = Exists.model_validate({"url": "https://x.example/", "method": "POST", "data": data, "expected": "x"})
    scope = SCOPE.over(Layer("hires/ada.yaml (extra)", {"NOBODY": "", "NONE": []}))
    assert render(asks, scope, MANIFEST).content


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("Basic {{USER}}:{{KEY}}", "Basic bWU6czNjcmV0LWtleQ=="),
        ("basic {{ USER }}:{{ KEY }}", "basic bWU6czNjcmV0LWtleQ=="),
        ("Basic {{NAME}}:", "Basic Wm/Dqzo="),
        ("Basic {{USER}}", "Basic bWU="),
        ("Basic user:pass", "Basic dXNlcjpwYXNz"),
        ("Basic dXNlcjpwYXNz", "Basic dXNlcjpwYXNz"),
        ("Bearer {{USER}}:{{KEY}}", "Bearer me:s3cret-key"),
        ("{{KEY}}", "s3cret-key"),
    ],
)
def test_authorization(template, value):
    assert headers(Authorization=template) == {"Authorization": value}


def test_headers_may_have_placeholders_in_their_names():
    assert render(call(headers={"X-{{USER}}": "{{NAME}}"}), SCOPE, MANIFEST).headers == (("X-me", "Zoë"),)


@pytest.mark.parametrize("given", [{"X": "{{BAD}}"}, {"X-{{BAD}}": "1"}, {"": "1"}, {"X Y": "1"}, {"X": "a\0b"}])
def test_a_header_that_would_end_early_is_blocked(given):
    with pytest.raises(Blocked) as raised:
        render(call(headers=given), SCOPE, MANIFEST)
    assert "Evil" not in str(raised.value)


def test_framing_headers_are_the_clients():
    assert headers(Host="evil.example", Content_Length="3", Transfer_Encoding="chunked", Accept_Encoding="br") == {}


# Data


@pytest.mark.parametrize(
    ("given", "data", "content", "content_type"),
    [
        ({}, {"u": "{{email}}", "t": "{{TEAMS}}"}, b'{"u": "ada@example.com", "t": ["1", "2"]}', "application/json"),
        ({}, ["{{Q}}"], b'["a\\"b\\\\\\n&="]', "application/json"),
        ({"Content-Type": "application/scim+json"}, {"n": "{{N}}"}, b'{"n": 3}', "application/scim+json"),
        ({"content-type": "text/plain"}, "Hi {{email}}", b"Hi ada@example.com", "text/plain"),
        ({"Content-Type": "text/xml"}, "<a>{{NAME}}</a>", "<a>Zoë</a>".encode(), "text/xml"),
        ({"Content-Type": FORM}, {"u": "{{Q}}", "t": "{{TEAMS}}", "n": None, "b": True},
         b"u=a%22b%5C%0A%26%3D&t=1&t=2&b=true", FORM),
        ({"Content-Type": FORM}, "u={{Q}}&plain=x y", b"u=a%22b%5C%0A%26%3D&plain=x y", FORM),
        ({"Content-Type": f"{FORM}; charset=utf-8"}, {"a": "{{NAME}}"}, b"a=Zo%C3%AB", f"{FORM}; charset=utf-8"),
        ({}, '{"u": "<{{Q}}>", "n": {{N}}, "t": {{ TEAMS }}}', b'{"u": "<a\\"b\\\\\\n&=>", "n": 3, "t": ["1", "2"]}',
         "application/json"),
        ({}, "{{TEAMS}}", b'["1", "2"]', "application/json"),
        ({}, "{{email}}", b"ada@example.com", "application/json"),
        ({}, '{"as": "written" , "x":1}', b'{"as": "written" , "x":1}', "application/json"),
        ({}, "no {json} for {{email}}", b"no {json} for ada@example.com", "application/json"),
        ({"Content-Type": "text/plain"}, '{"u": "{{NAME}}"}', '{"u": "Zoë"}'.encode(), "text/plain"),
    ],
)  # fmt: skip
def test_data_is_sent_as_the_content_type_says(given, data, content, content_type):
    wire = render(call(headers={"X": "1", **given}, data=data), SCOPE, MANIFEST)
    assert wire.content == content
    assert dict(wire.headers)["Content-Type"] == content_type


def test_no_data_is_no_body():
    wire = render(call(), SCOPE, MANIFEST)
    assert wire.content is None
    assert "Content-Type" not in dict(wire.headers)


@pytest.mark.parametrize(
    ("content_type", "data", "says"),
    [
        (FORM, {"a": {"b": 1}}, "a holds a map"),
        (FORM, {"a": [["b"]]}, "a holds a map"),
        (FORM, ["a"], "map of fields"),
        ("multipart/form-data", "text", "map of fields"),
        ("application/json", {"a": float("nan")}, "JSON does not have"),
    ],
)
def test_data_that_does_not_fit_is_blocked(content_type, data, says):
    with pytest.raises(Blocked, match=says):
        render(call(headers={"Content-Type": content_type}, data=data), SCOPE, MANIFEST)


def test_text_full_of_quotes_is_scanned_once():
    data = '"' + '\\"' * 400_000 + "{{NAME}}"
    with at_most(10):
        assert render(call(data=data), SCOPE, MANIFEST).content == data.replace("{{NAME}}", "Zoë").encode()


def parts(wire) -> list[tuple[dict[str, str], Any]]:
    head = f"Content-Type: {dict(wire.headers)['Content-Type']}\r\n\r\n".encode()
    message = message_from_bytes(head + wire.content)
    assert message.is_multipart()
    inner: Any = message.get_payload()
    return [(dict(part.items()), part.get_payload(decode=True)) for part in inner]


@pytest.mark.parametrize("given", ["multipart/form-data", "multipart/form-data; boundary=mine", "application/json"])
def test_files_travel_as_multipart(given):
    request = call(headers={"Content-Type": given}, data={"who": "{{NAME}}", "t": "{{TEAMS}}"}, files={"doc": "a.pdf"})
    made = parts(render(request, SCOPE, MANIFEST, files={"a.pdf": b"%PDF\r\n--mine\0"}))
    assert made == [
        ({"Content-Disposition": 'form-data; name="who"'}, "Zoë".encode()),
        ({"Content-Disposition": 'form-data; name="t"'}, b"1"),
        ({"Content-Disposition": 'form-data; name="t"'}, b"2"),
        (
            {"Content-Disposition": 'form-data; name="doc"; filename="a.pdf"', "Content-Type": "application/pdf"},
            b"%PDF\r\n--mine\0",
        ),
    ]


def test_file_whose_name_says_no_type_travels_as_bytes():
    ((headers, content),) = parts(render(call(files={"doc": "film"}), SCOPE, MANIFEST, files={"film": b"0"}))
    assert (headers["Content-Type"], content) == ("application/octet-stream", b"0")


def test_a_name_cannot_break_out_of_a_parts_header():
    wire = render(call(headers={"Content-Type": "multipart/form-data"}, data={"{{Q}}": "x"}), SCOPE, MANIFEST)
    assert parts(wire) == [({"Content-Disposition": 'form-data; name="a%22b\\%0A&="'}, b"x")]


def test_a_file_that_was_not_saved_is_blocked():
    with pytest.raises(Blocked, match=r"no earlier request saved a file named 'a.pdf'"):
        render(call(files={"doc": "a.pdf"}), SCOPE, MANIFEST)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT)
def test_no_value_breaks_out_of_the_data(value):
    scope = Scope((Layer("x", {"email": "a", "v": value}),))
    for template in ({"k": "<{{v}}>"}, '{"k": "<{{v}}>"}'):
        content = render(call(headers={"X": "1"}, data=template), scope, MANIFEST).content or b""
        assert json.loads(content) == {"k": f"<{value}>"}
    for template in ({"k": "<{{v}}>"}, "k=<{{v}}>"):
        content = render(call(headers={"Content-Type": FORM}, data=template), scope, MANIFEST).content or b""
        assert parse_qs(content.decode()) == {"k": [f"<{value}>"]}


# What is known later


@pytest.mark.parametrize("where", [{"url": "https://x.example/{{responses.0.id}}"}, {"data": ["{{PASSWORD}}"]},
                                   {"headers": {"X": "{{oauth.access_token}}"}}])  # fmt: skip
def test_a_request_with_a_value_that_is_not_known_yet_is_not_rendered(where):
    with pytest.raises(MissingVariable, match="has a value only while"):
        render(call(**where), SCOPE, MANIFEST)


def test_a_missing_variable_blocks_a_request_that_also_waits_for_others():
    with pytest.raises(MissingVariable, match="NOPE"):
        render(call(data=["{{NOPE}}"]), SCOPE, MANIFEST)


def test_an_outline_shows_no_secret():
    made = outline(call(url="https://x.example/{{KEY}}/{{responses.0.id}}/{{email}}"), SCOPE)
    assert made == {"method": "POST", "url": "https://x.example/***/{{responses.0.id}}/ada%40example.com"}


def test_a_canonical_request_is_the_same_before_a_run_and_within_it():
    request = call(
        url="https://x.example/{{responses.0.id}}",
        headers={"A": "Bearer {{oauth.access_token}}", "K": "{{KEY}}"},
        data={"p": "{{PASSWORD}}", "a": "{{account}}", "r": "{{redirect_url}}", "t": "{{TEAMS}}"},
    )
    running = SCOPE.over(
        Layer(
            "run", {"responses": [{"id": 1}], "PASSWORD": "x" * 16, "account": 5, "redirect_url": "https://y.example"}
        ),
        Layer("oauth", {"oauth": {"access_token": "abc"}}),
    )
    made = canonical(request, running, MANIFEST)
    assert made == canonical(request, SCOPE, MANIFEST)
    assert json.loads(json.dumps(made))["data"] == {
        "p": "{{PASSWORD}}", "a": "{{account}}", "r": "{{redirect_url}}", "t": ["1", "2"]
    }  # fmt: skip
    changed = running.over(Layer("initial data", {"KEY": "rotated"}))
    assert canonical(request, changed, MANIFEST) != made


def test_a_signed_request_needs_its_token_and_counts_it():
    request = call(extra_headers="pritunl")
    with pytest.raises(MissingVariable, match="API_TOKEN"):
        render(request, SCOPE, MANIFEST)
    one = SCOPE.over(Layer("initial data", {"API_TOKEN": "t0ken-one", "API_SECRET": "a"}))
    two = SCOPE.over(Layer("initial data", {"API_TOKEN": "t0ken-one", "API_SECRET": "b"}))
    wire = render(request, one, MANIFEST)
    assert wire.signer is not None
    assert canonical(request, one, MANIFEST) != canonical(request, two, MANIFEST)


def test_a_request_shows_no_secret():
    request = call(url="https://x.example/{{KEY}}", headers={"A": "{{TOKEN}}"}, data="{{KEY}}")
    shown = repr(render(request, SCOPE, MANIFEST))
    assert "s3cret" not in shown
    assert "t0ken" not in shown


def test_checks_and_look_ups_are_rendered_alike():
    exists = Exists.model_validate({"url": "https://x.example/{{email}}", "expected": "x", "status_code": ["200"]})
    wire = render(exists, SCOPE, MANIFEST)
    assert (wire.method, wire.url, wire.statuses) == ("GET", "https://x.example/ada%40example.com", frozenset({200}))
    field = FormField.model_validate({"id": "A", "type": "choice", "url": "https://x.example/", "data": {"n": "{{N}}"}})
    assert render(field, SCOPE, MANIFEST).content == b'{"n": 3}'


def test_accounts_are_one_by_their_addresses_without_case():
    exists = Exists.model_validate({"url": "https://x.example/users", "expected": "{{email}}"})

    def asked(email: str) -> Any:
        return question(exists, SCOPE.over(Layer("hires/ada.yaml", {"email": email})), MANIFEST)

    assert asked("FUẞBALL@x.com") == asked("fußball@x.com") != asked("fussball@x.com")


def test_expected():
    assert expected('"email":"{{email}}"', SCOPE) == '"email":"ada@example.com"'
    with pytest.raises(MissingVariable):
        expected("{{responses.0.id}}", SCOPE)


@pytest.mark.parametrize("data", [{}, [], ""], ids=str)
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT"])
def test_empty_data_is_no_body(method: str, data: Any) -> None:
    call = Request.model_validate({"url": "https://x.example", "method": method, "data": data})
    wire = render(call, Scope(), Manifest())
    assert wire.content is None
    assert not [name for name, _ in wire.headers if name.lower() == "content-type"]


def test_an_empty_object_is_sent_where_it_is_written_as_text() -> None:
    wire = render(Request(url="https://x.example", data="{}"), Scope(), Manifest())
    assert (wire.content, dict(wire.headers)["Content-Type"]) == (b"{}", "application/json")


@pytest.mark.parametrize("headers", [{}, [], ""], ids=str)
def test_empty_headers_are_the_default_ones(headers: Any) -> None:
    call = Request.model_validate({"url": "https://x.example", "headers": headers})
    assert dict(render(call, Scope(), Manifest(headers={"X-Key": "1"})).headers)["X-Key"] == "1"


@pytest.mark.parametrize(
    ("headers", "content", "kind"),
    [
        ({}, b"user=ann%40x.com", "application/x-www-form-urlencoded"),
        ({"Content-Type": "application/json"}, b'{"user": "ann@x.com"}', "application/json"),
    ],
)
def test_cast_data_to_json_sends_a_form_only_without_a_content_type(headers, content: bytes, kind: str) -> None:
    call = Request(url="https://x.example", data={"user": "ann@x.com"}, cast_data_to_json=True, headers=headers)
    wire = render(call, Scope(), Manifest())
    assert wire.content == content
    assert dict(wire.headers)["Content-Type"] == kind


def test_odata_quotes_are_doubled_in_values_of_the_url_only() -> None:
    scope = Scope((Layer("hire", {"email": "o'brien@x.com"}),))
    text = "https://x.example/users?$filter=mail eq '{{email}}'"
    wire = render(Request(url=text, data={"mail": "{{email}}"}, quote="odata"), scope, Manifest())
    assert wire.url == "https://x.example/users?$filter=mail%20eq%20'o%27%27brien%40x.com'"
    assert wire.content == b'{"mail": "o\'brien@x.com"}'
    assert "%27%27" not in render(Request(url=text), scope, Manifest()).url


def test_soql_quotes_and_backslashes_are_escaped_in_values_of_the_url() -> None:
    scope = Scope((Layer("hire", {"email": "o'br\\ien@x.com"}),))
    call = Request(url="https://x.example/query?q=SELECT+Id+WHERE+Email='{{email}}'", quote="soql")
    wire = render(call, scope, Manifest())
    assert wire.url == "https://x.example/query?q=SELECT+Id+WHERE+Email='o%5C%27br%5C%5Cien%40x.com'"
