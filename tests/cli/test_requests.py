"""Requests for access: what is allowed, what is refused, and that a refusal holds nothing but itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.model.errors import Severity
from reconciler.model.status import Status
from tests.cli.conftest import Call
from tests.engine.harness import Machine, row
from tests.repo import Repo
from tests.servers import AccountService

EIGHT_HOURS = {"for": "8h"}
OFFER = {"integration": "tool", "who": {"department": ["R&D"]}, "values": {"TEAM": ["2", "3"]}}


@pytest.fixture
def company(repo: Repo, accounts: AccountService) -> Repo:
    repo.settings()
    account, tool = "{{TEAM}}-{{email}}", accounts.manifest(revoke=True)
    tool["form"] = [{"id": "TEAM", "name": "Team", "type": "input"}]
    tool["exists"] |= {"url": f"{accounts.url}/users/{account}", "expected": account}
    tool["execute"][0]["data"]["email"] = account
    tool["revoke"][0]["url"] = f"{accounts.url}/users/{account}"
    repo.manifest("tool", tool)
    repo.hire("ada", entry("1"), department="R&D")
    repo.hire("bob", department="Sales")
    offer(repo, OFFER)
    return repo


def entry(team: str, **more: Any) -> dict[str, Any]:
    return {"integration": "tool", "values": {"TEAM": team}, **more}


def offer(repo: Repo, *offers: Any) -> None:
    repo.write("config/requestable.yaml", list(offers))


def request(repo: Repo, stem: str = "queue", hire: str = "ada", team: str = "2", **access: Any) -> str:
    path = f"config/requests/{stem}.yaml"
    asked = {"requested_by": f"{hire}@example.com", "requested_at": "2026-12-01T09:12:00Z"}
    access = access if "for" in access else {"until": "2099-01-01", **access}
    repo.write(path, {"hire": hire, "access": entry(team, **access), "reason": "INC-12", **asked})
    return path


def _review(repo: Repo) -> str:
    text = (repo.root / "config/reviews/2026-Q4/tool.yaml").read_text()
    return text.replace('"', "'")


def problems(done: Any) -> list[str]:
    return [each["message"] for each in done.json["problems"] if each["file"].startswith("config/request")]


def test_request_gives_one_more_entry_which_ends_with_its_file(company: Repo, call: Call) -> None:
    path = request(company)
    company.commit()
    done = call(company, "--yes", "--output", "json")
    asked = {each["access"]: each["request"] for each in done.json["grants"]}
    expected = {"reason": "INC-12", "requested_by": "ada@example.com", "requested_at": "2026-12-01T09:12:00Z"}
    assert (done.code, asked) == (0, {"tool": None, "queue": expected})
    status = call(company, "status", "--output", "json").json["grants"]
    assert {each["access"]: (each["status"], each["request"]) for each in status} == {
        "tool": ("present", None),
        "queue": ("present", expected),
    }
    explained = call(company, "explain", "ada", "queue").out
    assert "asked for by ada@example.com (claimed) at 2026-12-01T09:12:00Z: INC-12" in explained
    lines = call(company, "history", "--output", "json").json
    told = {line["access"] for line in lines if "asked for by ada@example.com: INC-12" in line["detail"]}
    assert told == {"queue"}
    assert call(company, "review", "start", "2026-Q4").code == 0
    assert "request: 'asked for by ada@example.com: INC-12'" in _review(company)
    assert call(company, "review", "check", "2026-Q4").code == 1, "it is not committed"
    company.commit()
    assert call(company, "review", "check", "2026-Q4").code == 2, "its lines are undecided"
    company.remove(path)
    company.commit()
    gone = call(company, "--dry-run", "--output", "json").json["grants"]
    assert {each["access"]: each["status"] for each in gone} == {"tool": "present", "queue": "orphaned"}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"hire": "bob"}, "it may be asked for by hires with department R&D"),
        ({"team": "9"}, "TEAM is 9, and may be 2 or 3"),
    ],
    ids=["not-theirs", "another-value"],
)
def test_refused_request_is_invalid_and_holds_nothing_else(
    company: Repo, call: Call, accounts: AccountService, asked: dict[str, Any], why: str
) -> None:
    request(company, **asked)
    company.commit()
    hire = asked.get("hire", "ada")
    assert problems(call(company, "validate", "--output", "json")) == [
        f"access queue: config/requestable.yaml does not allow it: {why}"
    ]
    done = call(company, "--yes", "--output", "json")
    found = {(each["hire"], each["access"]): each["status"] for each in done.json["grants"]}
    assert (done.code, found) == (1, {("ada", "tool"): "present", (hire, "queue"): "invalid"})
    [listed] = call(company, "request", "list", "--output", "json").json
    assert (listed["state"], listed["refused"]) == ("ended", f"config/requestable.yaml does not allow it: {why}")
    assert f"refused: config/requestable.yaml does not allow it: {why}" in call(company, "request", "list").out
    assert "no request" in call(company, "request", "tidy").out, "it may be allowed yet"
    company.hire("ada", department="R&D")
    company.settings(prune="revoke")
    company.commit()
    left = call(company, "--dry-run", "--output", "json").json["grants"]
    assert ("ada", "tool", "revoke") in {(each["hire"], each["access"], each["action"]) for each in left}


def test_value_that_a_request_lacks_is_named_by_its_file(company: Repo, call: Call) -> None:
    offer(company, {"integration": "tool"})
    company.commit()
    asked = {"hire": "ada", "access": {"integration": "tool", "for": "8h"}, "reason": "INC-12"}
    company.write("config/requests/queue.yaml", asked)
    company.commit()
    lacks = "access queue of ada: values.TEAM is missing: manifests/tool.yaml has it in its form and uses it"
    done = call(company, "validate", "--output", "json")
    assert (done.code, problems(done)) == (1, [lacks])
    done = call(company, "diff", "HEAD~1", "--output", "json")
    assert (done.code, [each["message"] for each in done.json["problems"]["added"]]) == (1, [lacks])


def test_value_that_the_hires_file_gives_has_to_be_offered(company: Repo, call: Call, accounts: AccountService) -> None:
    company.hire("ada", department="R&D", extra={"TEAM": "9"})
    asked = {"hire": "ada", "access": {"integration": "tool", "for": "8h"}, "reason": "INC-12"}
    company.write("config/requests/queue.yaml", asked)
    company.commit()
    row = call(company, "--yes", "--output", "json").grant("ada", "queue")
    why = "config/requestable.yaml does not allow it: TEAM is 9, and may be 2 or 3"
    assert (row["status"], row["reason"], accounts.calls("POST")) == ("invalid", why, [])


def test_nothing_may_be_asked_for_without_an_offer(company: Repo, call: Call) -> None:
    offer(company)
    request(company)
    found = problems(call(company, "validate", "--output", "json"))
    assert found == [
        "access queue: config/requestable.yaml does not allow it: tool is not in it; nothing may be asked for"
    ]


def test_account_that_the_hire_has_and_a_hire_that_is_not_there(company: Repo, call: Call) -> None:
    offer(company, {"integration": "tool", "longest": "40000d"})
    request(company, "again", team="1")
    request(company, "twice")
    request(company, "thrice")
    request(company, "nobody", hire="eve")
    assert problems(call(company, "validate", "--output", "json")) == [
        "access again: the hire has that account already, by access tool",
        "hire: there is no hires/eve.yaml",
        "access twice: the hire has that account already, by access thrice",
    ]


@pytest.mark.parametrize(
    ("own", "asked", "extra"),
    [
        ({"TEAM": "ops"}, {"TEAM": {"name": "Operations"}}, {}),
        ({"TEAM": "Design"}, {"TEAM": " DESign "}, {}),
        ({}, {"TEAM": "ops"}, {"TEAM": "ops"}),
        ({"TEAM": "ops"}, {}, {"TEAM": "ops"}),
        ({"TEAM": "7"}, {"TEAM": 7}, {}),
    ],
    ids=["by-name", "in-capitals", "its-own-by-extra", "by-extra", "a-number"],
)
def test_account_that_the_hire_has_is_known_in_any_spelling(
    company: Repo, call: Call, own: dict[str, Any], asked: dict[str, Any], extra: dict[str, str]
) -> None:
    manifest = yaml.safe_load((company.root / "manifests/tool.yaml").read_text())
    if own.get("TEAM") == "ops" and asked:
        manifest["form"] = [{**manifest["form"][0], "type": "choice", "items": [{"id": "ops", "name": "Operations"}]}]
    company.manifest("tool", manifest)
    offer(company, {"integration": "tool"})
    company.hire("ada", {"integration": "tool", "values": own}, extra=extra)
    access = {"integration": "tool", "values": asked, "for": "8h"}
    company.write("config/requests/queue.yaml", {"hire": "ada", "access": access, "reason": "INC-12"})
    found = problems(call(company, "validate", "--output", "json"))
    assert found == ["access queue: the hire has that account already, by access tool"]


def test_other_values_of_the_account_that_the_hire_has_are_no_account_of_their_own(company: Repo, call: Call) -> None:
    manifest = yaml.safe_load((company.root / "manifests/tool.yaml").read_text())
    manifest["form"].append({"id": "ROLE", "name": "Role", "type": "input"})
    manifest["execute"][0]["data"]["role"] = "{{ROLE}}"
    company.manifest("tool", manifest)
    company.hire("ada", {"integration": "tool", "values": {"TEAM": "2", "ROLE": "member"}}, department="R&D")
    request(company, values={"TEAM": "2", "ROLE": "owner"})
    company.commit()
    why = "the hire has that account already, by access tool"
    assert problems(call(company, "validate", "--output", "json")) == [f"access queue: {why}"]
    queue = call(company, "--yes", "--output", "json").grant("ada", "queue")
    assert (queue["status"], queue["reason"]) == ("invalid", why)


def test_longest_of_what_has_an_end_counts_from_when_it_is_first_acted_on(company: Repo) -> None:
    offer(company, {"integration": "tool", "longest": "24h"})
    request(company, until="2026-12-02T10:00Z")
    company.commit()
    machine = Machine(company)
    machine.clock.turn(minutes=59)
    found = row(machine.reconcile(), "ada", "queue")
    assert (found.status, "it is asked for" in found.reason) == ("invalid", True)
    machine.clock.turn(minutes=1)
    report = machine.reconcile()
    assert (row(report, "ada", "queue").status, list(report.problems)) == ("present", [])


def test_time_until_a_moment_is_said_in_whole_days(company: Repo, call: Call) -> None:
    offer(company, {"integration": "tool", "longest": "1d"})
    request(company, until="2099-01-01T10:20:30Z")
    (told,) = problems(call(company, "validate", "--output", "json"))
    assert re.search(r"it is asked for \d{5}d, and may be for at most 1d$", told), told


def test_longest(company: Repo, call: Call) -> None:
    offer(company, {"integration": "tool", "longest": "7d"})
    request(company, at="2098-12-20")
    request(company, "short", team="3", at="2098-12-25")
    request(company, "hours", team="4", **{"for": "8h"})
    request(company, "weeks", team="5", **{"for": "8d"})
    assert [each.rpartition(": ")[2] for each in problems(call(company, "validate", "--output", "json"))] == [
        "it is asked for 12d, and may be for at most 7d",
        "it is asked for 8d, and may be for at most 7d",
    ]


def test_branch_is_judged_by_what_its_base_offers(company: Repo, call: Call) -> None:
    base = company.commit()
    offer(company, {"integration": "tool"})
    request(company, team="9")
    company.commit()
    done = call(company, "diff", base, "--output", "json")
    assert done.code == 1
    assert [each["message"] for each in done.json["problems"]["added"]] == [
        "access queue: before this change, config/requestable.yaml does not allow it: TEAM is 9, and may be 2 or 3"
    ]
    [change] = done.json["grants"]
    assert (change["access"], change["change"], change["fields"]["reason"]) == ("queue", "added", [None, "INC-12"])


def test_another_reason_for_what_was_asked_is_a_change(company: Repo, call: Call) -> None:
    path = request(company)
    base = company.commit()
    company.write(path, (company.root / path).read_text().replace("INC-12", "INC-13"))
    company.commit()
    [change] = call(company, "diff", base, "--output", "json").json["grants"]
    assert (change["change"], change["fields"]) == ("changed", {"reason": ["INC-12", "INC-13"]})


@pytest.mark.parametrize("asked", [{"for": "9h"}, {"for": "1h", "values": {"TEEM": "2"}}])
def test_a_request_that_is_refused_or_does_not_fit_keeps_nothing_of_one_that_is_over(
    company: Repo, accounts: AccountService, asked: dict[str, Any]
) -> None:
    company.manifest("mail", accounts.manifest(revoke=True))
    offer(company, {"integration": "mail", "longest": "8h"})
    said = {"hire": "ada", "reason": "INC-12"}
    company.write("config/requests/queue.yaml", {**said, "access": {"integration": "mail", "for": "8h"}})
    company.commit()
    machine = Machine(company)
    assert row(machine.reconcile(), "ada", "queue").status == "present"
    company.write("config/requests/again.yaml", {**said, "access": {"integration": "mail", **asked}})
    company.commit()
    machine.clock.turn(hours=8)
    report = machine.reconcile()
    assert [row(report, "ada", access).status for access in ("again", "queue")] == ["invalid", "revoked"]
    assert "ada@example.com" not in accounts.people


def test_a_request_that_lacks_a_value_keeps_nothing_of_one_that_is_over(
    company: Repo, accounts: AccountService
) -> None:
    mail = {**accounts.manifest(revoke=True), "form": [{"id": "PLAN", "type": "input"}]}
    mail["execute"][0]["data"]["plan"] = "{{PLAN}}"
    company.manifest("mail", mail)
    offer(company, {"integration": "mail", "longest": "9h"})
    for stem, asked in (("queue", {"for": "8h", "values": {"PLAN": "b"}}), ("again", {"for": "9h"})):
        access = {"integration": "mail", **asked}
        company.write(f"config/requests/{stem}.yaml", {"hire": "ada", "reason": "INC-12", "access": access})
    company.commit()
    machine = Machine(company)
    assert row(machine.reconcile(), "ada", "queue").status == "present"
    machine.clock.turn(hours=8)
    report = machine.reconcile()
    assert [row(report, "ada", access).status for access in ("again", "queue")] == ["blocked", "revoked"]
    assert "ada@example.com" not in accounts.people


@pytest.mark.parametrize("ends", [{"until": "2026-12-01T10:00Z"}, {"for": "1h"}])
@pytest.mark.parametrize("asked", [False, True])
def test_account_may_be_asked_for_once_what_gave_it_is_over(
    company: Repo, accounts: AccountService, ends: dict[str, str], asked: bool
) -> None:
    """On that day too; and what is there stays for it."""
    if asked:
        request(company, "earlier", **ends)
    else:
        company.hire("ada", entry("2", name="earlier", **ends), department="R&D")
    company.commit()
    machine = Machine(company)
    assert row(machine.reconcile(), "ada", "earlier").status is Status.PRESENT
    request(company, **EIGHT_HOURS)
    company.commit()
    held = row(machine.reconcile(), "ada", "queue")
    if not asked or "until" in ends:  # of two requests, the ledger alone knows how long `for` lasts
        assert (held.status, held.reason) == (
            Status.INVALID,
            "the hire has that account already, by access earlier",
        )
    machine.clock.turn(hours=1)
    report = machine.reconcile()
    assert [row(report, "ada", name).status for name in ("queue", "earlier")] == [Status.PRESENT, Status.ORPHANED]
    assert not accounts.calls("DELETE")
    machine.clock.turn(hours=8)
    assert row(machine.reconcile(), "ada", "queue").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1


def with_role(accounts: AccountService) -> dict[str, Any]:
    manifest = accounts.manifest(revoke=True)
    manifest["form"] = [{"id": "ROLE", "type": "input"}]
    manifest["exists"]["where"] = {"role": "{{ROLE}}"}
    manifest["execute"][0]["data"]["role"] = "{{ROLE}}"
    change = {"url": f"{accounts.url}/users/{{{{email}}}}", "method": "PATCH", "data": {"role": "{{ROLE}}"}}
    return {**manifest, "update": [change]}


@pytest.mark.parametrize("second", ["later", "a-name-before"])
@pytest.mark.parametrize("ends", [{"until": "2026-12-01T10:00Z"}, {"for": "1h"}], ids=["until", "for"])
def test_of_two_requests_for_one_account_the_first_one_counts(
    company: Repo, accounts: AccountService, ends: dict[str, str], second: str
) -> None:
    """They took turns: each pass gave the account the other one's role."""
    company.manifest("mail", with_role(accounts))
    offer(company, {"integration": "mail", "longest": "9h"})
    machine = Machine(company)
    for stem, role, end in (("first", "member", ends), (second, "owner", EIGHT_HOURS)):
        access = {"integration": "mail", "values": {"ROLE": role}, **end}
        company.write(f"config/requests/{stem}.yaml", {"hire": "ada", "reason": "INC-12", "access": access})
        company.commit()
        for _ in range(2):
            machine.reconcile()
    report = machine.reconcile()
    assert [row(report, "ada", each).status for each in ("first", second)] == [Status.PRESENT, Status.INVALID]
    assert row(report, "ada", second).reason == "the hire has that account already, by access first"
    assert accounts.calls("PATCH") == []
    machine.clock.turn(hours=1)
    machine.reconcile()
    report = machine.reconcile()
    assert [row(report, "ada", each).status for each in ("first", second)] == [Status.ORPHANED, Status.PRESENT]
    assert (accounts.people["ada@example.com"]["role"], len(accounts.calls("DELETE"))) == ("owner", 0)


