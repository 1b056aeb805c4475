from __future__ import annotations

import json

import pytest

from reconciler.model.errors import MissingVariable
from reconciler.model.request import Condition, Exists, Request, Revoke
from reconciler.model.scope import Layer, Scope
from reconciler.model.verdict import Missing, Present, Unknown
from reconciler.requests.match import condition_holds, contains, failure, verdict
from reconciler.transports.messages import LIMIT, Response
from tests.timing import at_most

ANN = "ann@x.com"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann@x.com", ANN),
        ("ANN@X.com", ANN),
        ("ann@x.com", "Ann@X.COM"),
        ("<ann@x.com>", ANN),
        ("mailto:ann@x.com?subject=x", ANN),
        ("https://api.x.com/users/ann@x.com/teams", ANN),
        ("?email=ann@x.com&x=1", ANN),
        ("x=1&ann@x.com", "x=1&ann@x.com"),
        ("'ann@x.com'", ANN),
        ("`ann@x.com`", ANN),
        ("(ann@x.com)", ANN),
        ("[ann@x.com,bob@x.com]", ANN),
        ("auth0|ann@x.com", ANN),
        ("Ask ann@x.com.", ANN),
        ("ann@x.com\n", ANN),
        ("joann@x.com, ann@x.com", ANN),
        ("o'brien@x.com", "o'brien@x.com"),
        ("'o'brien@x.com'", "O'Brien@x.com"),
        ("x+ann@x.com", "x+ann@x.com"),
        ("łukasz@x.com", "Łukasz@x.com"),
        ('{"email":"ann@x.com"}', '"email": "ann@x.com"'),
        ('{"email" :\n "Ann@x.com"}', '"email":"ann@x.com"'),
        ('{"a": 1,"email":"ann@x.com"}', '"a":1, "email":"ann@x.com"'),
        (r'{"email":"\u0061nn@x.com"}', ANN),
        (r'{"email":"ann\u0040x.com"}', ANN),
        (r'{"note":"\tann@x.com\n"}', ANN),
        (r'{"note":"say \"hi\""}', 'say "hi"'),
        (r'{"name":"Zo\u00eb"}', '"name":"Zoë"'),
        (r'{"path":"a\/b"}', "a/b"),
        ('{"ann@x.com": {}}', ANN),
        ('[[["ann@x.com"]]]', ANN),
        ('\ufeff{"email": "\\u0061nn@x.com"}', ANN),
        ("not json {", "json {"),
        ("active", "active"),
    ],
)
def test_found(text, expected):
    assert contains(text, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("joann@x.com", ANN),
        ("jo.ann@x.com", ANN),
        ("jo-ann@x.com", ANN),
        ("jo_ann@x.com", ANN),
        ("x+ann@x.com", ANN),
        ("éann@x.com", ANN),
        ("e\u0301ann@x.com", ANN),
        ("1ann@x.com", ANN),
        ("ann@x.com.au", ANN),
        ("ann@x.community", ANN),
        ("ann@x.com-old", ANN),
        ("ann@x.com_2", ANN),
        ("ann@x.com@tenant.example", ANN),
        ("bob@ann@x.com", ANN),
        ("ann%40x.com", ANN),
        ("x%ann@x.com", ANN),
        ("o'brien@x.com", "brien@x.com"),
        ("r&d@x.com", "d@x.com"),
        ("ann@xxcom", ANN),
        (r'{"email":"jo\u0061nn@x.com"}', ANN),
        (r'{"email":"jo\u002eann@x.com"}', ANN),
        (r'{"email":"ann@x.com\u002eau"}', ANN),
        ('{"EMAIL":"ann@x.com"}', '"email":"ann@x.com"'),
        ("Active", "active"),
        ("", ANN),
        ("\u212aate@x.com", "kate@x.com"),
        ("[" * 100_000, ANN),
    ],
)
def test_not_found(text, expected):
    assert not contains(text, expected)


