"""Planning somebody's branch hands them nothing: measured at the host that a branch tries to bring in.

HEAD has a tool with a token, and a service with an OAuth token that has expired. Each case is a branch; `theirs` is a
server that HEAD does not allow. Planning the branch may ask `ours` what HEAD's own manifests ask; it may not say a word
to `theirs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sealing import Trust, open_vault
from reconciler.oauth.connection import stored_record
from reconciler.secrets.gpg import Gnupg
from tests.cli.conftest import Call
from tests.engine.harness import Hands
from tests.repo import Repo, Result, store_tokens
from tests.servers import AccountService, Received, Reply, Service

TOKEN = "the-token-of-the-tool"
SECRETS = (TOKEN, "the-access-token", "the-refresh-token")


@pytest.fixture
def ours(accounts: AccountService) -> AccountService:
    accounts.route("GET", "/teams", Reply(200, {"data": [{"id": "7", "name": "Design"}]}))
    return accounts


@pytest.fixture
def theirs() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def head(repo: Repo, ours: AccountService) -> Repo:
    repo.write(".gitignore", ".reconciler/\n")
    settings(repo, ours)
    repo.manifest("tool", tool(ours))
    repo.manifest("cloud", cloud(ours))
    repo.initial_data("tool", {"TOKEN": TOKEN, "BASE": ours.url})
    for number in range(12):
        repo.hire(f"h{number}", hosted(ours), "cloud")
    repo.commit()
    assert repo.gnupg is not None
    ledger = StateLocation(f"sqlite:///{repo.state}", repo.root).writer()
    vault = open_vault(ledger, Gnupg(repo.gnupg.path), Trust((repo.gnupg.fingerprint,)))
    reply = {"access_token": "the-access-token", "refresh_token": "the-refresh-token", "expires_in": 1}
    store_tokens(ledger, vault, "cloud", stored_record(reply, None, Hands().now()))
    ledger.close()
    repo.git("checkout", "-q", "-b", "branch")
    return repo


def settings(repo: Repo, ours: Service, **more: Any) -> None:
    assert repo.gnupg is not None
    repo.settings(**{"gnupg_home": repo.gnupg.path, "allowed_hosts": [ours.host], "limits": {"timeout": 5}, **more})


def hosted(service: Service, **values: str) -> dict[str, Any]:
    return {"integration": "tool", "values": {"HOST": service.host, "TEAM": {"name": "Design"}, **values}}


def tool(service: Service, **parts: Any) -> dict[str, Any]:
    team = {"url": f"{service.url}/teams", "method": "GET", "data_from": "data", "type": "choice", "name": "Team"}
    return {
        "form": [{"id": "HOST", "name": "Host", "type": "input"}, {"id": "TEAM", **team}],
        "exists": {
            "url": "http://{{HOST}}/users/{{email}}",
            "expected": "{{email}}",
            "fail_when_4xx_response_code": False,
            "list": {
                "url": "{{BASE}}/users?limit=5",
                "data_from": "data",
                "match": "email",
                "next_page_from": "next_page.uri",
            },
        },
        "execute": [{"url": "{{BASE}}/users", "data": {"email": "{{email}}"}}],
        "headers": {"Authorization": "Bearer {{TOKEN}}"},
        "initial_data_form": [{"id": "TOKEN", "name": "Token"}, {"id": "BASE", "name": "Base"}],
        **parts,
    }


def cloud(service: Service, **parts: Any) -> dict[str, Any]:
    return {
        "oauth": {
            "authenticate_url": f"{service.url}/authorize",
            "access_token": {"url": f"{service.url}/token", "data": {"a": "b"}},
            "refresh": {"url": f"{service.url}/token", "data": {"refresh_token": "{{oauth.refresh_token}}"}},
        },
        "exists": {"url": f"{service.url}/users/{{{{email}}}}", "expected": "{{email}}"},
        "execute": [{"url": f"{service.url}/users"}],
        "headers": {"Authorization": "Bearer {{oauth.access_token}}"},
        **parts,
    }


def exists_elsewhere(repo: Repo, ours: Service, theirs: Service) -> None:
    repo.manifest("tool", tool(ours, exists={"url": f"{theirs.url}/users/{{{{email}}}}", "expected": "{{email}}"}))


def execute_elsewhere(repo: Repo, ours: Service, theirs: Service) -> None:
    repo.manifest("tool", tool(ours, execute=[{"url": f"{theirs.url}/users"}]))


def and_allowed_there(repo: Repo, ours: Service, theirs: Service) -> None:
    settings(repo, ours, allowed_hosts=[ours.host, theirs.host])
    exists_elsewhere(repo, ours, theirs)


def allowed_hosts_alone(repo: Repo, ours: Service, theirs: Service) -> None:
    """The manifest stays as it is, and a hire's value is its host."""
    settings(repo, ours, allowed_hosts=[ours.host, theirs.host])
    repo.hire("eve", hosted(theirs))