@pytest.mark.parametrize("alone", [False, True], ids=["all", "the entry alone"])
def test_an_entry_for_an_account_that_was_asked_for_waits_until_that_is_over(
    company: Repo, accounts: AccountService, alone: bool
) -> None:
    """What was allowed runs to its end: the two took turns."""
    company.manifest("mail", with_role(accounts))
    offer(company, {"integration": "mail", "longest": "9h"})
    access = {"integration": "mail", "values": {"ROLE": "owner"}, **EIGHT_HOURS}
    company.write("config/requests/queue.yaml", {"hire": "ada", "reason": "INC-12", "access": access})
    company.commit()
    machine = Machine(company)
    machine.reconcile()
    company.hire("ada", {"integration": "mail", "values": {"ROLE": "member"}}, department="R&D")
    company.commit()
    machine.reconcile(grants=[("ada", "mail")] if alone else None)
    report = machine.reconcile()
    waits = row(report, "ada", "mail")
    assert (waits.status, waits.reason) == (
        Status.SCHEDULED,
        "queue, which was asked for, has that account until it is over",
    )
    assert (row(report, "ada", "queue").status, report.wrong) == (Status.PRESENT, False)
    machine.clock.turn(hours=8)
    report = machine.reconcile()
    assert (row(report, "ada", "mail").status, row(report, "ada", "queue").status) == (Status.PRESENT, Status.ORPHANED)
    assert [call.json()["role"] for call in accounts.calls("PATCH")] == ["member"]
    assert accounts.calls("DELETE") == []