def test_nested_answer_is_searched_completely():
    assert contains("[" * 900 + r'"\u0061nn@x.com"' + "]" * 900, ANN)


def exists(**more) -> Exists:
    return Exists.model_validate({"url": "https://x.example", "expected": "{{email}}", **more})


def answer(status: int, content: object = "", **more) -> Response:
    raw = (
        content
        if isinstance(content, bytes)
        else content.encode()
        if isinstance(content, str)
        else json.dumps(content).encode()
    )
    return Response(status, more.pop("headers", {}), raw, **more)


def charset(name: str) -> dict[str, str]:
    return {"content-type": f"text/plain; charset={name}"}


REFUSED = (401, 403, 407, 408, 425, 429)
FOUND = {"email": ANN}
NO_4XX = {"fail_when_4xx_response_code": False}


@pytest.mark.parametrize(
    ("rules", "got", "verdict_type"),
    [
        ({}, answer(200, FOUND), Present),
        ({}, answer(200, {"users": []}), Missing),
        ({}, answer(204), Missing),
        ({}, answer(404, FOUND), Unknown),
        ({}, answer(400, FOUND), Unknown),
        (NO_4XX, answer(404, FOUND), Missing),
        (NO_4XX, answer(410, FOUND), Missing),
        (NO_4XX, answer(400, {"error": "no such user"}), Missing),
        (NO_4XX, answer(400, FOUND), Present),
        (NO_4XX | {"status_code": [404]}, answer(404, FOUND), Present),
        ({"status_code": [404]}, answer(404, FOUND), Present),
        ({"status_code": [404]}, answer(404, "{}"), Missing),
        ({"status_code": [200]}, answer(200, FOUND), Present),
        ({"status_code": ["200"]}, answer(200, "{}"), Missing),
        ({"status_code": [200]}, answer(202, FOUND), Unknown),
        ({"status_code": [200]} | NO_4XX, answer(202), Unknown),
        ({"status_code": [200]}, answer(404), Unknown),
        ({"status_code": [200]} | NO_4XX, answer(410), Missing),
        ({"status_code": [200]}, answer(404, FOUND), Unknown),
        ({"status_code": [200]} | NO_4XX, answer(404, FOUND), Missing),
        ({"status_code": [200]} | NO_4XX, answer(422, FOUND), Unknown),
        ({"status_code": [302]}, answer(302, FOUND), Present),
        ({}, answer(302, FOUND), Unknown),
        ({}, answer(500, FOUND), Unknown),
        ({"status_code": [500]}, answer(500, FOUND), Present),
        ({"status_code": [500]}, answer(502, FOUND), Unknown),
        *((NO_4XX | {"status_code": [status]}, answer(status, FOUND), Present) for status in REFUSED),
        *((NO_4XX | {"status_code": [200]}, answer(status, FOUND), Unknown) for status in REFUSED),
        *((NO_4XX, answer(status), Unknown) for status in REFUSED),
        ({}, answer(200, b"\xff\xfeann@x.com"), Unknown),
        ({}, answer(200, b"\0ann@x.com"), Unknown),
        ({}, answer(200, "Zoë ann@x.com".encode("latin-1"), headers=charset("latin-1")), Present),
        ({}, answer(200, "ann@x.com", headers=charset("klingon")), Present),
        ({}, answer(200, "ann@x.com " + "x" * LIMIT, truncated=True), Unknown),
        (NO_4XX, answer(404, "", truncated=True), Unknown),
    ],
)  # fmt: skip
def test_a_verdict(rules, got, verdict_type):
    assert type(verdict(exists(**rules), ANN, got)) is verdict_type


@pytest.mark.parametrize(
    ("status", "verdict_type"), [(200, Present), (204, Unknown), (404, Unknown), (401, Unknown), (503, Unknown)]
)
def test_a_status_alone_can_be_a_check(status, verdict_type):
    check = Exists.model_validate({"url": "https://x.example", "status_code": [200]})
    assert type(verdict(check, None, answer(status, b"\xff"))) is verdict_type


