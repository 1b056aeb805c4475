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


def test_day_of_an_invitation_that_was_just_sent_is_that_of_the_time_zone(machine, service, repo):
    invited = {"state": "pending", "role": "member", "user": {"login": "Ada"}}
    answers = iter([(404, {"message": "Not Found"}), invited, invited])
    service.route("GET", "/orgs/acme/memberships/{login}", lambda _received, login: next(answers))
    service.route("GET", "/orgs/acme", {"login": "acme"})
    service.route("PUT", "/orgs/acme/memberships/{login}", {"state": "pending"})
    repo.settings(gnupg_home=repo.gnupg.path, timezone="Pacific/Pago_Pago")
    wanted(repo, membership(service), LOGIN="ada", ROLE="member")
    assert [row(machine.reconcile(), "ada", "tool").reason for _ in range(2)] == ["invited on 2026-11-30"] * 2


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


PAGE = {"1": ["bob", "eve"], "2": ["ada", "dan"], "3": ["kim"]}
"""The members of a service that cannot be asked for one of them."""


def paged(service: Service, **more: Any) -> dict[str, Any]:
    paging = {"next_page_token_from": "next", "next_page": f"{service.url}/members?page={{{{NEXT_PAGE_TOKEN}}}}"}
    exists = {
        "url": f"{service.url}/members",
        "expected": "{{email}}",
        "record": "members",
        "match": "user.email",
        "pages": paging,
        **more,
    }
    return {"exists": exists, "execute": [{"url": f"{service.url}/invite", "data": {"email": "{{email}}"}}]}


def page_of(received: Received) -> Any:
    number = received.query.get("page", ["1"])[0]
    members = [{"user": {"email": f"{name}@example.com"}, "roles": ["member"]} for name in PAGE[number]]
    following = str(int(number) + 1)
    return {"members": members, "next": following if following in PAGE else None}


def members_asked(service: Service) -> list[str]:
    return [call.query.get("page", ["1"])[0] for call in service.calls("GET")]


def test_check_that_is_a_listing_is_read_until_the_account_is_found(machine, service, repo):
    service.route("GET", "/members", page_of)
    wanted(repo, paged(service))
    assert row(machine.plan(), "ada", "tool").status is Status.PRESENT
    assert members_asked(service) == ["1", "2"]


def test_account_on_no_page_is_missing(machine, service, repo):
    service.route("GET", "/members", page_of)
    wanted(repo, paged(service, expected="ann@example.com"))
    planned = row(machine.plan(), "ada", "tool")
    assert (planned.status, planned.action) == (Status.MISSING, Action.EXECUTE)
    assert members_asked(service) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("third", "why"),
    [
        ((500, {}), "answered 500"),
        ((404, {}), "page 3 answered 404"),
        ({"error": "try again"}, "page 3 has no list at members"),
        ({"members": [], "next": "2"}, "page 4 is one that was read before"),
        ({"members": [], "next": {"page": 4}}, "page 3 has no text at next"),
    ],
    ids=["failed", "not found", "no page", "a circle", "no token"],
)
def test_check_whose_page_fails_is_unknown(machine, service, repo, third, why):
    service.route("GET", "/members", lambda got: third if got.query.get("page") == ["3"] else page_of(got))
    wanted(repo, paged(service, expected="ann@example.com", fail_when_4xx_response_code=False))
    planned = row(machine.plan(), "ada", "tool")
    assert planned.status is Status.UNKNOWN
    assert why in planned.reason


def test_check_reads_a_hundred_pages_and_then_does_not_know(machine, service, repo):
    endless = {"members": [{"user": {"email": "bob@example.com"}}]}
    service.route("GET", "/members", lambda got: {**endless, "next": int(got.query.get("page", ["1"])[0]) + 1})
    wanted(repo, paged(service))
    planned = row(machine.plan(), "ada", "tool")
    assert planned.status is Status.UNKNOWN
    assert "not found on 100 pages" in planned.reason
    assert len(service.calls("GET")) == 100


def test_account_switched_off_on_one_of_endless_pages_is_that(machine, service, repo):
    off = {"members": [{"user": {"email": "ada@example.com"}, "active": False}]}
    service.route("GET", "/members", lambda got: {**off, "next": int(got.query.get("page", ["1"])[0]) + 1})
    wanted(repo, paged(service, inactive={"active": False}))
    planned = row(machine.plan(), "ada", "tool")
    assert planned.status is Status.DIFFERS
    assert "switched off" in planned.reason


def test_check_counts_pages_up_to_the_total(machine, service, repo):
    def offset(received: Received) -> Any:
        at = int(received.query["at"][0])
        everybody = [name for names in PAGE.values() for name in names]
        return {"members": [{"user": {"email": f"{name}@example.com"}} for name in everybody[at : at + 2]], "all": 5}

    service.route("GET", "/members", offset)
    count = {"parameter": "at", "first": 0, "step": 2, "total_from": "all"}
    wanted(repo, paged(service, expected="ann@example.com", pages={"count_up": count}))
    assert row(machine.plan(), "ada", "tool").status is Status.MISSING
    assert [call.query["at"] for call in service.calls("GET")] == [["0"], ["2"], ["4"]]