def test_explain_says_which_of_two_requests_for_one_account_counts(company: Repo, call: Call) -> None:
    """The one with the later name was acted on first: `explain` said `invalid` of it."""
    for stem in ("queue", "a-name-before"):
        request(company, stem)
        company.commit()
        call(company, "--yes")
    counts = {"queue": "present", "a-name-before": "invalid"}
    shown = call(company, "status", "--output", "json")
    assert {stem: shown.grant("ada", stem)["status"] for stem in counts} == counts
    explained = {stem: call(company, "explain", "ada", stem, "--output", "json").json for stem in counts}
    assert {stem: each["status"] for stem, each in explained.items()} == counts
    assert explained["a-name-before"]["reason"] == "the hire has that account already, by access queue"


def test_a_request_for_a_later_day_takes_no_account_from_one_for_now(company: Repo, accounts: AccountService) -> None:
    request(company, "a-later-day", at="2026-12-03", **EIGHT_HOURS)
    request(company, **EIGHT_HOURS)
    company.commit()
    machine = Machine(company)
    report = machine.reconcile()
    assert [row(report, "ada", each).status for each in ("a-later-day", "queue")] == [Status.SCHEDULED, Status.PRESENT]
    machine.clock.turn(days=2)
    report = machine.reconcile()
    assert [row(report, "ada", each).status for each in ("a-later-day", "queue")] == [Status.PRESENT, Status.ORPHANED]


