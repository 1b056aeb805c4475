"""The sample SCIM server: the requests that manifests/scim.yaml makes, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from reconciler.demo.phonebook import Loopback
from reconciler.demo.stage import scim
from tests.servers import ask

HEADERS = {"Authorization": "Bearer sample-token", "Content-Type": "application/scim+json"}
FILTER = "/v2/Users?filter=" + quote('userName eq "ada@example.com"')
ADA = {
    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
    "userName": "ada@example.com",
    "name": {"givenName": "Ada", "familyName": "Okafor"},
    "emails": [{"value": "ada@example.com", "type": "work", "primary": True}],
    "active": True,
}


@pytest.fixture
def url() -> Iterator[str]:
    with Loopback(scim("sample-token")) as running:
        yield running.url


def call(url: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    status, _, raw = ask(url, method, path, body, HEADERS)
    return status, json.loads(raw) if raw else None


def test_made_found_and_removed(url: str) -> None:
    status, nobody = call(url, "GET", FILTER)
    assert (status, nobody["totalResults"]) == (200, 0)
    assert "ada@example.com" not in json.dumps(nobody)
    status, made = call(url, "POST", "/v2/Users", ADA)
    assert status == 201
    status, found = call(url, "GET", FILTER)
    assert (status, found["Resources"][0]["id"]) == (200, made["id"])
    assert call(url, "DELETE", f"/v2/Users/{made['id']}")[0] == 204
    assert call(url, "GET", FILTER)[1]["totalResults"] == 0


def test_the_same_name_twice_is_a_conflict(url: str) -> None:
    assert [call(url, "POST", "/v2/Users", ADA)[0] for _ in range(2)] == [201, 409]


def test_without_the_token_nothing(url: str) -> None:
    assert ask(url, "GET", FILTER)[0] == 401
    assert ask(url, "GET", FILTER, None, {"Authorization": "Bearer other"})[0] == 401
