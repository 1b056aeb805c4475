"""`reconcile unmanaged`: who is in a service and not in git."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.ledger.reader import Grants
from reconciler.model.grant import Record
from reconciler.model.hire import Hire
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.git.trees import Tree
from reconciler.repository.hire_index import HireSummary
from reconciler.repository.parsing import parse_hire
from reconciler.review.dry_run import DryRun
from tests.cli.conftest import Call
from tests.engine.harness import Hands, Machine
from tests.repo import Repo
from tests.servers import AccountService, Reply

MOMENT = r"\d\d:\d\d:\d\d(\.\d+)?"


@pytest.fixture
def saas() -> Iterator[AccountService]:
    with AccountService() as service:
        yield service


@pytest.fixture
def repo(repo: Repo, saas: AccountService) -> Repo:
    repo.settings()
    repo.manifest("saas", saas.manifest(listing=True))
    repo.write("hires/.keep", "")
    return repo


def kinds(result: Any) -> dict[str, str]:
    return {each["account"]: each["kind"] for each in result.json["accounts"]}


def test_records_are_read_some_hires_at_a_time(
    repo: Repo, saas: AccountService, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    hires = [f"h{number}" for number in range(25)]
    for hire in hires:
        repo.hire(hire, "saas")
    saas.add(*(f"{hire}@example.com" for hire in hires))
    repo.commit()
    call(repo, "--yes")
    repo.remove("hires/h3.yaml")
    repo.commit()
    records, read = Grants.records, list[int]()

    def counted(self: Grants, hires: Collection[str], *given: Any) -> Iterator[Record]:
        read.append(len(hires))
        return records(self, hires, *given)

    monkeypatch.setattr(Grants, "records", counted)
    monkeypatch.setattr("reconciler.review.owners.READ_AT_A_TIME", 10)
    assert kinds(call(repo, "unmanaged", "--output", "json")) == {"h3@example.com": "orphaned"}
    assert read == [10, 10, 5]


def test_unmanaged_accounts(repo: Repo, saas: AccountService, call: Call) -> None:
    saas.add("ada@example.com", "Bob@example.com", "ci-bot@example.com", "adda@example.com", "zoe@example.com")
    repo.hire("ada", "saas")
    repo.hire("bob")
    ignored = {"integration": "saas", "account": "*-bot@example.com", "reason": "CI"}
    repo.write("config/ignore.yaml", [ignored, {**ignored, "account": "zoe*", "until": "2020-01-01"}])
    head = repo.commit()

    found = call(repo, "unmanaged", "--output", "json")

    assert found.code == 0
    assert found.json == {
        "revision": head,
        "integrations": [{"integration": "saas", "listed": 5, "matched": 1, "ignored": 1, "complete": True}],
        "accounts": [
            {
                "integration": "saas",
                "account": account,
                "email": account,
                "kind": kind,
                "near": near,
                "first_seen": None,
                "reason": reason,
            }
            for account, kind, near, reason in [
                ("Bob@example.com", "unmanaged", "bob", "bob has no entry for it"),
                ("ci-bot@example.com", "ignored", None, "CI"),
                ("adda@example.com", "unmanaged", None, "no hire has this account"),
                ("zoe@example.com", "unmanaged", None, "no hire has this account"),
            ]
        ],
    }
    assert [(request.method, request.path) for request in saas.requests] == [("GET", "/users")]
    assert not repo.state.exists()
    assert call(repo, "unmanaged", "--detailed-exitcode").code == 2
    assert call(repo, "unmanaged").out.startswith("3 accounts that git does not know, in 1 listing\n")
    rows = list(csv.DictReader(io.StringIO(call(repo, "unmanaged", "--output", "csv").out)))
    assert [row["account"] for row in rows] == list(kinds(found))
    assert "| `saas` | `zoe@example.com` |" in call(repo, "unmanaged", "--output", "markdown").out


def test_two_people_whose_addresses_only_fold_alike_are_two(repo: Repo, saas: AccountService, call: Call) -> None:
    saas.add("FUẞBALL@example.com", "fussball@example.com", "STRAUSS@example.com", "strauß@example.com")
    repo.hire("fußball", "saas", email="fußball@example.com")
    repo.write("config/ignore.yaml", [{"integration": "saas", "account": "strauss@*", "reason": "CI"}])
    repo.commit()
    found = call(repo, "unmanaged", "--output", "json")
    assert (found.json["integrations"][0]["matched"], kinds(found)) == (
        1,
        {"fussball@example.com": "unmanaged", "STRAUSS@example.com": "ignored", "strauß@example.com": "unmanaged"},
    )


def test_accounts_of_removed_grants_are_orphaned(repo: Repo, saas: AccountService, call: Call) -> None:
    saas.add("ada@example.com")
    repo.hire("ada", "saas")
    repo.commit()
    assert call(repo).code == 0
    repo.remove("hires/ada.yaml")
    repo.commit()

    found = call(repo, "unmanaged", "--output", "json")

    assert kinds(found) == {"ada@example.com": "orphaned"}
    assert found.json["accounts"][0]["reason"] == "ada/saas is no longer in git"
    assert "ada@example.com" in saas.people


def test_account_of_an_entry_that_is_over_is_orphaned_for_that_reason(
    repo: Repo, saas: AccountService, call: Call
) -> None:
    saas.add("ada@example.com")
    repo.hire("ada", "saas")
    repo.commit()
    assert call(repo).code == 0
    repo.hire("ada", {"integration": "saas", "until": "2020-01-01"})
    repo.commit()
    (found,) = call(repo, "unmanaged", "--output", "json").json["accounts"]
    assert (found["kind"], found["reason"]) == ("orphaned", "ada/saas: until 2020-01-01 is reached")


def test_account_that_was_made_again_after_its_entry_was_over_is_unmanaged(
    repo: Repo, saas: AccountService, call: Call
) -> None:
    repo.manifest("saas", saas.manifest(listing=True, revoke=True))
    repo.hire("ada", {"integration": "saas", "for": "1s"})
    repo.commit()
    yesterday = Hands(datetime.now(UTC) - timedelta(days=1))
    assert Machine(repo, yesterday).reconcile().executed == 1
    assert (call(repo).code, saas.people) == (0, {})
    saas.add("ada@example.com")
    found = call(repo, "unmanaged", "--output", "json")
    assert (kinds(found), found.json["integrations"][0]["matched"]) == ({"ada@example.com": "unmanaged"}, 0)
    (proposed,) = call(repo, "--dry-run", "--output", "json").json["grants"]
    assert proposed["status"] == "revoked"


def test_account_whose_time_is_over_is_orphaned_although_its_file_broke(
    repo: Repo, saas: AccountService, call: Call
) -> None:
    repo.hire("ada", {"integration": "saas", "for": "1s"})
    repo.commit()
    assert Machine(repo, Hands(datetime.now(UTC) - timedelta(days=1))).reconcile().executed == 1
    repo.write("hires/ada.yaml", "email: ada@example.com\nfirst_name: [\n")
    repo.commit()
    call(repo)
    assert call(repo, "status", "--output", "json").grant("ada", "saas")["status"] == "orphaned"
    found = call(repo, "unmanaged", "--output", "json")
    assert (kinds(found), found.json["integrations"][0]["matched"]) == ({"ada@example.com": "orphaned"}, 0)


def test_the_account_of_a_broken_file_is_matched(repo: Repo, saas: AccountService, call: Call) -> None:
    saas.add("ada@example.com")
    repo.hire("ada", "saas")
    repo.commit()
    assert call(repo).code == 0
    repo.write("hires/ada.yaml", "email: ada@example.com\nfirst_name: [\n")
    repo.commit()

    found = call(repo, "unmanaged", "--output", "json")

    assert (found.json["accounts"], found.json["integrations"][0]["matched"]) == ([], 1)


def test_a_request_that_is_not_allowed_makes_no_account_managed(repo: Repo, saas: AccountService, call: Call) -> None:
    saas.add("ada@example.com", "bob@example.com")
    repo.hire("ada")
    repo.hire("bob")
    repo.write("config/requestable.yaml", [{"integration": "saas", "longest": "8h"}])
    for hire, lasts in (("ada", "9h"), ("bob", "8h")):
        asked = {"hire": hire, "reason": "INC-12", "access": {"integration": "saas", "for": lasts}}
        repo.write(f"config/requests/{hire}-saas.yaml", asked)
    repo.commit()
    assert kinds(call(repo, "unmanaged", "--output", "json")) == {"ada@example.com": "unmanaged"}


def test_who_has_no_file_that_can_be_read_has_the_account_of_their_login(
    repo: Repo, saas: AccountService, call: Call
) -> None:
    manifest = saas.manifest(listing=True)
    manifest["exists"] |= {"url": f"{saas.url}/users/{{{{LOGIN}}}}", "expected": "{{LOGIN}}"}
    manifest["execute"][0]["data"] = {"email": "{{LOGIN}}"}
    repo.manifest("saas", manifest)
    for name in ("ada", "bob", "left"):
        repo.hire(name, "saas", extra={"LOGIN": f"login-{name}"})
    repo.commit()
    assert call(repo).code == 0
    repo.remove("hires/left.yaml")
    repo.write("hires/bob.yaml", "email: [\n")
    repo.commit()

    found = call(repo, "unmanaged", "--output", "json")

    assert found.json["integrations"][0]["matched"] == 2
    assert [(each["account"], each["kind"]) for each in found.json["accounts"]] == [("login-left", "orphaned")]


@pytest.mark.parametrize("what", ["page", "not json", "blocked", "broken manifest"])
def test_listing_that_was_cut_off_is_not_complete(repo: Repo, saas: AccountService, call: Call, what: str) -> None:
    saas.add(*(f"p{number}@example.com" for number in range(150)))
    match what:
        case "page":
            saas.route("GET", "/users", lambda got: Reply(500, "no") if "page" in got.query else saas._list(got))
        case "not json":
            saas.route("GET", "/users", Reply(200, "hello"))
        case "blocked":
            repo.manifest("saas", {**saas.manifest(listing=True), "initial_data_form": [{"id": "X", "name": "X"}]})
        case _:
            repo.write("manifests/saas.yaml", "exists: 1\n")
    repo.commit()

    found = call(repo, "unmanaged", "--detailed-exitcode", "--output", "json")

    assert found.code == 1
    assert found.json["integrations"] == [
        {"integration": "saas", "listed": 0, "matched": 0, "ignored": 0, "complete": False}
    ]
    assert found.json["accounts"] == []
    assert "saas: the listing was not read whole: " in found.err


def test_an_integration_without_a_listing_is_named(repo: Repo, saas: AccountService, call: Call) -> None:
    repo.manifest("hook", {"execute": [{"url": saas.url}]})
    repo.commit()

    found = call(repo, "unmanaged", "--output", "json")

    assert found.code == 0
    assert {each["integration"]: each["complete"] for each in found.json["integrations"]} == {
        "hook": False,
        "saas": True,
    }
    one = call(repo, "unmanaged", "--integration", "hook", "--output", "json")
    assert [each["integration"] for each in one.json["integrations"]] == ["hook"]
    assert (
        "hook: not known: the manifest has no list under exists\n"
        in call(repo, "unmanaged", "--integration", "hook").out
    )
    wrong = call(repo, "unmanaged", "--integration", "sas")
    assert (wrong.code, wrong.out) == (64, "")
    assert "did you mean saas?" in wrong.err


def test_accounts_of_a_listing(repo: Repo, saas: AccountService, call: Call) -> None:
    manifest = saas.manifest(listing=True)
    manifest["exists"]["expected"] = "{{LOGIN}}"
    manifest["form"] = [{"id": "LOGIN", "name": "Login", "type": "input"}]
    manifest["exists"]["list"] |= {
        "match": "login",
        "account": "id",
        "fields": {"email": "mail", "first_name": "first", "last_name": "last"},
        "only": {"bot": False},
    }
    repo.manifest("saas", manifest)
    repo.hire("grace", first_name="Zoë", last_name="Hopper")
    repo.hire("ada", {"integration": "saas", "values": {"LOGIN": "ada"}})
    saas.route(
        "GET",
        "/users",
        {
            "users": [
                {"login": "ada", "id": 1, "bot": False},
                {"login": "gh", "id": 2, "mail": "gh@old.example", "first": "ZOE", "last": "Hopper", "bot": False},
                {"login": None, "id": 3, "mail": "GRACE@example.com", "bot": False},
                {"login": "\x1b[31mred\n", "id": None, "bot": False},
                {"login": "robot", "id": 5, "bot": True},
                "what",
            ]
        },
    )
    repo.commit()

    found = call(repo, "unmanaged", "--output", "json")

    assert found.json["integrations"][0] == {
        "integration": "saas",
        "listed": 4,
        "matched": 1,
        "ignored": 0,
        "complete": True,
    }
    assert [(each["account"], each["email"], each["near"]) for each in found.json["accounts"]] == [
        ("2", "gh@old.example", "grace"),
        ("3", "GRACE@example.com", "grace"),
        ("\x1b[31mred\n", None, None),
    ]
    assert "\x1b" not in call(repo, "unmanaged").out


def test_broken_file_of_ignored_accounts_is_reported(repo: Repo, saas: AccountService, call: Call) -> None:
    saas.add("ci-bot@example.com")
    repo.write("config/ignore.yaml", "- {integration: saas, account: '*'}\n")
    repo.commit()

    found = call(repo, "unmanaged", "--output", "json")

    assert (found.code, kinds(found)) == (1, {"ci-bot@example.com": "unmanaged"})
    assert "config/ignore.yaml:1: 0.reason" in found.err.replace("error: ", "")


def test_a_dry_run_in_processes_is_what_it_is_in_one(
    repo: Repo, saas: AccountService, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [f"p{number:02}" for number in range(30)]
    for stem in people:
        repo.hire(stem, "saas")
    saas.add(*(f"{stem}@example.com" for stem in people), "eve@example.com")
    repo.commit()
    call(repo, "--yes")
    repo.write("README.md", "another revision")
    repo.commit()
    call(repo, "--yes")
    saas.people.pop("p29@example.com")
    taken, add = list[object](), DryRun._add_quiet

    def noted(*given: Any) -> Any:
        taken.append(given)
        return add(*given)

    monkeypatch.setattr("reconciler.cli.commands.one_pass.MAX_HIRES", 5)
    monkeypatch.setattr(DryRun, "_add_quiet", noted)
    for output in ("json", "csv", "markdown", "table"):
        alone = call(repo, "--dry-run", "--output", output)
        assert taken == []
        before = len(saas.requests)
        with monkeypatch.context() as patch:
            patch.setattr("reconciler.review.dry_run.processes", lambda: 2)
            patch.setattr("reconciler.review.dry_run.MANY", 25)
            patch.setattr("reconciler.review.dry_run.FEW", 2)
            forked = call(repo, "--dry-run", "--output", output)
        assert [request.path for request in saas.requests[before:]] == ["/users", "/users/p29@example.com"]
        assert len(taken) == 14, "of 25 hires, two at a time and of each five the last, without the one who is gone"
        taken.clear()
        assert (forked.code, forked.err) == (alone.code, alone.err)
        assert re.sub(MOMENT, "", forked.out) == re.sub(MOMENT, "", alone.out)


def test_a_pass_counts_them_and_remembers_when_they_came(repo: Repo, saas: AccountService, call: Call) -> None:
    people = [f"p{number}" for number in range(12)]
    for stem in people:
        repo.hire(stem, "saas")
    saas.add(*(f"{stem}@example.com" for stem in people), "eve@example.com", "mallory@example.com")
    repo.commit()

    dry = call(repo, "--dry-run")
    assert "2 accounts that git does not know: 2 of saas\n" in dry.out
    assert [request.path for request in saas.requests] == ["/users"]
    assert not repo.state.exists()
    done = call(repo, "--output", "json")
    assert (done.code, done.json["unmanaged"]) == (0, {"saas": 2})

    first = {each["first_seen"] for each in call(repo, "unmanaged", "--output", "json").json["accounts"]}
    assert len(first) == 1
    assert None not in first
    saas.people.pop("eve@example.com")
    assert call(repo).code == 0
    saas.add("eve@example.com")
    later = {
        each["account"]: each["first_seen"] for each in call(repo, "unmanaged", "--output", "json").json["accounts"]
    }
    assert later == {"mallory@example.com": first.pop(), "eve@example.com": None}


def test_each_value_of_the_form_has_a_listing_of_its_own(repo: Repo, saas: AccountService, call: Call) -> None:
    manifest = saas.manifest(listing=True)
    manifest["form"] = [{"id": "TEAM", "name": "Team", "type": "input"}]
    manifest["exists"]["list"]["url"] = f"{saas.url}/team/{{{{TEAM}}}}"
    repo.manifest("saas", manifest)
    for team, who in {"red": "ada", "blue": "bob"}.items():
        saas.route("GET", f"/team/{team}", {"users": [{"email": "ada@example.com"}]})
        repo.hire(who, {"integration": "saas", "values": {"TEAM": team}})
    repo.commit()

    found = call(repo, "unmanaged", "--output", "json")

    assert found.json["integrations"][0] | {"ignored": 0} == {
        "integration": "saas",
        "listed": 2,
        "matched": 1,
        "ignored": 0,
        "complete": True,
    }
    assert [each["reason"] for each in found.json["accounts"]] == ["ada has no entry for it (TEAM=blue)"]
    for who in ("ada", "bob"):
        repo.remove(f"hires/{who}.yaml")
    repo.hire("eve")
    repo.commit()
    found = call(repo, "unmanaged")
    assert "saas: not known: no access entry has the values that the list is read with" in found.out


def test_an_edit_where_the_worktree_counts_moves_no_command_to_another_state(
    repo: Repo, saas: AccountService, call: Call
) -> None:
    repo.settings(source="worktree")
    for who in ("ada", "bob"):
        repo.hire(who, "saas")
    repo.commit()
    call(repo)
    repo.remove("hires/bob.yaml")
    repo.settings(source="worktree", state="sqlite:///other.db", suspend=[{"hire": "ada"}])

    assert kinds(call(repo, "unmanaged", "--output", "json")) == {"bob@example.com": "orphaned"}
    assert call(repo, "adopt", "saas", "--all").out == ""
    for command in (["--dry-run"], ["--yes"], ["status"]):
        found = call(repo, *command, "--output", "json")
        statuses = {each["hire"]: each["status"] for each in found.json["grants"]}
        assert statuses == {"ada": "suspended", "bob": "orphaned"}
    assert not (repo.root / "other.db").exists()


def test_hire_is_read_once_for_all_listings(
    repo: Repo, saas: AccountService, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.repository.desired.MAX_KEPT", 0)
    monkeypatch.setattr("reconciler.repository.hires.MAX_PACKED", 0)
    monkeypatch.setattr("reconciler.repository.hires.LAST", 1)
    parsed: list[str] = []

    def counted(tree: Tree, summary: HireSummary) -> Loaded[Hire]:
        parsed.append(summary.stem)
        return parse_hire(tree, summary)

    monkeypatch.setattr("reconciler.repository.hires.parse_hire", counted)
    names = ("saas", "wiki", "chat")
    for name in names[1:]:
        repo.manifest(name, saas.manifest(listing=True))
    for who in ("ada", "bob"):
        repo.hire(who, *names)
    repo.commit()

    found = call(repo, "unmanaged", "--output", "json")

    assert [each["complete"] for each in found.json["integrations"]] == [True] * len(names)
    assert parsed.count("ada") == 2, "once for whom accounts resemble, once for whose they are"