def test_a_request_for_what_is_not_offered_keeps_nothing_of_one_that_is_over(
    company: Repo, accounts: AccountService
) -> None:
    accounts.teams["7"] = []
    teams = {"url": f"{accounts.url}/teams", "method": "GET", "data_from": "data"}
    form = [{"id": "TEAM", "type": "choice", **teams}]
    company.manifest("mail", {**accounts.manifest(team=True, revoke=True), "form": form})
    offer(company, {"integration": "mail"})
    for stem, name, lasts in (("queue", "Team 7", "8h"), ("runs", "Team 7", "9h"), ("again", "Team 8", "1h")):
        access = {"integration": "mail", "for": lasts, "values": {"TEAM": {"name": name}}}
        company.write(f"config/requests/{stem}.yaml", {"hire": "ada", "reason": "INC-12", "access": access})
    company.commit()
    machine = Machine(company)
    assert row(machine.reconcile(), "ada", "again").status == "invalid"
    accounts.teams["9"] = accounts.teams.pop("7")  # what was allowed runs to its end, also by a name that is gone
    machine.clock.turn(hours=8)
    assert "same account as ada/runs" in row(machine.reconcile(), "ada", "queue").reason
    machine.clock.turn(hours=1)
    machine.reconcile()
    assert "ada@example.com" not in accounts.people


