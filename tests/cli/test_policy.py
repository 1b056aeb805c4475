"""`config/policy.yaml`: who may hold what, offline and in a pass."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Call
from tests.repo import Repo
from tests.servers import AccountService

BOTH = {"name": "two-keys", "never_both": ["deploy", "approve"], "reason": "four eyes"}


@pytest.fixture
def company(repo: Repo, accounts: AccountService) -> Repo:
    repo.settings()
    repo.manifest("tool", accounts.manifest(team=True))
    repo.hire("ada", entry("deploy"), entry("approve"), position="Engineer")
    repo.hire("bob", entry("deploy", "2"), position="Contractor", start="2026-01-01")
    return repo


def entry(name: str, team: str = "1", **more: Any) -> dict[str, Any]:
    return {"integration": "tool", "name": name, "values": {"TEAM": team}, **more}


def policy(repo: Repo, *rules: Any) -> None:
    repo.write("config/policy.yaml", list(rules))


def problems(done: Any) -> list[tuple[str, int | None, str, str]]:
    found = (each for each in done.json["problems"] if "policy" in each["message"])
    return [(each["file"], each["line"], each["severity"], each["message"]) for each in found]


def test_validate_names_file_line_and_rule(company: Repo, call: Call) -> None:
    policy(company, BOTH)
    done = call(company, "validate", "--output", "json")
    says = "policy two-keys (four eyes): never both"
    assert done.code == 1
    assert problems(done) == [
        ("hires/ada.yaml", 6, "error", f"access deploy of ada: {says} deploy and approve"),
        ("hires/ada.yaml", 10, "error", f"access approve of ada: {says} approve and deploy"),
    ]


def test_status_has_what_the_pass_found_where_files_are_joined(company: Repo, call: Call) -> None:
    company.commit()
    assert call(company).code == 0
    policy(company, {"name": "few", "integration": "tool", "at_most": 1})
    company.hire("cyd", sequences=["gone"])
    company.commit()
    passed, status = call(company, "--output", "json"), call(company, "status", "--output", "json")
    assert (status.code, status.json["problems"]) == (1, passed.json["problems"])
    assert [each["file"] for each in status.json["problems"]] == ["config/policy.yaml", "hires/cyd.yaml"]
    company.remove("config/policy.yaml")
    company.remove("hires/cyd.yaml")
    company.commit()
    call(company)
    status = call(company, "status", "--output", "json")
    assert (status.code, status.json["problems"]) == (0, [])


@pytest.mark.parametrize(
    ("rule", "bob", "breach"),
    [
        ({"require": "until"}, {}, "it has no until"),
        ({"require": "until"}, {"until": "2027-06-30"}, None),
        ({"require": "until", "within": "90d"}, {"until": "2026-04-01"}, None),
        ({"require": "until", "within": "90d"}, {"until": "2099-01-01"}, "more than 90 days after 2026-01-01"),
        ({"require": "until", "within": "90d"}, {"until": "2099-01-01", "at": "2098-12-01"}, None),
    ],
    ids=["none", "some", "within", "beyond", "counts-from-at"],
)
def test_contractors_need_an_end(
    company: Repo, call: Call, rule: dict[str, Any], bob: dict[str, Any], breach: str | None
) -> None:
    company.hire("bob", entry("deploy", "2", **bob), position="Contractor", start="2026-01-01")
    company.remove("hires/ada.yaml")
    policy(company, {"name": "contractors", "when": {"position": "Contractor"}, **rule})
    done = call(company, "validate", "--output", "json")
    found = [message for *_, message in problems(done)]
    assert len(found) == (breach is not None)
    assert all("access deploy of bob: policy contractors: " in each and str(breach) in each for each in found)


def test_end_of_a_hire_counts_as_until(company: Repo, call: Call) -> None:
    company.hire("bob", entry("deploy", "2"), position="Contractor", start="2026-12-01", end="2027-01-31")
    policy(company, {"name": "contractors", "when": {"position": ["Contractor"]}, "require": "until", "within": "90d"})
    assert call(company, "validate").code == 0


def test_how_many_may_hold_something(company: Repo, call: Call) -> None:
    owners = {"name": "owners", "integration": "tool", "values": {"TEAM": "1"}}
    policy(company, {**owners, "at_least": 3, "at_most": 9}, {**owners, "name": "few", "at_most": 1})
    assert problems(call(company, "validate", "--output", "json")) == [
        ("config/policy.yaml", 1, "error", "policy owners: tool with TEAM 1 is given to 2, at least 3"),
        ("config/policy.yaml", 7, "error", "policy few: tool with TEAM 1 is given to 2, at most 1: ada"),
    ]


@pytest.mark.parametrize(
    "value", ["ADMIN", " admin ", "\uff41dmin", "adm\u200bin", "\u0430dmin", "\u0410DM\u0406N", "admin\ufe0f"]
)
def test_another_spelling_evades_no_rule(company: Repo, call: Call, value: str) -> None:
    company.hire("ada", entry("deploy", "admin"))
    company.hire("bob", entry("deploy", value))
    policy(company, {"name": "one", "integration": "tool", "values": {"TEAM": "admin"}, "at_most": 1})
    assert [message for *_, message in problems(call(company, "validate", "--output", "json"))] == [
        "policy one: tool with TEAM admin is given to 2, at most 1: ada, bob"
    ]


@pytest.mark.parametrize("value", ["administrator", "adm\u00efn", "1", None])
def test_another_value_is_not_the_one_of_the_rule(company: Repo, call: Call, value: str | None) -> None:
    company.hire("ada", entry("deploy", "none"), *([] if value is None else [entry("approve", value)]))
    company.hire("bob", {"integration": "tool", "name": "deploy"})
    policy(company, {"name": "one", "integration": "tool", "values": {"TEAM": "none"}, "at_most": 1})
    assert problems(call(company, "validate", "--output", "json")) == []


CONTRACTORS = {"name": "contractors", "when": {"position": "contractor"}}


def test_who_must_not_have_something_is_refused_it(company: Repo, call: Call, accounts: AccountService) -> None:
    policy(company, {**CONTRACTORS, "must_not_have": ["deploy", "approve"]})
    assert problems(call(company, "validate", "--output", "json")) == [
        ("hires/bob.yaml", 7, "error", "access deploy of bob: policy contractors: must not have deploy")
    ]
    company.commit()
    done = call(company, "--yes", "--output", "json")
    assert done.code == 1
    assert done.grant("bob", "deploy")["reason"] == "policy contractors: must not have deploy"
    assert {sent.json()["email"] for sent in accounts.calls("POST", "/users")} == {"ada@example.com"}


@pytest.mark.parametrize("position", [" CONTRACTOR\u200b", "C\u043entractor", "\uff23ontractor"])
def test_who_only_looks_like_another_is_no_exception(company: Repo, call: Call, position: str) -> None:
    company.hire("bob", entry("deploy", "2"), position=position)
    policy(
        company,
        {**CONTRACTORS, "must_not_have": ["deploy"]},
        {"name": "others", "when": {"position": {"not": position}}, "must_not_have": ["deploy"]},
    )
    assert [each for *_, each in problems(call(company, "validate", "--output", "json")) if "bob" in each] == [
        "access deploy of bob: policy contractors: must not have deploy"
    ]


def test_what_somebody_must_have_is_not_lost_while_their_file_stays(
    company: Repo, call: Call, accounts: AccountService
) -> None:
    company.manifest("tool", accounts.manifest(revoke=True))
    company.settings(prune="revoke", max_change_percent=100)
    company.hire("ada", "tool")
    company.hire("bob", "tool", position="Contractor")
    company.commit()
    assert call(company, "--yes").code == 0
    glass = {"name": "break-glass", "hire": "ada", "must_have": ["tool"]}
    policy(company, glass, {**CONTRACTORS, "must_have": ["tool"]})
    company.hire("ada", {"integration": "tool", "until": "2026-01-01"})
    company.hire("bob", position="Contractor")
    company.commit()
    assert [(file, message) for file, _, _, message in problems(call(company, "validate", "--output", "json"))] == [
        ("hires/ada.yaml", "ada: policy break-glass: must have tool"),
        ("hires/bob.yaml", "bob: policy contractors: must have tool"),
    ]
    done = call(company, "--yes", "--output", "json")
    assert [done.grant(hire, "tool")["status"] for hire in ("ada", "bob")] == ["orphaned", "orphaned"]
    assert "policy contractors: must have tool" in done.grant("bob", "tool")["reason"]
    assert accounts.calls("DELETE") == []
    company.remove("hires/bob.yaml")
    company.commit()
    call(company, "--yes")
    assert [sent.path for sent in accounts.calls("DELETE")] == ["/users/bob@example.com"]


def test_entry_that_is_called_like_an_integration_is_not_what_somebody_must_have(
    company: Repo, call: Call, accounts: AccountService
) -> None:
    company.manifest("tool", accounts.manifest(revoke=True))
    company.manifest(
        "wiki", {"execute": [{"url": f"{accounts.url}/teams/wiki/members", "data": {"email": "{{email}}"}}]}
    )
    company.settings(prune="revoke", max_change_percent=100)
    company.remove("hires/bob.yaml")
    company.hire("ada", {"integration": "tool", "name": "glass"})
    policy(company, {"name": "break-glass", "hire": "ada", "must_have": ["tool", "pages"]})
    company.commit()
    call(company, "--yes")
    company.hire("ada", {"integration": "wiki", "name": "tool"}, {"integration": "wiki", "name": "pages"})
    company.commit()
    found = [message for *_, message in problems(call(company, "validate", "--output", "json"))]
    assert found == ["ada: policy break-glass: must have tool"]
    call(company, "--yes")
    assert accounts.calls("DELETE") == []


def test_broken_rule_blocks_missing_grants_only(company: Repo, call: Call, accounts: AccountService) -> None:
    company.hire("ada", entry("deploy"))
    company.commit()
    assert call(company, "--yes").code == 0
    company.hire("ada", entry("deploy"), entry("approve"))
    company.commit()
    assert call(company, "--yes").code == 0, "found there: the service has one account a person"
    sent = len(accounts.requests)
    policy(company, BOTH)
    company.hire("cyd", entry("deploy", "3"), entry("approve", "4"), entry("other", "5"))
    company.commit()
    done = call(company, "--yes", "--output", "json")
    assert done.code == 1
    states = {(each["hire"], each["access"]): each["status"] for each in done.json["grants"]}
    assert states == {
        ("ada", "deploy"): "present",
        ("ada", "approve"): "present",
        ("bob", "deploy"): "present",
        ("cyd", "deploy"): "blocked",
        ("cyd", "approve"): "blocked",
        ("cyd", "other"): "present",
    }
    assert done.grant("cyd", "deploy")["reason"] == "policy two-keys (four eyes): never both deploy and approve"
    assert [message for *_, message in problems(done)] == [
        "access deploy of ada: policy two-keys (four eyes): never both deploy and approve",
        "access approve of ada: policy two-keys (four eyes): never both approve and deploy",
    ]
    assert all("DELETE" not in str(each) for each in accounts.requests[sent:])


def test_at_least_blocks_no_grant_and_at_most_blocks_missing_ones(company: Repo, call: Call) -> None:
    policy(
        company,
        {"name": "many", "integration": "tool", "values": {"TEAM": "2"}, "at_least": 5},
        {"name": "few", "integration": "tool", "values": {"TEAM": "1"}, "at_most": 1},
    )
    company.commit()
    done = call(company, "--dry-run", "--output", "json")
    assert done.code == 1
    assert done.grant("bob", "deploy")["action"] == "execute"
    assert {done.grant("ada", name)["status"] for name in ("deploy", "approve")} == {"blocked"}


@pytest.mark.parametrize(
    "text",
    ["- [", "- {name: a}", "- {name: a, never_both: [x]}", "- {name: a, when: {position: X}, at_most: 1}", "nonsense"],
)
def test_unreadable_policy_blocks_missing_grants(company: Repo, call: Call, text: str) -> None:
    company.commit()
    call(company, "--yes")
    company.write("config/policy.yaml", text + "\n")
    company.hire("cyd", entry("deploy", "3"))
    company.commit()
    done = call(company, "--yes", "--output", "json")
    assert done.code == 1
    assert done.grant("cyd", "deploy")["status"] == "blocked"
    assert done.grant("cyd", "deploy")["reason"].startswith("the policy cannot be read: config/policy.yaml")
    assert done.grant("ada", "deploy")["status"] == "present"
    assert call(company, "validate").code == 1


def test_rule_that_matches_nothing_is_a_warning(company: Repo, call: Call) -> None:
    policy(
        company,
        {"name": "a", "never_both": ["deploy", "aprove"]},
        {"name": "b", "when": {"position": "Nobody"}, "require": "until"},
        {"name": "c", "integration": "tol", "at_most": 3},
    )
    done = call(company, "validate", "--output", "json")
    assert done.code == 0
    assert [(file, severity, message) for file, _, severity, message in problems(done)] == [
        (
            "config/policy.yaml",
            "warning",
            "policy a: nobody has an access entry aprove, and there is no such integration; did you mean approve?",
        ),
        ("config/policy.yaml", "warning", "policy b: when matches no hire"),
        ("config/policy.yaml", "warning", "policy b: when: no hire has position Nobody"),
        ("config/policy.yaml", "warning", "policy c: there is no integration tol; did you mean tool?"),
    ]


def test_value_that_a_choice_does_not_have_is_a_warning(company: Repo, call: Call, accounts: AccountService) -> None:
    """Such as an item's name in a rule, which counts ids."""
    items = [{"id": "admin", "name": "Owner"}, {"id": 1, "name": "Member"}]
    company.manifest("tool", {**accounts.manifest(), "form": [{"id": "TEAM", "type": "choice", "items": items}]})
    of_tool = {"integration": "tool", "at_most": 5}
    policy(
        company,
        {"name": "owners", "values": {"TEAM": "Owner"}, **of_tool},
        {"name": "fine", "values": {"TEAM": " ADMIN"}, **of_tool},
        {"name": "number", "values": {"TEAM": 1}, **of_tool},
    )
    company.write("config/requestable.yaml", [{"integration": "tool", "values": {"TEAM": ["Owner", "1", "gone"]}}])
    done = call(company, "validate", "--output", "json")
    told = [(each["file"], each["severity"], each["message"]) for each in done.json["problems"]]
    there = "is not among the items: admin (Owner), 1 (Member)"
    assert [each for each in told if "TEAM" in each[2] and each[0].startswith("config/")] == [
        ("config/policy.yaml", "warning", f"policy owners: TEAM Owner {there}"),
        ("config/requestable.yaml", "warning", f"tool: TEAM gone {there}"),
    ]


