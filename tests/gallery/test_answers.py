"""What ready manifests make of answers, written after the services' documentation: there, not there, no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.gallery.catalog import everything
from reconciler.model.verdict import Account, Missing, Present, Unknown
from reconciler.requests.match import condition_holds, verdict
from reconciler.requests.record import Compared
from reconciler.requests.render import expected
from reconciler.transports.messages import Response
from tests.gallery import samples

ADA = {"email": "ada@example.com"}
TAG = ".tag"

FOUND = {
    "cloudflare": {"success": True, "result": [{"id": "m1", "user": ADA, "status": "accepted"}]},
    "discourse": [{"id": 5, "username": "ada", **ADA}],
    "dropbox": {"members_info": [{TAG: "member_info", "profile": {**ADA, "status": {TAG: "active"}}}]},
    "grafana": [{"userId": 7, "login": "ada", "role": "Viewer", **ADA}],
    "hubspot": {"id": "9", "roleId": "17", "primaryTeamId": "17", **ADA},
    "jupyterhub": {"name": "ada@example.com", "admin": False, "groups": []},
    "jupyterhub-group": {"name": "17", "users": ["ada@example.com"]},
    "keycloak": [{"id": "k", "username": "ada@example.com", "enabled": True}],
    "keycloak-group": [{"id": "b", "username": "bob@example.com"}, {"id": "k", "username": "ada@example.com"}],
    "kinto": {"data": {"id": "ada@example.com", "name": "Ada Lovelace"}},
    "linear": {"data": {"users": {"nodes": [{"id": "u", "active": True, **ADA}]}}},
    "linear-team": {"data": {"team": {"memberships": {"nodes": [{"id": "m", "user": ADA}]}}}},
    "okta": {"id": "00u", "status": "ACTIVE", "profile": {"login": "ada@example.com"}},
    "okta-group": [{"id": "00g", "profile": {"name": "Other"}}, {"id": "17", "profile": {"name": "Design"}}],
    "pagerduty": {"users": [{"id": "x", "email": "nada@example.com"}, {"id": "P", "role": "admin", **ADA}]},
    "salesforce": {
        "totalSize": 1,
        "records": [{"Id": "005", "Username": "ada@example.com", "IsActive": True, "ProfileId": "17"}],
    },
    "sentry": [{"id": "3", "orgRole": "billing", "pending": False, **ADA}],
    "tailscale": {"users": [{"id": "t", "loginName": "ada@example.com", "role": "member", "status": "active"}]},
    "zendesk": {"count": 1, "users": [{"id": 8, "role": "agent", "suspended": False, **ADA}]},
    "zoom": {"id": "z", "type": 1, "status": "active", **ADA},
}

MISSING: dict[str, tuple[int, Any]] = {
    "cloudflare": (200, {"success": True, "result": [{"id": "m2", "user": {"email": "bob@example.com"}}]}),
    "discourse": (200, []),
    "dropbox": (200, {"members_info": [{TAG: "id_not_found", "id_not_found": "ada@example.com"}]}),
    "grafana": (200, []),
    "hubspot": (404, {"status": "error", "message": "resource not found"}),
    "jupyterhub": (404, {"status": 404, "message": "Not Found"}),
    "jupyterhub-group": (200, {"name": "17", "users": ["bob@example.com"]}),
    "keycloak": (200, []),
    "keycloak-group": (200, [{"id": "b", "username": "bob@example.com"}]),
    "kinto": (404, {"code": 404, "errno": 110, "error": "Not Found"}),
    "linear": (200, {"data": {"users": {"nodes": []}}}),
    "linear-team": (200, {"data": {"team": {"memberships": {"nodes": [{"user": {"email": "bob@example.com"}}]}}}}),
    "okta": (404, {"errorCode": "E0000007", "errorSummary": "Not found: ada@example.com (User)"}),
    "okta-group": (200, [{"id": "00g", "profile": {"name": "Everyone"}}]),
    "pagerduty": (200, {"users": [{"id": "x", "email": "nada@example.com"}]}),
    "salesforce": (200, {"totalSize": 0, "done": True, "records": []}),
    "sentry": (200, []),
    "tailscale": (200, {"users": [{"id": "t", "loginName": "bob@example.com"}]}),
    "zendesk": (200, {"count": 0, "users": []}),
    "zoom": (404, {"code": 1001, "message": "User does not exist: ada@example.com"}),
}

OFF: dict[str, Any] = {
    "discourse": [{"id": 5, "username": "ada", "suspended_till": "3000-01-01T00:00:00.000Z", **ADA}],
    "dropbox": {"members_info": [{TAG: "member_info", "profile": {**ADA, "status": {TAG: "suspended"}}}]},
    "keycloak": [{"id": "k", "username": "ada@example.com", "enabled": False}],
    "linear": {"data": {"users": {"nodes": [{"id": "u", "active": False, **ADA}]}}},
    "okta": {"id": "00u", "status": "DEPROVISIONED", "profile": {"login": "ada@example.com"}},
    "salesforce": {"totalSize": 1, "records": [{"Id": "005", "Username": "ada@example.com", "IsActive": False}]},
    "tailscale": {"users": [{"id": "t", "loginName": "ada@example.com", "status": "suspended"}]},
    "zendesk": {"count": 1, "users": [{"id": 8, "role": "end-user", "suspended": True, **ADA}]},
    "zoom": {"id": "z", "type": 1, "status": "inactive", **ADA},
}

NO_ANSWER: list[tuple[str, int, Any]] = [
    ("linear", 200, {"errors": [{"message": "Authentication required: ada@example.com"}], "data": None}),
    ("linear-team", 200, {"errors": [{"message": "Entity not found: ada@example.com"}], "data": {"team": None}}),
    ("linear", 400, {"errors": [{"message": "Argument Validation Error"}]}),
    ("dropbox", 200, {"error_summary": "other"}),
    ("okta", 404, {"errorCode": "E0000022", "errorSummary": "The endpoint does not support the provided method"}),
    ("salesforce", 400, [{"errorCode": "MALFORMED_QUERY"}]),
    ("zoom", 404, {"code": 300, "message": "The API does not exist."}),
    ("kinto", 404, {"code": 404, "errno": 111, "error": "Not Found"}),
    ("keycloak", 404, {"error": "Realm not found."}),
    ("keycloak-group", 404, {"error": "Could not find group by id"}),
    *((name, 401, {"message": "ada@example.com"}) for name in FOUND),
]


def said(name: str, status: int, body: Any) -> Present | Missing | Unknown:
    manifest = everything()[name].manifest
    exists = manifest.exists
    assert exists is not None
    assert exists.expected is not None
    scope = samples.scope(manifest, samples.values(manifest))
    answer = Response(status, {}, json.dumps(body).encode())
    found = verdict(exists, expected(exists.expected, scope), answer, Compared.of(exists, scope))
    assert isinstance(found, Present | Missing | Unknown)
    return found


@pytest.mark.parametrize("name", FOUND)
def test_an_account_that_is_as_git_wants_it(name: str) -> None:
    found = said(name, 200, FOUND[name])
    assert isinstance(found, Present)
    assert (found.account, found.differs) == (Account.ACTIVE, {})
    exists = everything()[name].manifest.exists
    assert exists is not None
    assert found.stored.keys() == exists.store_data.keys()


@pytest.mark.parametrize("name", MISSING)
def test_answer_without_the_address_is_absent(name: str) -> None:
    assert isinstance(said(name, *MISSING[name]), Missing)


@pytest.mark.parametrize("name", OFF)
def test_an_account_that_is_switched_off(name: str) -> None:
    found = said(name, 200, OFF[name])
    assert isinstance(found, Present)
    assert found.account is Account.INACTIVE


@pytest.mark.parametrize(("name", "status", "body"), NO_ANSWER)
def test_answer_that_names_no_person_is_unknown(name: str, status: int, body: Any) -> None:
    assert isinstance(said(name, status, body), Unknown)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("linear", {"errors": [{"message": "No seats left"}], "data": None}),
        ("dropbox", {TAG: "complete", "complete": [{TAG: "team_license_limit"}]}),
        ("dropbox", {TAG: "async_job_id", "async_job_id": "dbjid:1"}),
        ("discourse", {"success": False, "message": "Username is taken"}),
        ("cloudflare", {"success": False, "errors": [{"code": 1003}]}),
    ],
)
def test_a_refusal_that_is_answered_with_200(name: str, body: Any) -> None:
    manifest = everything()[name].manifest
    condition = manifest.execute[0].continue_if
    assert condition is not None
    scope = samples.scope(manifest, samples.values(manifest))
    assert not condition_holds(condition, Response(200, {}, json.dumps(body).encode()), scope)