@pytest.mark.parametrize("bad", [{"until": "2099-01-01"}, {"until": "2026-12-01T12:00", "values": {"TEEM": "2"}}])
def test_a_request_that_is_refused_or_does_not_fit_is_in_no_others_way(
    company: Repo, accounts: AccountService, call: Call, bad: dict[str, Any]
) -> None:
    company.manifest("mail", accounts.manifest())
    offer(company, {"integration": "mail", "longest": "8h"})
    said = {"hire": "ada", "reason": "INC-12"}
    company.write("config/requests/bad.yaml", {**said, "access": {"integration": "mail", **bad}})
    company.commit()
    asked = call(company, "request", "mail", "--hire", "ada", "--for", "8h", "--reason", "INC-12")
    assert (asked.code, asked.err.splitlines()[0][:5]) == (0, "next:")
    company.write("config/requests/good.yaml", {**said, "access": {"integration": "mail", "for": "8h"}})
    company.commit()
    report = Machine(company).reconcile()
    assert [row(report, "ada", access).status for access in ("bad", "good")] == ["invalid", "present"]


def test_a_request_that_is_refused_counts_for_no_rule(company: Repo, accounts: AccountService, call: Call) -> None:
    company.manifest("mail", accounts.manifest())
    mail = {"integration": "mail", **EIGHT_HOURS}
    company.write("config/requests/queue.yaml", {"hire": "ada", "reason": "x", "access": mail})
    company.hire("bob", "mail")
    apart = {"name": "apart", "never_both": ["tool", "mail"]}
    most, must = {"integration": "mail", "at_most": 1, "at_least": 1}, {"hire": "ada", "must_have": ["mail"]}
    company.write("config/policy.yaml", [apart, {"name": "one", **most}, {"name": "must", **must}])
    company.commit()
    told = [each["message"] for each in call(company, "validate", "--output", "json").json["problems"]]
    assert [each for each in told if "policy" in each and "queue" not in each] == ["ada: policy must: must have mail"]
    report = Machine(company).reconcile()
    statuses = {(each.hire, each.access): each.status for each in report.rows}
    assert statuses == {("ada", "tool"): "present", ("ada", "queue"): "invalid", ("bob", "mail"): "present"}


def test_what_a_refused_request_gave_before_counts_for_the_rules(company: Repo, accounts: AccountService) -> None:
    company.manifest("mail", accounts.manifest())
    mail = {"integration": "mail", **EIGHT_HOURS}
    company.write("config/requests/queue.yaml", {"hire": "ada", "reason": "x", "access": mail})
    company.hire("ada")
    offer(company, {"integration": "mail"})
    company.commit()
    machine = Machine(company)
    assert row(machine.reconcile(), "ada", "queue").status == "present"
    offer(company)
    company.hire("ada", entry("1"))
    company.write("config/policy.yaml", [{"name": "apart", "never_both": ["tool", "mail"]}])
    company.commit()
    report = machine.reconcile()
    assert [row(report, "ada", access).status for access in ("queue", "tool")] == ["present", "blocked"]


