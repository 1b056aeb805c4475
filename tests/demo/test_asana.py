"""The sample Asana, over real HTTP: what the manifest meets there is what Asana documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.demo.asana import ORGANIZATION, Asana
from reconciler.demo.phonebook import Loopback
from tests.servers import ask

TOKEN = {"Authorization": "Bearer sample-token"}


@pytest.fixture
def asana() -> Asana:
    return Asana("sample-token")


@pytest.fixture
def url(asana: Asana) -> Iterator[str]:
    with Loopback(asana) as running:
        yield running.url


def call(url: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    status, _, raw = ask(url, method, f"/api/1.0{path}", body, TOKEN)
    return status, json.loads(raw)


def test_the_manifests_walk(url: str, asana: Asana) -> None:
    assert call(url, "GET", "/users/ada%40example.com")[0] == 404
    status, teams = call(url, "POST", f"/organizations/{ORGANIZATION}/teams")
    assert (status, [team["gid"] for team in teams["data"]]) == (200, ["1201", "1202", "1203"])
    person = {"data": {"user": "Ada@example.com"}}
    assert call(url, "POST", f"/workspaces/{ORGANIZATION}/addUser", person)[0] == 200
    status, membership = call(url, "POST", "/teams/1202/addUser", person)
    assert (status, membership["data"]["team"]["name"]) == (200, "Design")
    status, found = call(url, "GET", "/users/ada@example.com")
    assert (status, found["data"]["email"]) == (200, "ada@example.com")
    assert asana.members["1202"] == {"ada@example.com"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_team_list_is_given_to_either_method(url: str, method: str) -> None:
    assert call(url, method, f"/organizations/{ORGANIZATION}/teams")[0] == 200


def test_person_is_added_once(url: str, asana: Asana) -> None:
    for _ in range(2):
        call(url, "POST", f"/workspaces/{ORGANIZATION}/addUser", {"data": {"user": "ada@example.com"}})
    assert len(asana.people) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        pytest.param("GET", "/users/x@example.com", None, 404, "user: Unknown object: x@example.com", id="nobody"),
        pytest.param("GET", "/organizations/9/teams", None, 404, "workspace: Unknown object: 9", id="organization"),
        pytest.param("POST", "/workspaces/1200/addUser", {"user": "x"}, 400, "user: Missing input", id="envelope"),
        pytest.param("POST", "/teams/9/addUser", {"data": {"user": "x"}}, 404, "team: Unknown object: 9", id="team"),
        pytest.param(
            "POST", "/teams/1201/addUser", {"data": {"user": "x"}}, 404, "user: Unknown object: x", id="guest"
        ),
        pytest.param("PUT", "/users/x", None, 404, "No matching route for request", id="route"),
    ],
)
def test_refusals(url: str, method: str, path: str, body: Any, status: int, message: str) -> None:
    got, answer = call(url, method, path, body)
    assert (got, answer["errors"][0]["message"]) == (status, message)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}], ids=["none", "wrong"])
def test_the_token(url: str, headers: dict[str, str]) -> None:
    status, _, raw = ask(url, "GET", "/api/1.0/users/x", None, headers)
    assert (status, json.loads(raw)["errors"][0]["message"]) == (401, "Not Authorized")


def test_the_token_is_not_shown(asana: Asana) -> None:
    assert "sample-token" not in repr(asana)
