"""What of an answer the account is, and what stands in it: docs/design/rules.md, "Exists"."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.model.errors import MissingVariable
from reconciler.model.request import Exists, Ready
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.verdict import Account, Missing, Present, Unknown, Verdict
from reconciler.requests.match import unready, verdict
from reconciler.requests.record import Compared, all_there, differences, is_whole, same
from reconciler.transports.messages import Response

ANN, BOB = "ann@x.com", "bob@x.com"


def judged(answer: Any, status: int = 200, **keys: Any) -> Verdict:
    exists = Exists.model_validate({"url": "x", "expected": ANN, **keys})
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    compared = Compared.of(exists, Scope((Layer("form", {"ROLE": "admin", "TEAMS": ["b", "a"]}),)))
    return verdict(exists, exists.expected, Response(status, content=content), compared)


@pytest.mark.parametrize(
    ("there", "wanted", "equal"),
    [
        ("admin", "admin", True),
        ("Admin", "admin", False),
        (True, "true", True),
        (True, True, True),
        (5, "5", True),
        (None, "", False),
        (None, "null", False),
        ("", "", True),
        ([], [], True),
        (None, [], False),
        (["a", "b"], ["b", "a"], True),
        (["a", "a"], ["a"], False),
        ([1, 2], ["2", "1"], True),
        (["a"], "a", False),
        ("a", ["a"], False),
    ],
)
def test_values_are_compared_as_text_and_lists_without_order(there: Any, wanted: Any, equal: bool) -> None:
    assert same(there, wanted) is equal


@pytest.mark.parametrize(
    ("there", "expected", "whole"),
    [
        ("ANN@X.com", ANN, True),
        ("joann@x.com", ANN, False),
        (None, ANN, False),
        ([ANN], ANN, False),
        ("FUẞBALL@x.com", "fußball@x.com", True),
        ("fussball@x.com", "fußball@x.com", False),
    ],
)
def test_match_equals_as_a_whole_without_case(there: Any, expected: str, whole: bool) -> None:
    assert is_whole(there, expected) is whole


def test_nothing_asked_for_is_never_all_there() -> None:
    assert not all_there({}, {})
    assert all_there({"a": {"b": 1}, "c": 2}, {"a.b": "1"})
    assert not all_there({"a": 1}, {"a": "1", "b": "2"})


def test_differences_have_observed_and_desired_values() -> None:
    assert differences({"role": "member", "on": True}, {"role": "admin", "on": "true", "team.id": "7"}) == {
        "role": ("member", "admin"),
        "team.id": (None, "7"),
    }


def test_a_dot_within_a_key() -> None:
    assert walk({"a.b": {"c": 1}}, r"a\.b.c") == 1


RECORDS: dict[str, tuple[Any, dict[str, Any], type]] = {
    "the whole answer": ({"login": ANN}, {"match": "login"}, Present),
    "another's page": ({"login": BOB, "by": ANN}, {"match": "login"}, Missing),
    "match without case": ({"login": "ANN@X.COM"}, {"match": "login"}, Present),
    "match is not a part": ({"login": "joann@x.com"}, {"match": "login"}, Missing),
    "within": ({"data": {"user": {"login": ANN}}}, {"record": "data.user", "match": "login"}, Present),
    "the item": ({"data": [{"login": BOB}, {"login": ANN}]}, {"record": "data", "match": "login"}, Present),
    "no item": ({"data": [{"login": BOB}], "q": ANN}, {"record": "data", "match": "login"}, Missing),
    "an item that holds it": ({"data": [{"login": BOB}, {"mail": ANN}]}, {"record": "data"}, Present),
    "no item that holds it": ({"data": [{"login": BOB}], "q": ANN}, {"record": "data"}, Missing),
    "an empty list, echoed": ({"data": [], "query": ANN}, {"record": "data"}, Missing),
    "no record, but expected": ({"user": {"mail": ANN}}, {"record": "data"}, Unknown),
    "a null record, but expected": ({"data": None, "q": ANN}, {"record": "data"}, Unknown),
    "no record, nothing expected": ({"error": "none"}, {"record": "data"}, Missing),
    "no JSON, but expected": (b"<a>ann@x.com</a>", {"record": "data"}, Unknown),
    "no JSON, nothing expected": (b"none", {"record": "data"}, Missing),
    "absent as it says": ({"ok": False, "error": "users_not_found"}, {"absent": {"error": "users_not_found"}}, Missing),
    "absent, whatever it repeats": (
        {"error": "users_not_found", "q": ANN},
        {"absent": {"error": "users_not_found"}},
        Missing,
    ),
    "absent, not as it says": (
        {"ok": False, "error": "ratelimited"},
        {"absent": {"error": "users_not_found"}},
        Unknown,
    ),
    "half of absent": ({"ok": False, "error": "x"}, {"absent": {"ok": False, "error": "y"}}, Unknown),
    "absent given, there": ({"user": {"email": ANN}}, {"absent": {"error": "users_not_found"}}, Present),
    "an empty list beside absent": ({"data": [], "q": ANN}, {"record": "data", "absent": {"error": "x"}}, Missing),
    "no item beside absent": ({"data": [{"login": BOB}]}, {"record": "data", "absent": {"error": "x"}}, Unknown),
}


@pytest.mark.parametrize(("answer", "keys", "kind"), RECORDS.values(), ids=RECORDS)
def test_where_the_account_is_in_an_answer(answer: Any, keys: dict[str, Any], kind: type) -> None:
    assert type(judged(answer, **keys)) is kind


def test_404_without_the_absent_text_is_unknown() -> None:
    keys = {"absent": {"error": "gone"}, "fail_when_4xx_response_code": False}
    assert isinstance(judged({"error": "no route"}, 404, **keys), Unknown)
    assert isinstance(judged({"error": "gone"}, 404, **keys), Missing)


def test_differences_of_where_are_reported() -> None:
    found = judged(
        {"login": ANN, "role": "member", "teams": ["a", "b"]}, where={"role": "{{ROLE}}", "teams": "{{TEAMS}}"}
    )
    assert isinstance(found, Present)
    assert found.differs == {"role": ("member", "admin")}
    assert found.account is Account.ACTIVE


@pytest.mark.parametrize(
    ("answer", "account"),
    [
        ({"login": ANN, "active": False}, Account.INACTIVE),
        ({"login": ANN, "active": True}, Account.ACTIVE),
        ({"login": ANN}, Account.ACTIVE),
        ({"login": ANN, "state": "pending"}, Account.INVITED),
    ],
)
def test_an_account_that_is_switched_off_or_only_invited(answer: Any, account: Account) -> None:
    found = judged(answer, inactive={"active": False}, invited={"state": "pending"})
    assert isinstance(found, Present)
    assert found.account is account


def test_a_value_of_where_that_is_not_there_is_missing() -> None:
    exists = Exists.model_validate({"url": "x", "expected": ANN, "where": {"role": "{{ROLE}}"}})
    with pytest.raises(MissingVariable):
        Compared.of(exists, Scope())


def test_store_data_starts_at_the_record_where_there_is_one() -> None:
    answer = {"data": [{"login": BOB, "id": 1}, {"login": ANN, "id": 2}], "record": {"id": 3}}
    stores = {"ID": "record.id", "FIRST": "data.0.id"}
    found = judged(answer, record="data", match="login", store_data=stores)
    assert isinstance(found, Present)
    assert found.stored == {"ID": 2, "FIRST": 1}
    unchanged = judged(answer, store_data=stores)
    assert isinstance(unchanged, Present)
    assert unchanged.stored == {"ID": 3, "FIRST": 1}


def test_store_data_from_a_header() -> None:
    exists = Exists.model_validate(
        {
            "url": "x",
            "expected": "ok",
            "store_data": {"ID": "header:Location", "NAME": "Header: location", "N": "header:X"},
        }
    )
    found = verdict(exists, "ok", Response(200, {"location": "/users/7"}, b"ok"))
    assert isinstance(found, Present)
    assert found.stored == {"ID": "/users/7", "NAME": "/users/7"}


@pytest.mark.parametrize(
    ("status", "text", "keys", "reason"),
    [
        (200, b'{"ok": true}', {"expected": '"ok":true'}, None),
        (200, b'{"ok": false}', {"expected": '"ok":true'}, "without what is expected"),
        (503, b'{"ok": true}', {"expected": '"ok":true'}, "answered 503"),
        (404, b'{"ok": true}', {"expected": '"ok":true', "fail_when_4xx_response_code": False}, "answered 404"),
        (204, b"", {"status_code": [204]}, None),
        (200, b"", {"status_code": [204]}, "answered 200, expected 204"),
    ],
)
def test_a_service_that_is_ready(status: int, text: bytes, keys: dict[str, Any], reason: str | None) -> None:
    ready = Ready.model_validate({"url": "x", **keys})
    found = unready(ready, ready.expected, Response(status, content=text))
    assert (found is None) if reason is None else (found is not None and reason in found)


def test_nothing_is_shown_as_nothing_where_git_wants_a_secret() -> None:
    compared = Compared(secret=frozenset({"pin"}))
    assert compared.shown("pin", None, lambda value: value) is None
    assert compared.shown("pin", "7190", lambda value: value) == "***"
