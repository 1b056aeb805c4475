"""`reconcile options`: fixed items offline, fetched ones from the service."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sealing import Trust, open_vault
from reconciler.oauth.connection import stored_record
from reconciler.secrets.gpg import Gnupg
from tests.cli.conftest import Call
from tests.repo import Repo, store_tokens
from tests.servers import AccountService, Service

TOKEN = "invented-token"


@pytest.fixture
def teams(repo: Repo, service: Service) -> Repo:
    """A manifest with a fetched choice, a fixed one, and a text; initial data beside it that cannot be opened."""
    service.route("GET", "/teams", {"data": [{"gid": 12, "title": "Design"}, {"gid": "x|y", "title": f"Not {TOKEN}"}]})
    fetched = {"url": f"{service.url}/teams", "method": "GET", "data_from": "data"}
    repo.manifest(
        "asana",
        {
            "form": [
                {"id": "TEAM_ID", "type": "choice", **fetched, "choice_value": "gid", "choice_name": "title"},
                {
                    "id": "ROLE",
                    "type": "choice",
                    "items": [{"id": "a", "name": "Admin"}, {"id": "m", "name": "Member"}],
                },
                {"id": "NOTE", "type": "input"},
            ],
            "execute": [{"url": f"{service.url}/add"}],
            "headers": {"Authorization": "Bearer {{TOKEN}}"},
            "initial_data_form": [{"id": "TOKEN"}],
        },
    )
    repo.manifest("other", {"execute": [], "initial_data_form": [{"id": "TOKEN"}]})
    repo.write("config/initial_data/other.yaml.gpg", b"damaged")
    repo.initial_data("asana", {"TOKEN": TOKEN})
    repo.commit()
    return repo


def test_fetched(teams: Repo, service: Service, call: Call) -> None:
    done = call(teams, "options", "asana", "TEAM_ID")
    assert (done.code, done.err) == (0, "")
    assert done.out == "asana TEAM_ID: 2 choices\n12   Design\nx|y  Not ***\n"
    (asked,) = service.requests
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert not teams.state.exists()


def test_json_keeps_the_values_type(teams: Repo, call: Call) -> None:
    assert call(teams, "options", "asana", "TEAM_ID", "--output", "json").json == [
        {"value": 12, "name": "Design"},
        {"value": "x|y", "name": "Not ***"},
    ]


def test_markdown(teams: Repo, call: Call) -> None:
    out = call(teams, "options", "asana", "ROLE", "--output", "markdown").out
    assert out == "**asana ROLE: 2 choices**\n\n- `a` `Admin`\n- `m` `Member`\n"


def test_fixed_items_send_no_request(teams: Repo, service: Service, call: Call) -> None:
    done = call(teams, "options", "asana", "ROLE", "--output", "json", env={"GNUPGHOME": "/nowhere"})
    assert done.json == [{"value": "a", "name": "Admin"}, {"value": "m", "name": "Member"}]
    assert service.requests == []


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("asna", "TEAM_ID"), "there is no manifests/asna.yaml in the commit in force; did you mean asana?"),
        (
            ("asana", "TEAM"),
            "manifests/asana.yaml has no form field TEAM: it has TEAM_ID, ROLE, NOTE; did you mean TEAM_ID?",
        ),
        (("asana", "NOTE"), "NOTE of asana has no choices: its type is input, any text fits"),
        (("other", "X"), "manifests/other.yaml has no form field X: it has no form"),
    ],
    ids=["integration", "field", "input", "no form"],
)
def test_wrong_names_are_wrong_usage(teams: Repo, call: Call, names: tuple[str, str], said: str) -> None:
    done = call(teams, "options", *names)
    assert (done.code, done.out, done.err) == (64, "", f"error: {said}\n")


def test_a_service_that_refuses(teams: Repo, service: Service, call: Call) -> None:
    service.fail_next(1, 403)
    done = call(teams, "options", "asana", "TEAM_ID")
    assert (done.code, done.out) == (1, "")
    assert "the options of TEAM_ID: " in done.err
    assert "answered 403" in done.err


def test_a_service_that_is_down(teams: Repo, service: Service, call: Call) -> None:
    service.stop_listening()
    done = call(teams, "options", "asana", "TEAM_ID")
    assert (done.code, done.out) == (1, "")
    assert TOKEN not in done.err


def test_without_its_initial_data(teams: Repo, service: Service, call: Call) -> None:
    teams.remove("config/initial_data/asana.yaml.gpg")
    teams.commit()
    done = call(teams, "options", "asana", "TEAM_ID")
    assert done.code == 1
    assert "`reconcile initial-data set asana` asks for it" in done.err
    assert service.requests == []


def test_a_broken_manifest(teams: Repo, accounts: AccountService, call: Call) -> None:
    teams.write("manifests/asana.yaml", "exist: {}\n")
    teams.commit()
    done = call(teams, "options", "asana", "TEAM_ID")
    assert done.code == 1
    assert "did you mean exists?" in done.err


def oauth(service: Service) -> dict[str, object]:
    return {
        "oauth": {"authenticate_url": f"{service.url}/authorize", "access_token": {"url": f"{service.url}/token"}},
        "headers": {"Authorization": "Bearer {{oauth.access_token}}"},
        "form": [{"id": "TEAM", "type": "choice", "url": f"{service.url}/teams", "method": "GET"}],
    }


def test_of_a_service_that_is_not_connected(repo: Repo, service: Service, call: Call) -> None:
    repo.manifest("cloud", oauth(service))
    repo.commit()
    done = call(repo, "options", "cloud", "TEAM")
    assert (done.code, done.out) == (1, "")
    assert "not connected: run `reconcile oauth connect cloud`" in done.err
    assert service.requests == []


def test_of_a_service_that_is_connected(repo: Repo, service: Service, call: Call) -> None:
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    repo.manifest("cloud", oauth(service))
    repo.commit()
    service.route("GET", "/teams", [{"id": "7", "name": "Design"}])
    ledger = StateLocation(f"sqlite:///{repo.state}", repo.root).writer()
    try:
        vault = open_vault(ledger, Gnupg(repo.gnupg.path), Trust((repo.gnupg.fingerprint,)))
        reply = {"access_token": "a-token-of-the-cloud"}
        store_tokens(ledger, vault, "cloud", stored_record(reply, None, datetime.now(UTC)))
    finally:
        ledger.close()
    assert call(repo, "options", "cloud", "TEAM").out == "cloud TEAM: 1 choice\n7  Design\n"
    assert service.requests[-1].headers["Authorization"] == "Bearer a-token-of-the-cloud"