def test_query_that_is_a_post_takes_the_next_pages_token(machine, service, repo):
    def query(received: Received) -> Any:
        after = received.json()["after"]
        return {"members": [{"user": {"email": f"{after}@example.com"}}], "next": None if after == "ada" else "ada"}

    service.route("POST", "/members", query)
    pages = {"next_page_token_from": "next"}
    wanted(repo, paged(service, method="POST", data={"after": "{{NEXT_PAGE_TOKEN}}"}, pages=pages))
    assert standing(machine)[0] is Status.PRESENT
    assert [call.json()["after"] for call in service.calls("POST")] == [None, "ada"]


@pytest.mark.parametrize(("state", "status"), [("whole", Status.MISSING), ("cut", Status.UNKNOWN)])
def test_absent_is_said_by_the_last_page(machine, service, repo, state, status):
    service.route("GET", "/members", lambda got: {**page_of(got), "state": state})
    wanted(repo, paged(service, expected="ann@example.com", absent={"state": "whole", "next": None}))
    assert row(machine.plan(), "ada", "tool").status is status
    assert members_asked(service) == ["1", "2", "3"]


THERE, OTHER, OFF = Status.PRESENT, Status.DIFFERS, {"inactive": {"left": {"not": None}}}
VALUES: list[tuple[dict[str, Any], dict[str, Any], Status]] = [
    ({"where": {"lock": None}}, {"lock": None}, THERE),
    ({"where": {"lock": None}}, {}, THERE),
    ({"where": {"lock": None}}, {"lock": "2026"}, OTHER),
    ({"where": {"groups": {"contains": "eng"}}}, {"groups": ["ops", "eng"]}, THERE),
    ({"where": {"groups": {"contains": "eng"}}}, {"groups": ["ops"]}, OTHER),
    ({"where": {"groups": {"contains": "eng"}}}, {"groups": "eng"}, OTHER),
    ({"where": {"groups": {"contains": "eng"}}}, {}, OTHER),
    ({"where": {"groups": {"contains": ["eng", "ops"]}}}, {"groups": ["eng"]}, OTHER),
    ({"where": {"role": {"not": "guest"}}}, {"role": "guest"}, OTHER),
    ({"where": {"role": {"not": "guest"}}}, {"role": "owner"}, THERE),
    ({"where": {"groups": {"not": {"contains": "old"}}}}, {"groups": ["old"]}, OTHER),
    (OFF, {"left": "2026-01-01"}, OTHER),
    (OFF, {"left": None}, THERE),
    (OFF, {}, THERE),
    ({"absent": {"user": None}}, {"user": None}, Status.MISSING),
]


@pytest.mark.parametrize(("rules", "answer", "status"), VALUES, ids=lambda case: str(case)[:60])
def test_values_that_are_null_not_or_contained(machine, service, repo, rules, answer, status):
    there = {} if "user" in answer else {"email": "ada@example.com"}
    service.route("GET", "/users/{email}", lambda _received, email: {**there, **answer})
    exists = {"url": f"{service.url}/users/{{{{email}}}}", "expected": "{{email}}", **rules}
    wanted(repo, {"exists": exists, "execute": [{"url": f"{service.url}/users"}]})
    planned = row(machine.plan(), "ada", "tool")
    assert planned.status is status
    if status is OTHER:
        assert planned.differs == {path: (answer.get(path), value) for path, value in rules.get("where", {}).items()}


def test_what_git_adds_to_be_null_is_no_drift(machine, service, repo):
    """A commit asks for it, so it is made so, whatever `drift` says."""
    person: dict[str, Any] = {"email": "ada@example.com", "phone": "1"}
    service.route("GET", "/users/{email}", lambda _received, email: person)
    service.route("PUT", "/users/{email}", lambda _received, email: person.pop("phone"))
    place = f"{service.url}/users/{{{{email}}}}"
    where: dict[str, Any] = {"email": "{{email}}"}
    manifest = {"exists": {"url": place, "expected": "{{email}}", "where": where}, "execute": [{"url": place}]}
    manifest["update"] = [{"url": place, "method": "PUT"}]
    wanted(repo, manifest)
    assert standing(machine) == (Status.PRESENT, Action.NONE)
    where["phone"] = None
    wanted(repo, manifest)
    assert row(machine.plan(), "ada", "tool").reason == "phone: 1, git wants nothing"
    assert standing(machine) == (Status.PRESENT, Action.NONE)
    assert len(service.calls("PUT")) == 1


@pytest.mark.parametrize(("state", "sent"), [("pending", 0), ("accepted", 1)])
def test_invitation_counts_only_while_it_is_open(machine, service, repo, state, sent):
    """A service lists those that were accepted too: by somebody who left since, for example."""
    service.route("GET", "/users", {"data": []})
    service.route("GET", "/invites", {"data": [{"id": "i1", "email": "Ada@example.com", "status": state}]})
    service.route("POST", "/invites", {"id": "i2"})
    pending = {"url": f"{service.url}/invites", "data_from": "data", "match": "email", "only": {"status": "pending"}}
    exists = {"url": f"{service.url}/users", "expected": "{{email}}", "record": "data", "pending": pending}
    wanted(repo, {"exists": exists, "execute": [{"url": f"{service.url}/invites", "data": {"email": "{{email}}"}}]})
    assert standing(machine)[0] is Status.UNCONFIRMED
    assert len(service.calls("POST")) == sent