def test_rule_that_names_one_thing_twice_is_an_error(company: Repo, call: Call) -> None:
    policy(company, {"name": "a", "never_both": ["deploy", "deploy"]})
    done = call(company, "validate")
    assert (done.code, "config/policy.yaml:1: error: 'a': never_both names the same thing twice" in done.out) == (
        1,
        True,
    )


def test_name_of_two_rules_is_an_error_where_it_stands_again(company: Repo, call: Call) -> None:
    rule = "  never_both: [deploy, approve]\n  name: a\n"
    company.write("config/policy.yaml", f"-{rule[1:]}-{rule[1:]}")
    assert "config/policy.yaml:4: error: 1.name: 'a' stands twice" in call(company, "validate").out


def test_rule_with_one_name_is_refused_with_how_many_it_needs(company: Repo, call: Call) -> None:
    policy(company, {"name": "a", "never_both": ["deploy"]})
    assert "config/policy.yaml:2: error: 'a'.never_both: must have at least 2" in call(company, "validate").out


def test_branch_cannot_take_the_rules_away(company: Repo, call: Call) -> None:
    company.remove("hires/ada.yaml")
    policy(company, BOTH)
    company.commit()
    company.git("checkout", "--quiet", "-b", "branch")
    company.remove("config/policy.yaml")
    company.hire("ada", entry("deploy"), entry("approve"))
    company.commit()
    company.git("checkout", "--quiet", "main")
    done = call(company, "diff", "main", "branch", "--output", "json")
    assert done.code == 1
    assert sum("policy two-keys" in each["message"] for each in done.json["problems"]["added"]) == 2
    dry = call(company, "--dry-run", "--rev", "branch", "--output", "json")
    assert dry.grant("ada", "deploy")["status"] == "blocked"
    assert dry.grant("bob", "deploy")["action"] == "execute"