@pytest.mark.parametrize("back", ["ada", "countess"])
@pytest.mark.parametrize("hours", [1, 9])
def test_a_request_that_is_over_does_not_begin_anew_with_a_hire_who_comes_back(
    company: Repo, accounts: AccountService, hours: int, back: str
) -> None:
    """Its file was there all the time, though its hire has another id by now: nobody asked again."""
    request(company, **EIGHT_HOURS)
    company.commit()
    machine = Machine(company)
    machine.reconcile()
    machine.clock.turn(hours=hours)
    company.remove("hires/ada.yaml")
    if back != "ada":
        company.hire(back, entry("1"), email="ada@example.com", department="R&D")
    company.commit()
    machine.reconcile()
    machine.clock.turn(hours=9 - hours)
    assert row(machine.reconcile(), back, "queue").status is Status.REVOKED
    company.hire(back, entry("1"), email="ada@example.com", department="R&D")
    request(company, hire=back, **EIGHT_HOURS)
    company.commit()
    assert row(machine.reconcile(), back, "queue").status is Status.REVOKED
    assert accounts.created["2-ada@example.com"] == 1


def test_list_counts_the_time_of_a_request_from_its_day_and_from_when_it_began(company: Repo, call: Call) -> None:
    request(company, at="2099-01-01", **{"for": "8h"})
    request(company, "now", team="3", **{"for": "8h"})
    company.commit()
    given = call(company, "--yes", "--output", "json").grant("ada", "now")
    listed = call(company, "request", "list", "--output", "json").json
    ends = {each["request"]: each["until"] for each in listed}
    assert ends == {"queue": "2099-01-01T08:00:00Z", "now": given["until"]}


def test_what_was_allowed_runs_on_with_a_warning(company: Repo, call: Call) -> None:
    request(company)
    company.commit()
    assert call(company, "--yes").code == 0
    offer(company)
    company.commit()
    done = call(company, "--yes", "--output", "json")
    [found] = [each for each in done.json["problems"] if each["file"].startswith("config/requests")]
    assert (done.code, found["severity"]) == (0, "warning")
    assert found["message"].endswith("what was given by it runs to its end")
    assert {each["access"]: each["status"] for each in done.json["grants"]} == {"tool": "present", "queue": "present"}


@pytest.mark.parametrize("depth", ["4", "3", "2"])
@pytest.mark.parametrize("command", [["validate"], ["validate", "--rev", "HEAD"], ["diff", "HEAD~1"]])
def test_what_was_allowed_when_it_was_committed_is_a_warning_offline_too(
    company: Repo, call: Call, tmp_path: Path, depth: str, command: list[str]
) -> None:
    """As in a pass: whoever allows less need not wait until all is over. A clone of the last commits cannot tell."""
    company.commit()
    request(company)
    request(company, "ahead", team="3", at="2098-01-01")
    company.commit()
    offer(company)
    company.commit()
    request(company, "new")
    company.commit()
    company.git("clone", "--quiet", "--depth", depth, company.root.as_uri(), str(tmp_path / "clone"))
    done = call(company, *command, "--repo", str(tmp_path / "clone"), "--output", "json")
    found = done.json["problems"]
    found = found["added"] if command[0] == "diff" else found
    wrong = {each["file"] for each in found if each["severity"] == "error" and "does not allow it" in each["message"]}
    known = ("new",) if command[0] == "diff" else ("new", "ahead")
    assert wrong == {f"config/requests/{name}.yaml" for name in known}
    assert "what was given by it runs to its end" in done.out or command[0] == "diff"


def test_request_that_only_a_commit_of_the_branch_allowed_is_an_error(company: Repo, call: Call) -> None:
    offer(company)
    company.commit()
    offer(company, OFFER)
    request(company)
    company.commit()
    offer(company)
    company.commit()
    done = call(company, "diff", "HEAD~2", "--output", "json")
    assert [each["severity"] for each in done.json["problems"]["added"]] == ["error"]


def test_broken_request_keeps_what_it_gave(company: Repo, call: Call) -> None:
    company.settings(prune="revoke", max_change_percent=100)
    path = request(company)
    company.commit()
    assert call(company, "--yes").code == 0
    company.write(path, "hire: ada\nreason: none\n")
    company.commit()
    done = call(company, "--yes", "--output", "json")
    queue = next(each for each in done.json["grants"] if each["access"] == "queue")
    assert (done.code, queue["action"]) == (1, "none")
    assert "access: required" in problems(done)[0]


@pytest.mark.parametrize("extra", [{"name": "mine"}, {"keep": True}, {"needs": ["tool"]}, {"until": None}])
def test_what_a_requests_access_has(company: Repo, call: Call, extra: dict[str, Any]) -> None:
    request(company, **extra)
    [found] = problems(call(company, "validate", "--output", "json"))
    key = next(iter(extra))
    assert key in found


@pytest.fixture
def running(company: Repo, accounts: AccountService) -> Machine:
    """The machine after the pass that gave ada eight hours of team 2, which can be updated, at 09:00."""
    assert company.gnupg is not None
    company.settings(gnupg_home=company.gnupg.path)
    tool = accounts.manifest(revoke=True)
    tool["form"] = [{"id": "TEAM", "name": "Team", "type": "input"}]
    tool["execute"][0]["data"]["team"] = "{{TEAM}}"
    tool["update"] = [{"url": f"{accounts.url}/users/{{{{email}}}}", "method": "PATCH", "data": {"team": "{{TEAM}}"}}]
    company.manifest("tool", tool)
    company.hire("ada", department="R&D")
    offer(company, OFFER | {"longest": "24h"})
    request(company, **EIGHT_HOURS)
    company.commit()
    machine = Machine(company)
    assert row(machine.reconcile(), "ada", "queue").status is Status.PRESENT
    return machine


