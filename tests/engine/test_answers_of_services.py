"""Stand-ins that answer as real services do: a refused token with 200, an invitation that is open, a 404 of a team."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.model.status import Action, Status
from tests.engine.harness import Machine, row
from tests.repo import Repo
from tests.servers import Received, Service


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def machine(repo: Repo) -> Machine:
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    return Machine(repo)


def wanted(repo: Repo, manifest: dict[str, Any], **values: str) -> None:
    manifest["form"] = [{"id": name, "type": "input"} for name in values]
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": values})
    repo.commit()


def standing(machine: Machine) -> tuple[Status, Action]:
    found = row(machine.reconcile(), "ada", "tool")
    return found.status, found.action


CHAT = [
    ({"ok": False, "error": "users_not_found"}, Status.UNCONFIRMED, 1),
    ({"ok": False, "error": "invalid_auth"}, Status.UNKNOWN, 0),
    ({"ok": False, "error": "ratelimited"}, Status.UNKNOWN, 0),
    ({"ok": True, "user": {"id": "W1", "deleted": False, "profile": {"email": "ada@example.com"}}}, Status.PRESENT, 0),
    ({"ok": True, "user": {"id": "W1", "deleted": True, "profile": {"email": "ada@example.com"}}}, Status.DIFFERS, 0),
]


@pytest.mark.parametrize(("answer", "status", "sent"), CHAT, ids=lambda case: str(case)[:40])
def test_a_chat_that_answers_everything_with_200(machine, service, repo, answer, status, sent):
    service.route("GET", "/api/users.lookupByEmail", answer)
    service.route("POST", "/api/invite", {"ok": True})
    exists = {
        "url": f"{service.url}/api/users.lookupByEmail?email={{{{email}}}}",
        "expected": "{{email}}",
        "record": "user",
        "absent": {"ok": False, "error": "users_not_found"},
        "inactive": {"deleted": True},
    }
    execute = [{"url": f"{service.url}/api/invite", "data": {"email": "{{email}}"}}]
    wanted(repo, {"exists": exists, "execute": execute})
    assert standing(machine)[0] is status
    assert len(service.calls("POST")) == sent


def test_a_request_that_fails_with_200_fails_the_attempt(machine, service, repo):
    service.route("GET", "/api/users.lookupByEmail", {"ok": False, "error": "users_not_found"})
    service.route("POST", "/api/invite", {"ok": False, "error": "missing_scope"})
    exists = {
        "url": f"{service.url}/api/users.lookupByEmail?email={{{{email}}}}",
        "expected": '"ok":true',
        "absent": {"error": "users_not_found"},
    }
    condition = {"response_notation": "ok", "value": "true"}
    execute = [{"url": f"{service.url}/api/invite", "data": {"email": "{{email}}"}, "continue_if": condition}]
    wanted(repo, {"exists": exists, "execute": execute})
    report = machine.reconcile()
    assert row(report, "ada", "tool").status is Status.RETRYING
    assert "missing_scope" in row(report, "ada", "tool").reason


def membership(service: Service) -> dict[str, Any]:
    """A member of an organisation, asked for as GitHub has it."""
    place = f"{service.url}/orgs/acme/memberships/{{{{LOGIN}}}}"
    return {
        "exists": {
            "url": place,
            "expected": "{{LOGIN}}",
            "match": "user.login",
            "where": {"role": "{{ROLE}}"},
            "invited": {"state": "pending"},
            "absent": {"message": "Not Found"},
            "fail_when_4xx_response_code": False,
            "ready": {"url": f"{service.url}/orgs/acme", "expected": '"login":"acme"'},
        },
        "execute": [{"url": place, "method": "PUT", "data": {"role": "{{ROLE}}"}}],
        "update": "execute",
    }


@pytest.mark.parametrize(
    ("answer", "organisation", "status", "sent"),
    [
        ((404, {"message": "Not Found", "status": "404"}), {"login": "acme"}, Status.UNCONFIRMED, 1),
        ((404, {"message": "Not Found", "status": "404"}), (404, {"message": "Not Found"}), Status.UNKNOWN, 0),
        ((404, {"error": "no route to host"}), {"login": "acme"}, Status.UNKNOWN, 0),
        ({"state": "pending", "role": "member", "user": {"login": "Ada"}}, {"login": "acme"}, Status.UNCONFIRMED, 0),
        ({"state": "active", "role": "member", "user": {"login": "Ada"}}, {"login": "acme"}, Status.PRESENT, 0),
        ({"state": "active", "role": "admin", "user": {"login": "Ada"}}, {"login": "acme"}, Status.DIFFERS, 1),
        ({"state": "active", "role": "member", "user": {"login": "ada2"}}, {"login": "acme"}, Status.UNKNOWN, 0),
    ],
    ids=["absent", "no access to the organisation", "a proxy", "invited", "there", "another role", "somebody else"],
)
def test_a_member_of_an_organisation(machine, service, repo, answer, organisation, status, sent):
    service.route("GET", "/orgs/acme/memberships/{login}", lambda _received, login: answer)
    service.route("GET", "/orgs/acme", lambda _received: organisation)
    service.route("PUT", "/orgs/acme/memberships/{login}", {"state": "pending"})
    wanted(repo, membership(service), LOGIN="ada", ROLE="member")
    assert standing(machine)[0] is status
    assert len(service.calls("PUT")) == sent


def test_levels_of_access_are_numbers(machine, service, repo):
    """As GitLab has them: a developer is 30; the value that git gives is compared as text and sent as it is written."""
    people = {"7": {"id": 7, "username": "ada", "access_level": 20, "state": "active"}}
    member = f"{service.url}/api/v4/groups/3/members/{{{{USER}}}}"

    def change(received: Received, user: str) -> Any:
        people[user]["access_level"] = int(received.json()["access_level"])
        return people[user]

    service.route("GET", "/api/v4/groups/3/members/{user}", lambda _received, user: people[user])
    service.route("PUT", "/api/v4/groups/3/members/{user}", change)
    manifest = {
        "exists": {"url": member, "expected": "{{USER}}", "match": "id", "where": {"access_level": "{{LEVEL}}"}},
        "execute": [{"url": f"{service.url}/api/v4/groups/3/members", "data": {"user_id": "{{USER}}"}}],
        "update": [{"url": member, "method": "PUT", "data": {"access_level": "{{LEVEL}}"}}],
    }
    wanted(repo, manifest, USER="7", LEVEL="30")
    assert row(machine.plan(), "ada", "tool").reason == "access_level: 20, git wants 30"
    assert standing(machine) == (Status.PRESENT, Action.NONE)


@pytest.mark.parametrize(
    ("answer", "status", "sent"),
    [
        ({"data": {"users": {"nodes": []}}}, Status.UNCONFIRMED, 1),
        ({"data": {"users": {"nodes": [{"email": "ada@example.com", "active": True}]}}}, Status.PRESENT, 0),
        ({"data": {"users": {"nodes": [{"email": "ada@example.com", "active": False}]}}}, Status.DIFFERS, 0),
        ({"errors": [{"message": "Authentication required, not authenticated"}]}, Status.UNKNOWN, 0),
    ],
    ids=["absent", "there", "suspended", "an error with 200"],
)
def test_a_query_that_is_a_post(machine, service, repo, answer, status, sent):
    """As Linear has it: everything is a POST to one address, and an error is a 200."""
    service.route("POST", "/graphql", lambda got: answer if "query" in got.json() else {"data": {"ok": True}})
    query = "query($email: String!) { users(filter: {email: {eq: $email}}) { nodes { email active } } }"
    exists = {
        "url": f"{service.url}/graphql",
        "method": "POST",
        "data": {"query": query, "variables": {"email": "{{email}}"}},
        "expected": "{{email}}",
        "record": "data.users.nodes",
        "absent": {"data.users.nodes": []},
        "inactive": {"active": False},
    }
    execute = [{"url": f"{service.url}/graphql", "data": {"mutation": "invite", "email": "{{email}}"}}]
    wanted(repo, {"exists": exists, "execute": execute})
    assert standing(machine)[0] is status
    assert len([call for call in service.calls("POST") if "mutation" in call.json()]) == sent