def test_a_choice_by_name_is_no_way_around_a_count(company: Repo, call: Call, accounts: AccountService) -> None:
    """Only the service knows what the name means, so nobody can count it offline: the entry has to say the value."""
    manifest = accounts.manifest(team=True)
    manifest["form"] = [{"id": "TEAM", "name": "Team", "type": "choice", "url": f"{accounts.url}/teams"}]
    accounts.route("POST", "/teams", [{"id": 1, "name": "Root"}])
    company.manifest("tool", manifest)
    company.remove("hires/ada.yaml")
    company.hire("bob", {"integration": "tool", "values": {"TEAM": {"name": "Root"}}})
    policy(company, {"name": "few", "integration": "tool", "values": {"TEAM": "1"}, "at_most": 0})
    company.commit()
    done = call(company, "validate", "--output", "json")
    why = "policy few: it counts TEAM by value, and this is a name: write the value"
    assert (done.code, [each[3] for each in problems(done)]) == (1, [f"access tool of bob: {why}"])
    row = call(company, "--output", "json").grant("bob", "tool")
    assert (row["status"], row["reason"]) == ("blocked", why)
    assert accounts.people == {}


def test_value_from_the_hires_own_file_is_no_way_around_a_count(
    company: Repo, call: Call, accounts: AccountService
) -> None:
    """A template takes what the entry does not give from `extra`."""
    company.remove("hires/ada.yaml")
    company.hire("bob", "tool", extra={"TEAM": "admin"})
    policy(company, {"name": "few", "integration": "tool", "values": {"TEAM": "admin"}, "at_most": 0})
    company.commit()
    done = call(company, "validate", "--output", "json")
    says = "policy few: tool with TEAM admin is given to 1, at most 0"
    assert (done.code, [each[3] for each in problems(done)]) == (1, [f"{says}: bob"])
    row = call(company, "--yes", "--output", "json").grant("bob", "tool")
    assert (row["status"], row["reason"], accounts.calls("POST")) == ("blocked", says, [])