@pytest.mark.parametrize(
    ("team", "ends", "why"),
    [
        ("9", EIGHT_HOURS, "TEAM is 9, and may be 2 or 3"),
        ("2", {"for": "25h"}, "it is asked for 25h, and may be for at most 1d"),
        ("2", {"until": "2027-06-01"}, "it is asked for 182d, and may be for at most 1d"),
    ],
)
def test_what_runs_cannot_be_changed_to_what_is_not_allowed(
    running: Machine, company: Repo, accounts: AccountService, team: str, ends: dict[str, str], why: str
) -> None:
    """It stays as it was given, and ends when that did."""
    request(company, team=team, **ends)
    company.commit()
    for _ in range(2):
        changed = row(running.reconcile(), "ada", "queue")
        assert (changed.status, changed.reason) == (
            Status.INVALID,
            f"config/requestable.yaml does not allow it: {why}",
        )
    assert accounts.calls("PATCH") == []
    running.clock.turn(hours=8)
    assert row(running.reconcile(), "ada", "queue").status is Status.REVOKED
    assert len(accounts.calls("DELETE")) == 1


def test_what_runs_may_be_changed_to_what_is_allowed(running: Machine, company: Repo, accounts: AccountService) -> None:
    request(company, team="3", **{"for": "24h"})
    company.commit()
    assert row(running.reconcile(), "ada", "queue").status is Status.PRESENT
    assert [each.json() for each in accounts.calls("PATCH")] == [{"team": "3"}]
    offer(company, OFFER | {"longest": "1h"})
    request(company, team="3", **{"for": "12h"})  # no longer than what is given
    company.commit()
    report = running.reconcile()
    assert row(report, "ada", "queue").status is Status.PRESENT
    assert [problem.severity for problem in report.problems] == [Severity.WARNING]


def test_what_failed_is_not_retried_with_what_is_not_allowed(
    running: Machine, company: Repo, accounts: AccountService
) -> None:
    company.hire("cleo", department="R&D")
    request(company, "second", "cleo", **EIGHT_HOURS)
    company.commit()
    accounts.fail_next(1, 500, method="POST")
    assert row(running.reconcile(), "cleo", "second").status is Status.RETRYING
    request(company, "second", "cleo", team="9", **EIGHT_HOURS)
    company.commit()
    running.clock.turn(hours=1)
    assert row(running.reconcile(), "cleo", "second").status is Status.INVALID
    assert len(accounts.calls("POST")) == 2, "ada's and the one that failed"


@pytest.fixture
def login(company: Repo, accounts: AccountService) -> Machine:
    """The machine on a service whose accounts are told by a login in the form."""
    assert company.gnupg is not None
    company.settings(gnupg_home=company.gnupg.path, prune="revoke")
    url, tool = f"{accounts.url}/users/{{{{TEAM}}}}", accounts.manifest(revoke=True)
    tool["form"] = [{"id": "TEAM", "name": "Team", "type": "input"}]
    tool["exists"] |= {"url": url, "expected": "{{TEAM}}"}
    tool["execute"][0]["data"]["email"] = "{{TEAM}}"
    tool["revoke"][0]["url"] = url
    company.manifest("tool", tool)
    company.hire("ada", entry("9"))
    company.commit()
    return Machine(company)


@pytest.mark.parametrize("whose", ["ada", "bob"])
def test_refused_request_keeps_no_account_that_has_to_go(
    login: Machine, company: Repo, accounts: AccountService, whose: str
) -> None:
    assert row(login.reconcile(), "ada", "tool").status is Status.PRESENT
    company.hire("ada")
    request(company, hire=whose, team="9")
    company.commit()
    report = login.reconcile()
    assert (row(report, whose, "queue").status, row(report, "ada", "tool").status) == (Status.INVALID, Status.REVOKED)
    assert len(accounts.calls("DELETE")) == 1


def test_refused_request_keeps_no_account_whose_time_is_over(
    login: Machine, company: Repo, accounts: AccountService
) -> None:
    company.hire("ada", entry("9", **EIGHT_HOURS))
    request(company, team="9")
    company.commit()
    assert row(login.reconcile(), "ada", "tool").status is Status.PRESENT
    login.clock.turn(hours=8)
    assert row(login.reconcile(), "ada", "tool").status is Status.REVOKED


def test_refused_request_keeps_nobody_from_an_account(login: Machine, company: Repo, call: Call) -> None:
    request(company, hire="bob", team="9")
    company.commit()
    assert "same account" not in call(company, "validate").out
    report = login.reconcile()
    assert (row(report, "ada", "tool").status, row(report, "bob", "queue").status) == (Status.PRESENT, Status.INVALID)


def test_refused_request_is_not_what_a_hire_must_have(login: Machine, company: Repo, accounts: AccountService) -> None:
    company.write("config/policy.yaml", [{"name": "kept", "hire": "ada", "must_have": ["tool"]}])
    login.reconcile()
    company.hire("ada")
    request(company, team="8")
    company.commit()
    left = row(login.reconcile(), "ada", "tool")
    assert (left.status, accounts.calls("DELETE")) == (Status.ORPHANED, [])
    assert "policy kept: must have tool" in left.reason