@pytest.mark.parametrize("expected", ["", "  "])
def test_an_expected_that_comes_out_empty_is_no_answer(expected):
    assert verdict(exists(), expected, answer(200, "anything")) == Unknown(
        "expected came out empty: every answer would contain it"
    )


def test_check_stores_values():
    check = exists(store_data={"id": "data.0.id", "nothing": "data.9.id", "null": "x"})
    content = {"data": [{"id": 7}], "x": None}
    assert verdict(check, "absent", answer(200, content)) == Missing({"id": 7})
    assert verdict(check, "7", answer(200, content)) == Present({"id": 7})
    assert verdict(check, "text", answer(200, "text")) == Present({})


@pytest.mark.parametrize(
    ("status_code", "got", "reason"),
    [
        (None, answer(200), None),
        (None, answer(299), None),
        (None, answer(201, b"\xff\0"), None),
        (None, answer(302), "answered 302"),
        (None, answer(400), "answered 400"),
        (None, answer(500), "answered 500"),
        (None, answer(101), "answered 101"),
        ([409], answer(409), None),
        ([302], answer(302), None),
        (["200", "409"], answer(201), "answered 201, expected 200, 409"),
        (None, answer(200, b"x" * (1 << 20), truncated=True), "answered 200 with more than 1 MiB"),
    ],
)
def test_a_requests_failure(status_code, got, reason):
    call = Request.model_validate({"url": "https://x.example", "status_code": status_code})
    assert failure(call, got) == reason


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        ("deleted", None),
        ("gone", "answered 200 without what is expected"),
        ("", "answered 200 without what is expected"),
    ],
)
def test_a_revocation_may_expect_something(expected, reason):
    call = Revoke.model_validate({"url": "https://x.example", "expected": "x"})
    assert failure(call, answer(200, {"state": "deleted"}), expected) == reason


@pytest.mark.parametrize(
    ("path", "value", "holds"),
    [
        ("state", "done", True),
        ("state", "Done", False),
        ("state", "{{STATE}}", True),
        ("n", "3", True),
        ("ready", "true", True),
        ("ready", "True", False),
        ("none", "null", True),
        ("none", "", False),
        ("absent", "null", False),
        ("absent", "", False),
        ("empty", "", True),
        ("jobs.0.state", "ok", True),
        ("jobs.1.state", "ok", False),
        ("jobs.x", "ok", False),
        ("jobs", '{"state": "ok"}', True),
    ],
)
def test_a_condition(path, value, holds):
    content = {"state": "done", "n": 3, "ready": True, "none": None, "empty": "", "jobs": [{"state": "ok"}]}
    condition = Condition(response_notation=path, value=value)
    assert condition_holds(condition, answer(200, content), Scope((Layer("x", {"STATE": "done"}),))) is holds


def test_condition_on_text_that_is_not_json_is_false():
    assert not condition_holds(Condition(response_notation="a", value="b"), answer(200, "b"), Scope())


def test_a_conditions_value_must_be_there():
    with pytest.raises(MissingVariable):
        condition_holds(Condition(response_notation="a", value="{{NOPE}}"), answer(200, {"a": 1}), Scope())


@pytest.mark.parametrize(
    "expected", ["a" * 100_000, "a" * 100_000 + "@", "a'" * 50_000], ids=["word", "sign", "quotes"]
)
def test_long_word_without_a_host_is_scanned_once(expected):
    with at_most(10):
        assert contains(f"<{expected}>", expected)
        assert not contains("<a>", expected)


@pytest.mark.parametrize(
    ("status", "fails"), [(404, False), (409, False), (401, True), (403, True), (429, True), (500, True)]
)
def test_a_4xx_that_does_not_fail_a_request(status: int, fails: bool) -> None:
    call = Request(url="x", fail_when_4xx_response_code=False)
    assert (failure(call, Response(status)) is not None) is fails
    assert failure(Request(url="x"), Response(status)) is not None
