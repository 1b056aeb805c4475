"""`reconcile try`: one person's check in the open, against a service on loopback that must see nothing but checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Call
from tests.repo import Repo
from tests.servers import AccountService, Service

TOKEN = "invented-token-of-try"


@pytest.fixture
def accounts() -> Iterator[AccountService]:
    with AccountService(token=TOKEN) as running:
        yield running


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    manifest = accounts.manifest(listing=True, revoke=True)
    manifest["form"] = [{"id": "ROLE", "type": "input"}]
    manifest["exists"] |= {"where": {"role": "{{ROLE}}"}, "store_data": {"NUMBER": "id"}}
    manifest["update"] = [
        {"url": f"{accounts.url}/users/{{{{NUMBER}}}}", "method": "PUT", "data": {"role": "{{ROLE}}"}}
    ]
    manifest["exists"]["list"]["fields"] = {"email": "email"}
    repo.manifest("tool", manifest)
    repo.initial_data("tool", {"TOKEN": TOKEN})
    repo.hire("ada", {"integration": "tool", "values": {"ROLE": "admin"}})
    repo.hire("bob")
    repo.commit()
    return repo


def only_looked(accounts: AccountService) -> bool:
    return {call.method for call in accounts.requests} == {"GET"}


def test_the_whole_exchange_is_shown_and_no_secret(tool: Repo, call: Call, accounts: AccountService) -> None:
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"]["role"] = "member"
    done = call(tool, "try", "tool")
    assert done.code == 0
    assert TOKEN not in done.out + done.err
    for line in (
        "ada (ada@example.com) at tool, with manifests/tool.yaml as it stands",
        "  Authorization: Bearer ***",
        "  200",
        '    expected "ada@example.com": yes',
        '    where role wants "admin": "member": no',
        '    store_data NUMBER from id: "1"',
        "verdict: differs: role: member, git wants admin",
        "a pass would update",
        f'  PUT {accounts.url}/users/1 {{"role": "admin"}}',
        f"  DELETE {accounts.url}/users/ada@example.com",
    ):
        assert line in done.out.replace("%40", "@").splitlines(), (line, done.out)
    assert only_looked(accounts)


@pytest.mark.parametrize("output", ["table", "json"])
def test_no_part_of_a_secret_is_shown_where_a_text_is_cut(
    tool: Repo, call: Call, accounts: AccountService, output: str
) -> None:
    accounts.add("ada@example.com")
    for length in range(90, 101):
        accounts.people["ada@example.com"] |= {"role": "x" * length + TOKEN, "note": "y" * (505 - length) + TOKEN * 3}
        done = call(tool, "try", "tool", "--output", output)
        assert "where role" in done.out
        assert TOKEN[:4] not in done.out


def test_an_address_of_nobody(tool: Repo, call: Call, accounts: AccountService) -> None:
    done = call(tool, "try", "tool", "--email", "eve@example.com", "--value", "ROLE=member", "--output", "json")
    assert (done.code, done.json["status"], done.json["action"]) == (0, "missing", "execute")
    assert done.json["exchanges"][0]["answer"]["status"] == 404
    assert only_looked(accounts)


def test_the_listings_first_page(tool: Repo, call: Call, accounts: AccountService) -> None:
    accounts.add("ada@example.com", *(f"p{number}@example.com" for number in range(120)))
    done = call(tool, "try", "tool", "--list")
    assert "the listing's first page has 100 items, of which 100 count; there are more pages" in done.out
    assert '  {"match": "ada@example.com", "email": "ada@example.com"}' in done.out
    assert [call.path for call in accounts.calls("GET")] == ["/users/ada@example.com", "/users"]


def test_work_trees_manifest_goes_to_heads_hosts_only(tool: Repo, call: Call, accounts: AccountService) -> None:
    text = yaml.safe_load((tool.root / "manifests/tool.yaml").read_text())
    with AccountService(token=TOKEN) as other:
        text["exists"]["url"] = f"{other.url}/users/{{{{email}}}}"
        tool.manifest("tool", text)
        done = call(tool, "try", "tool")
        assert done.code == 1
        assert "verdict: blocked" in done.out
        assert other.requests == []
        host = other.url.removeprefix("http://")
        assert call(tool, "try", "tool", "--host", host).code == 0
        assert [call.path for call in other.requests] == ["/users/ada@example.com"]
    assert accounts.requests == []


def test_refused_token_is_no_verdict(tool: Repo, call: Call, accounts: AccountService) -> None:
    accounts.token = "another"
    done = call(tool, "try", "tool", "--hire", "ada")
    assert done.code == 1
    assert "verdict: unknown: answered 401" in done.out


def test_a_path_at_which_nobody_has_anything_is_said(tool: Repo, call: Call, accounts: AccountService) -> None:
    accounts.add("ada@example.com")
    text = yaml.safe_load((tool.root / "manifests/tool.yaml").read_text())
    text["exists"] |= {"url": f"{accounts.url}/users?limit=100", "record": "users", "match": "login"}
    tool.manifest("tool", text)
    shown = call(tool, "try", "tool", "--list").out.splitlines()
    assert shown[shown.index("    match login: nothing: no") + 1] == (
        "      no item has login; items have: id, email; ada@example.com stands at email"
    )
    assert len([line for line in shown if line.startswith("    match ")]) == 1, "of the check, not of the listing"
    assert '    list.match email: "ada@example.com": yes' in shown


def test_record_that_is_the_whole_answer_is_there(tool: Repo, call: Call, accounts: AccountService) -> None:
    accounts.add("ada@example.com")
    text = yaml.safe_load((tool.root / "manifests/tool.yaml").read_text())
    text["exists"] |= {"record": "", "match": "email"}
    tool.manifest("tool", text)
    shown = call(tool, "try", "tool", "--hire", "ada").out.splitlines()
    record = shown.index("    record: a record with id, email: yes")
    assert shown[record + 1].startswith("    match email")


def test_saved_case_has_nobody_in_it_and_passes(tool: Repo, call: Call, accounts: AccountService) -> None:
    whole = {"email": "eve.real@example.org", "phone": "+499123", "start": "2024-02-29", "manager": {"hire": "bob"}}
    tool.hire("eve", {"integration": "tool", "values": {"ROLE": "admin"}}, **whole)
    tool.commit()
    accounts.add("eve.real@example.org")
    accounts.people["eve.real@example.org"] |= {"role": "member", "phone": "+499123", "boss": "Real Name"}
    file = tool.root / "manifests/tool.test.yaml"
    done = call(tool, "try", "tool", "--hire", "eve", "--save", str(file))
    assert done.code == 0
    saved = yaml.safe_load(file.read_text())
    assert saved[0]["expect"] == "differs"
    assert saved[0]["answers"][0]["body"] == {"email": "ada@example.com", "role": "member", "id": "made-up-NUMBER"}
    for real in ("eve", "Real Name", "+499123", "2024-02-29", TOKEN):
        assert real not in file.read_text()
    assert call(tool, "test").code == 0
    assert call(tool, "try", "tool", "--hire", "eve", "--save", str(file)).code == 0
    assert call(tool, "test").out == "4 cases of 1 manifest passed\n"
    assert [each["expect"] for each in yaml.safe_load(file.read_text())] == ["differs", "orphaned"] * 2


def test_a_value_that_nobody_gave_is_named_with_how_to_give_it(tool: Repo, call: Call) -> None:
    done = call(tool, "try", "tool", "--email", "eve@example.com")
    assert done.code == 1
    assert "ROLE of the form has no value: give it with --value ROLE=…\n" in done.err


WRONG = {
    "both": (("--hire", "ada", "--email", "a@example.com"), "give one of them"),
    "no such hire": (("--hire", "nobody"), "there is no hire nobody"),
    "no address": (("--email", "nope"), "--email nope: not an address"),
    "a URL": (("--host", "http://127.0.0.1:1"), "give the host alone, as in 127.0.0.1:8080"),
    "no such value": (("--value", "TEAM=x"), "asks for no such value; allowed: ROLE"),
    "no pair": (("--value", "ROLE"), "write KEY=VALUE"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_wrong_usage(tool: Repo, call: Call, arguments: Any, says: str, accounts: AccountService) -> None:
    done = call(tool, "try", "tool", *arguments)
    assert done.code == 64
    assert says in done.err
    assert accounts.requests == []


def test_value_is_put_in_place_of_gits(tool: Repo, call: Call, accounts: AccountService) -> None:
    accounts.add("ada@example.com")
    accounts.people["ada@example.com"]["role"] = "member"
    assert "verdict: present" in call(tool, "try", "tool", "--value", "ROLE=member").out


def test_manifest_that_head_has_not_is_tried_at_a_host_that_is_allowed(
    repo: Repo, call: Call, accounts: AccountService
) -> None:
    repo.write("README.md", "")
    repo.commit()
    repo.manifest("new", accounts.manifest())
    repo.initial_data("new", {"TOKEN": TOKEN})
    repo.write("hires/.gitkeep", "")
    refused = call(repo, "try", "new", "--email", "ada@example.com")
    assert refused.code == 1
    host = accounts.url.removeprefix("http://")
    assert (
        f"by HEAD, requests may go to no host; to let this try send to the manifest's own: --host {host}\n"
        in refused.err
    )
    assert accounts.requests == []
    assert "verdict: missing" in call(repo, "try", "new", "--email", "ada@example.com", "--host", host).out


def test_unknown_integration_is_wrong_usage(tool: Repo, call: Call) -> None:
    done = call(tool, "try", "tol")
    assert done.code == 64
    assert "there is no manifests/tol.yaml; did you mean tool?" in done.err
    assert "`reconcile add billing --from-openapi FILE` begins one" in call(tool, "try", "billing").err


def test_token_that_needs_no_person_is_fetched_for_the_try(tool: Repo, call: Call, accounts: AccountService) -> None:
    manifest = yaml.safe_load((tool.root / "manifests/tool.yaml").read_text())
    manifest["headers"]["Authorization"] = "Bearer {{oauth.access_token}}"
    with Service() as tokens:
        tokens.route("POST", "/token", {"access_token": TOKEN, "expires_in": 3600})
        data = {"client_secret": "{{SECRET}}"}
        manifest["oauth"] = {
            "grant": "client_credentials",
            "access_token": {"url": f"{tokens.url}/token", "data": data},
        }
        manifest["initial_data_form"] = [{"id": "SECRET"}]
        tool.manifest("tool", manifest)
        tool.initial_data("tool", {"SECRET": "invented-client-secret"})
        tool.commit()
        done = call(tool, "try", "tool")
    assert done.code == 0, done.out
    assert "verdict: missing" in done.out
    assert TOKEN not in done.out + done.err
    assert "invented-client-secret" not in done.out + done.err
    assert len(tokens.calls("POST")) == 1
    assert only_looked(accounts)