def a_host_among_a_hires_values(repo: Repo, ours: Service, theirs: Service) -> None:
    for number in range(12):
        repo.hire(f"h{number}", hosted(theirs))


def more_than_a_host_among_a_hires_values(repo: Repo, ours: Service, theirs: Service) -> None:
    for number, host in enumerate(
        (f"{ours.host}@{theirs.host}", f"{theirs.host}/", f"{theirs.host}#", f"x:y@{theirs.host}", f"{theirs.host}?")
    ):
        repo.hire(f"e{number}", hosted(theirs, HOST=host))


def an_address_that_climbs(repo: Repo, ours: Service, theirs: Service) -> None:
    repo.hire("eve", hosted(ours), email=f"..//{theirs.host}/@{theirs.host}")


def headers_only(repo: Repo, ours: Service, theirs: Service) -> None:
    repo.manifest("tool", tool(ours, headers={"Host": theirs.host, "Authorization": "Bearer {{TOKEN}}"}))


def initial_data_of_the_branch(repo: Repo, ours: Service, theirs: Service) -> None:
    """Anybody can encrypt to a public key."""
    repo.initial_data("tool", {"TOKEN": "x", "BASE": theirs.url})


def another_home(repo: Repo, ours: Service, theirs: Service) -> None:
    settings(repo, ours, gnupg_home="keys", state="sqlite:///other.db", allowed_hosts=[theirs.host])


def a_manifest_that_joins_the_service(repo: Repo, ours: Service, theirs: Service) -> None:
    mine = tool(ours, exists={"url": f"{theirs.url}/users/{{{{email}}}}", "expected": "{{email}}"})
    repo.manifest("mine", {**mine, "service": "tool", "initial_data_form": []})
    repo.hire("eve", {**hosted(ours), "integration": "mine"})


def a_manifest_that_joins_the_connection(repo: Repo, ours: Service, theirs: Service) -> None:
    mine = cloud(theirs)
    del mine["oauth"]
    repo.manifest("mine", {**mine, "service": "cloud"})
    repo.hire("eve", "mine")


def the_services_name(repo: Repo, ours: Service, theirs: Service) -> None:
    repo.manifest("tool", {**exists_of(theirs, tool(ours)), "service": "cloud"})


def exists_of(theirs: Service, manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "exists": {"url": f"{theirs.url}/{{{{TOKEN}}}}", "expected": "{{email}}"}}


def a_copy_in_another_folder(repo: Repo, ours: Service, theirs: Service) -> None:
    repo.remove("manifests/tool.yaml")
    repo.write("manifests/sub/tool.yaml", exists_of(theirs, tool(ours)))


def a_twin_in_json(repo: Repo, ours: Service, theirs: Service) -> None:
    repo.write("manifests/tool.json", exists_of(theirs, tool(ours)))


def a_listing(repo: Repo, ours: Service, theirs: Service) -> None:
    listing = {"url": f"{theirs.url}/users", "data_from": "data", "match": "email"}
    repo.manifest("tool", tool(ours, exists={**tool(ours)["exists"], "list": listing}))


def a_form(repo: Repo, ours: Service, theirs: Service) -> None:
    field = {"id": "TEAM", "name": "Team", "type": "choice", "url": f"{theirs.url}/teams", "data_from": "data"}
    repo.manifest("tool", tool(ours, form=[tool(ours)["form"][0], field]))


def an_oauth_refresh(repo: Repo, ours: Service, theirs: Service) -> None:
    oauth = {
        **cloud(ours)["oauth"],
        "refresh": {"url": f"{theirs.url}/token", "data": {"t": "{{oauth.refresh_token}}"}},
    }
    repo.manifest("cloud", cloud(ours, oauth=oauth))


def an_oauth_token_request(repo: Repo, ours: Service, theirs: Service) -> None:
    repo.manifest("cloud", cloud(ours, oauth={**cloud(ours)["oauth"], "access_token": {"url": f"{theirs.url}/token"}}))