def test_broken_request_holds_no_removal(login: Machine, company: Repo) -> None:
    company.hire("ada", entry("9"), department="R&D")
    path = request(company, team="2")
    company.commit()
    report = login.reconcile()
    assert {each.status for each in report.rows} == {Status.PRESENT}
    company.write(path, "hire: [")
    company.hire("ada", department="R&D")
    company.commit()
    report = login.reconcile()
    assert (row(report, "ada", "queue").status, row(report, "ada", "tool").status) == (Status.INVALID, Status.REVOKED)


def test_refused_request_has_nothing_locked(login: Machine, company: Repo, accounts: AccountService) -> None:
    """It may name anybody's account."""
    company.hire("ada")
    request(company, team="grace")
    company.commit()
    accounts.add("grace")
    login.lock("ada")
    locked = row(login.reconcile(), "ada", "queue")
    assert (locked.status, accounts.calls("DELETE")) == (Status.SUSPENDED, [])


@pytest.mark.parametrize("slip", ["the hire's file is renamed", "another id"])
def test_request_that_names_nobody_keeps_what_it_gave_to_who_stays(
    login: Machine, company: Repo, call: Call, slip: str
) -> None:
    """It holds itself, as one that cannot be read does, and nothing else; when its hire has left, it holds nothing."""
    company.hire("ada", entry("9"), department="R&D")
    request(company, team="3", **EIGHT_HOURS)
    base = company.commit()
    login.reconcile()
    if slip == "another id":
        request(company, hire="adda", team="3", **EIGHT_HOURS)
        company.hire("ada", department="R&D")
    else:
        company.remove("hires/ada.yaml")
        company.hire("grace", department="R&D", email="ada@example.com")
    company.commit()
    hire = "ada" if slip == "another id" else "grace"
    changed = call(company, "diff", base, "--output", "json").json["grants"]
    assert [(each["access"], each["change"]) for each in changed] == [("tool", "removed")]
    report = login.reconcile()
    assert row(report, hire, "tool").status is Status.REVOKED
    assert row(report, hire, "queue").status is Status.INVALID
    company.remove(f"hires/{hire}.yaml")
    company.hire("zoe")
    company.commit()
    assert row(login.reconcile(), hire, "queue").status is Status.REVOKED


@pytest.mark.parametrize("broken", ["hire: [", "names nobody"])
def test_account_kept_for_a_broken_request_is_its_hires_and_counts_for_rules(
    login: Machine, company: Repo, accounts: AccountService, broken: str
) -> None:
    """Whoever else asks for it would have it taken away when theirs ends."""
    company.hire("ada", department="R&D")
    path = request(company, team="3", **EIGHT_HOURS)
    company.commit()
    login.reconcile()
    if broken == "names nobody":
        request(company, hire="adda", team="3", **EIGHT_HOURS)
    else:
        company.write(path, broken)
    company.hire("bob", entry("3"))
    company.commit()
    asked = row(login.reconcile(hires=["bob"]), "bob", "tool")
    assert (asked.status, asked.reason) == (
        Status.INVALID,
        "its account is that of ada/queue, whose file cannot be read",
    )
    company.hire("bob")
    company.commit()
    assert row(login.reconcile(), "ada", "queue").status is Status.INVALID
    assert "3" in accounts.people
    company.write("config/policy.yaml", [{"name": "few", "integration": "tool", "at_most": 1}])
    company.hire("bob", entry("4"))
    company.commit()
    found = row(login.reconcile(hires=["bob"]), "bob", "tool")
    assert (found.status, found.reason) == (Status.BLOCKED, "policy few: tool is given to 2, at most 1")


def test_broken_request_holds_nothing_that_only_has_its_name(login: Machine, company: Repo, call: Call) -> None:
    login.reconcile()
    company.write("config/requests/tool.yaml", "hire: [")
    company.hire("ada")
    company.commit()
    changed = call(company, "diff", "HEAD~1", "--output", "json").json["grants"]
    assert [(each["access"], each["change"]) for each in changed] == [("tool", "removed")]
    assert row(login.reconcile(), "ada", "tool").status is Status.REVOKED


def test_request_that_runs_keeps_its_account_until_its_end(
    running: Machine, company: Repo, accounts: AccountService
) -> None:
    """Though it was changed since to what is not allowed: it was given, and so was an entry for the same account."""
    assert company.gnupg is not None
    company.hire("ada", entry("2"), department="R&D")
    company.commit()
    running.reconcile()
    company.settings(gnupg_home=company.gnupg.path, prune="revoke")
    company.hire("ada", department="R&D")
    request(company, team="9", **EIGHT_HOURS)
    company.commit()
    left = row(running.reconcile(), "ada", "tool")
    assert (left.status, accounts.calls("DELETE")) == (Status.ORPHANED, [])
    running.clock.turn(hours=8)
    running.reconcile()
    assert len(accounts.calls("DELETE")) == 1