def receivers_of_messages(repo: Repo, ours: Service, theirs: Service) -> None:
    settings(
        repo,
        ours,
        alerts=[{"webhook": f"{theirs.url}/alert"}],
        twilio={"account_sid": "a", "from_number": "1", "url": theirs.url},
        smtp={"host": "127.0.0.1", "port": theirs.port},
        public_url=theirs.url,
    )


BRANCHES = [
    exists_elsewhere,
    execute_elsewhere,
    and_allowed_there,
    allowed_hosts_alone,
    a_host_among_a_hires_values,
    more_than_a_host_among_a_hires_values,
    an_address_that_climbs,
    headers_only,
    initial_data_of_the_branch,
    a_manifest_that_joins_the_service,
    a_manifest_that_joins_the_connection,
    the_services_name,
    a_copy_in_another_folder,
    a_twin_in_json,
    a_listing,
    a_form,
    an_oauth_refresh,
    an_oauth_token_request,
    receivers_of_messages,
]


def plan(head: Repo, call: Call) -> Result:
    head.commit("branch")
    head.git("checkout", "-q", "main")
    return call(head, "--dry-run", "--rev", "branch", "--output", "json")


def test_a_branch_is_planned_with_the_settings_in_force(head: Repo, ours: AccountService, call: Call) -> None:
    settings(head, ours, max_new=3, prune="revoke")
    result = plan(head, call)
    said = (
        f"planned with the settings of {head.git('rev-parse', 'main')[:12]}; those of the branch would change "
        "prune report → revoke, max_new 100 → 3"
    )
    assert (result.json["ignored"], said in result.err) == ([said], True)


@pytest.mark.no_cover  # the whole program again and again
@pytest.mark.parametrize("change", BRANCHES, ids=lambda change: change.__name__)
def test_a_branch_gets_no_token_anywhere(
    head: Repo,
    ours: AccountService,
    theirs: Service,
    call: Call,
    change: Callable[[Repo, Service, Service], None],
) -> None:
    change(head, ours, theirs)
    result = plan(head, call)
    assert theirs.requests == []
    assert result.json["revision"] == head.git("rev-parse", "branch")
    assert not any(secret in result.out + result.err for secret in SECRETS)
    assert {received.method for received in ours.requests} <= {"GET"}
    assert all(received.headers["Host"] == ours.host for received in ours.requests)


def test_a_branch_whose_settings_are_refused_is_not_planned(
    head: Repo, ours: AccountService, theirs: Service, call: Call
) -> None:
    another_home(head, ours, theirs)
    result = plan(head, call)
    assert result.code == 1
    assert "error: branch: config/reconciler.yaml" in result.err, "whose settings they are"
    assert "gnupg_home" in result.err
    assert (theirs.requests, ours.requests) == ([], [])


def test_integrations_that_a_branch_does_not_change_are_checked(head: Repo, ours: AccountService, call: Call) -> None:
    """Else the table above would hold of a program that sends nothing at all."""
    head.hire("new", hosted(ours))
    result = plan(head, call)
    assert result.grant("new", "tool")["status"] == "missing"
    asked = [received for received in ours.requests if received.headers["Authorization"] == f"Bearer {TOKEN}"]
    assert any(received.path == "/users/new@example.com" for received in asked)
    assert any(received.path == "/users" for received in asked), "the listing"
    assert any(received.path == "/teams" for received in asked)
    assert not any(received.path == "/token" for received in ours.requests), "a dry run refreshes nothing"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nor_does_a_redirect_or_a_next_page_lead_there(
    head: Repo, ours: AccountService, theirs: Service, call: Call, status: int
) -> None:
    """Not even HEAD's own service can send us there."""

    def away(_received: Received, **_named: str) -> Reply:
        return Reply(status, {"data": [], "next_page": {"uri": f"{theirs.url}/users"}}, {"Location": f"{theirs.url}/x"})

    def paged(_received: Received) -> Reply:
        return Reply(200, {"data": [], "next_page": {"uri": f"{theirs.url}/users?page=2"}})

    ours.route("GET", "/users/{email}", away)
    ours.route("GET", "/users", paged)
    head.hire("new", hosted(ours))
    result = plan(head, call)
    assert theirs.requests == []
    assert result.grant("new", "tool")["status"] == "unknown"
