"""docs/design/states.md: an entry that is about another thing than before."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.grant import Phase
from reconciler.model.status import Action, EventType, Status
from tests.engine.harness import Machine, row
from tests.repo import Repo, call_cli
from tests.servers import AccountService, Received


def of_teams(accounts: AccountService, **field: Any) -> dict[str, Any]:
    """A member of a team, who is asked for and taken out by the team."""
    member = f"{accounts.url}/teams/{{{{TEAM}}}}/members/{{{{email}}}}"
    return {
        "form": [{"id": "TEAM", "type": "input", "identity": True, **field}, {"id": "ROLE", "type": "input"}],
        "exists": {"url": member, "expected": "{{email}}", "fail_when_4xx_response_code": False},
        "execute": [{"url": f"{accounts.url}/teams/{{{{TEAM}}}}/members", "data": {"email": "{{email}}"}}],
        "revoke": [{"url": member, "method": "DELETE"}],
        "headers": {"Content-Type": "application/json"},
    }


def in_team(team: Any, **keys: Any) -> dict[str, Any]:
    return {"integration": "tool", "values": {"TEAM": team}, **keys}


def settings(repo: Repo, **values: Any) -> None:
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path, **values)


@pytest.fixture
def teams(repo: Repo, accounts: AccountService) -> Machine:
    """Ada is to be in team 7; what is removed is revoked."""
    accounts.teams |= {"7": [], "8": [], "9": []}

    def show(_received: Received, team: str, email: str) -> Any:
        return {"email": email} if email in accounts.teams[team] else (404, {"error": "no member"})

    def take_out(_received: Received, team: str, email: str) -> Any:
        accounts.teams[team].remove(email)
        return 204

    accounts.route("GET", "/teams/{team}/members/{email}", show)
    accounts.route("DELETE", "/teams/{team}/members/{email}", take_out)
    settings(repo, prune="revoke")
    repo.manifest("tool", of_teams(accounts))
    repo.hire("ada", in_team(7))
    repo.commit()
    return Machine(repo)


def statuses(report: Any) -> dict[str, Status]:
    return {item.access: item.status for item in report.rows}


def test_another_team_is_a_new_grant_and_the_old_one_an_orphan(teams, accounts, repo):
    teams.reconcile()
    repo.hire("ada", in_team(8))
    repo.commit()
    planned = teams.plan()
    assert (row(planned, "ada", "tool").status, row(planned, "ada", "tool").action) == (Status.MISSING, Action.EXECUTE)
    assert (row(planned, "ada", "tool~7").status, row(planned, "ada", "tool~7").action) == (
        Status.ORPHANED,
        Action.REVOKE,
    )
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "tool~7": Status.REVOKED}
    assert accounts.teams == {"7": [], "8": ["ada@example.com"], "9": []}
    of_old = [line.event for line in teams.history("ada") if line.key.access == "tool~7"]
    assert of_old == [
        EventType.ATTEMPT_STARTED,
        EventType.EXECUTED,
        EventType.CONFIRMED,
        EventType.RENAMED,
        EventType.ORPHANED,
        EventType.ATTEMPT_STARTED,
        EventType.REVOKED,
    ]
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "tool~7": Status.REVOKED}


def test_reported_orphan_can_be_revoked_by_name(teams, accounts, repo):
    settings(repo)
    repo.commit()
    teams.reconcile()
    repo.hire("ada", in_team(8))
    repo.commit()
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "tool~7": Status.ORPHANED}
    report = teams.reconcile(by_hand={("ada", "tool~7"): "revoke"})
    assert row(report, "ada", "tool~7").status is Status.REVOKED
    assert accounts.teams == {"7": [], "8": ["ada@example.com"], "9": []}


def test_changed_back_before_it_was_revoked_the_orphan_is_the_grant_again(teams, accounts, repo):
    settings(repo)
    repo.commit()
    teams.reconcile()
    executed = teams.record("ada", "tool").executed_at
    repo.hire("ada", in_team(8))
    repo.commit()
    teams.clock.turn(hours=1)
    teams.reconcile()
    repo.hire("ada", in_team(7))
    repo.commit()
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "tool~8": Status.ORPHANED}
    assert teams.record("ada", "tool").executed_at == executed
    assert len(accounts.calls("POST")) == 2
    repo.hire("ada", in_team(8))
    repo.commit()
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "tool~7": Status.ORPHANED}
    assert len(accounts.calls("POST")) == 2


def test_value_with_a_nul_names_what_it_was_about_as_the_ledger_does(teams, accounts, repo):
    """Else the history would tell of a row of another name."""
    settings(repo)
    accounts.teams["a\0b"] = []
    for team in ("a\0b", 8, "a\0b"):
        repo.hire("ada", in_team(team))
        repo.commit()
        assert row(teams.reconcile(), "ada", "tool").status is Status.PRESENT
        done = call_cli(repo, "history", "--verify")
        assert done.code == 0, done
    assert len(accounts.calls("POST")) == 2


def test_changed_back_after_it_was_revoked_it_is_a_new_grant(teams, accounts, repo):
    for team in (7, 8, 7, 8):
        repo.hire("ada", in_team(team))
        repo.commit()
        assert row(teams.reconcile(), "ada", "tool").status is Status.PRESENT
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "tool~7": Status.REVOKED}
    assert accounts.teams == {"7": [], "8": ["ada@example.com"], "9": []}
    assert len(accounts.calls("POST")) == 4
    assert EventType.HEALED not in teams.events("ada")


def test_a_value_that_was_never_sent_leaves_no_orphan(teams, accounts, repo):
    accounts.fail_next(1, 500, method="POST")
    teams.reconcile()
    repo.hire("ada", in_team(8))
    repo.commit()
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT}


def test_possible_account_of_an_attempt_is_an_orphan(teams, accounts, repo):
    accounts.drop_after_commit(1, method="POST")
    assert row(teams.reconcile(), "ada", "tool").status is Status.RETRYING
    repo.hire("ada", in_team(8))
    repo.commit()
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "tool~7": Status.REVOKED}
    assert accounts.teams == {"7": [], "8": ["ada@example.com"], "9": []}


def test_the_same_thing_under_an_entry_of_its_own_is_not_revoked(teams, accounts, repo):
    teams.reconcile()
    repo.hire("ada", in_team(8), in_team(7, name="first"))
    repo.commit()
    report = teams.reconcile()
    assert statuses(report) == {"tool": Status.PRESENT, "tool~7": Status.ORPHANED, "first": Status.PRESENT}
    assert "it is the same account as ada/first" in row(report, "ada", "tool~7").reason
    assert accounts.calls("DELETE") == []


def test_an_entry_with_such_a_name_of_its_own_is_left_alone(teams, accounts, repo):
    settings(repo)
    repo.hire("ada", in_team(7), in_team(9, name="tool~7"))
    repo.commit()
    teams.reconcile()
    repo.hire("ada", in_team(8), in_team(9, name="tool~7"))
    repo.commit()
    assert statuses(teams.reconcile()) == {
        "tool": Status.PRESENT,
        "tool~7": Status.PRESENT,
        "tool~7~": Status.ORPHANED,
    }
    repo.hire("ada", in_team(7), in_team(9, name="tool~7"))
    repo.commit()
    assert statuses(teams.reconcile()) == {
        "tool": Status.PRESENT,
        "tool~7": Status.PRESENT,
        "tool~8": Status.ORPHANED,
    }


def test_several_fields_are_named_in_the_forms_order(teams, accounts, repo):
    settings(repo)
    manifest = of_teams(accounts)
    manifest["form"][1]["identity"] = True
    manifest["exists"]["headers"] = {"X-Role": "{{ROLE}}"}
    repo.manifest("tool", manifest)
    repo.hire("ada", {"integration": "tool", "values": {"ROLE": "lead", "TEAM": 7}})
    repo.commit()
    teams.reconcile()
    repo.hire("ada", {"integration": "tool", "values": {"ROLE": "lead", "TEAM": 8}})
    repo.commit()
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "tool~7,lead": Status.ORPHANED}


def test_thing_that_a_header_alone_names_is_revoked_as_another(teams, accounts, repo):
    """Its URL and what is expected are those of the new one."""
    members: list[tuple[str | None, str]] = []

    def of(received: Received, email: str) -> tuple[str | None, str]:
        return received.headers["X-Team"], email

    def shown(received: Received, email: str) -> Any:
        return {"email": email} if of(received, email) in members else 404

    def taken_out(received: Received, email: str) -> int:
        members.remove(of(received, email))
        return 204

    accounts.route("GET", "/members/{email}", shown)
    accounts.route("PUT", "/members/{email}", lambda received, email: members.append(of(received, email)))
    accounts.route("DELETE", "/members/{email}", taken_out)
    member = {"url": f"{accounts.url}/members/{{{{email}}}}"}
    manifest = of_teams(accounts)
    manifest["headers"] = {"X-Team": "{{TEAM}}"}
    manifest["exists"] |= member
    manifest |= {"execute": [{**member, "method": "PUT"}], "revoke": [{**member, "method": "DELETE"}]}
    repo.manifest("tool", manifest)
    for team in (7, 8):
        repo.hire("ada", in_team(team))
        repo.commit()
        assert statuses(teams.reconcile())["tool"] is Status.PRESENT
    assert members == [("8", "ada@example.com")]


@pytest.mark.parametrize("identity", [True, False])
def test_several_choices_in_another_order_are_the_same(teams, accounts, repo, identity):
    accounts.teams |= {"8,7": [], "7,8": [], "8,9": []}
    items = [{"id": number, "name": f"Team {number}"} for number in (7, 8, 9)]
    repo.manifest("tool", of_teams(accounts, type="multiple_choice", items=items, identity=identity))
    repo.hire("ada", in_team([8, 7]))
    repo.commit()
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT}
    repo.hire("ada", in_team([7, 8]))
    repo.commit()
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT}
    assert (accounts.teams["8,7"], accounts.teams["7,8"]) == (["ada@example.com"], []), "it is asked for as it was made"
    assert accounts.calls("DELETE") == []
    repo.hire("ada", in_team([8, 9]))
    repo.commit()
    assert {"tool": Status.PRESENT}.items() < statuses(teams.reconcile()).items()
    assert len(accounts.calls("DELETE")) == 1


def test_a_choice_by_name_is_the_value_that_was_sent(teams, accounts, repo):
    manifest = of_teams(accounts, type="choice", url=f"{accounts.url}/teams", method="GET", data_from="data")
    repo.manifest("tool", manifest)
    repo.hire("ada", in_team({"name": "Team 7"}))
    repo.commit()
    teams.reconcile()
    repo.hire("ada", in_team({"name": "Team 8"}))
    repo.commit()
    accounts.fail_next(1, 500, method="GET", prefix="/teams")
    assert statuses(teams.reconcile()) == {"tool": Status.UNKNOWN}
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "tool~7": Status.REVOKED}


def test_a_person_whose_file_is_renamed_meanwhile_keeps_both(teams, accounts, repo):
    settings(repo)
    repo.commit()
    teams.reconcile()
    repo.remove("hires/ada.yaml")
    repo.hire("lovelace", in_team(8), email="ada@example.com")
    repo.commit()
    report = teams.reconcile()
    assert {(item.hire, item.access) for item in report.rows} == {("lovelace", "tool"), ("lovelace", "tool~7")}
    assert row(report, "lovelace", "tool~7").status is Status.ORPHANED
    assert teams.record("lovelace", "tool~7").phase is Phase.CONFIRMED
    assert teams.record("ada", "tool") is None


def test_stored_values_move_with_the_orphan(teams, accounts, repo):
    manifest = of_teams(accounts)
    manifest["execute"][0]["store_data"] = {"PLACE": "place"}
    manifest["revoke"] = [{"url": f"{accounts.url}/places/{{{{PLACE}}}}", "method": "DELETE"}]
    places = iter(("p1", "p2"))

    def join(received: Received, team: str) -> Any:
        accounts.teams[team].append(received.json()["email"])
        return {"place": next(places)}

    def leave(_received: Received, place: str) -> int:
        accounts.teams["7" if place == "p1" else "8"].clear()
        return 204

    accounts.route("POST", "/teams/{team}/members", join)
    accounts.route("DELETE", "/places/{place}", leave)
    repo.manifest("tool", manifest)
    repo.commit()
    teams.reconcile()
    repo.hire("ada", in_team(8))
    repo.commit()
    first = row(teams.reconcile(), "ada", "tool~7")
    assert first.reason.endswith("it is the same account as ada/tool, which is wanted"), (
        "as long as nothing is stored of it"
    )
    assert row(teams.reconcile(), "ada", "tool~7").status is Status.REVOKED
    assert [call.path for call in accounts.calls("DELETE")] == ["/places/p1"]


AGAIN = in_team(7, name="again")
"""Another entry for the team that `tool` is about already: it asks the same, and would send the same."""


@pytest.mark.parametrize("keys", [{}, {"needs": ["tool"]}], ids=["side by side", "one needs the other"])
def test_two_entries_for_the_same_thing_make_it_once(teams, accounts, repo, keys):
    repo.hire("ada", in_team(7), AGAIN | keys)
    repo.commit()
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "again": Status.PRESENT}
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "again": Status.PRESENT}
    assert [call.path for call in accounts.calls("POST")] == ["/teams/7/members"]
    assert repo.record("ada", "tool").executed_at is not None
    assert repo.record("ada", "again").executed_at is None


def test_two_entries_for_the_same_thing_with_other_requests_both_run(teams, accounts, repo):
    manifest = of_teams(accounts)
    manifest["execute"][0]["data"]["role"] = "{{ROLE}}"
    repo.manifest("tool", manifest)
    repo.hire("ada", *({**in_team(7, name=role), "values": {"TEAM": 7, "ROLE": role}} for role in ("one", "two")))
    repo.commit()
    teams.reconcile()
    assert sorted(call.json()["role"] for call in accounts.calls("POST")) == ["one", "two"]


def test_second_entry_for_the_same_thing_waits_while_the_first_is_not_there(teams, accounts, repo):
    repo.hire("ada", in_team(7), AGAIN)
    repo.commit()
    accounts.fail_next(1, 500, method="POST")
    for _pass in range(2):
        waiting = row(teams.reconcile(), "ada", "again")
        assert (waiting.status, waiting.action) == (Status.SCHEDULED, Action.WAIT)
        assert "tool makes the same account, and is retrying: " in waiting.reason
    assert len(accounts.calls("POST")) == 1
    teams.clock.turn(hours=1)
    assert statuses(teams.reconcile()) == {"tool": Status.PRESENT, "again": Status.PRESENT}
    assert len(accounts.calls("POST")) == 2


def test_entry_that_failed_before_the_other_came_is_the_one_that_runs_again(teams, accounts, repo):
    accounts.drop(1, method="POST")
    teams.reconcile()
    repo.hire("ada", AGAIN, in_team(7))
    repo.commit()
    waiting = row(teams.reconcile(), "ada", "again")
    assert (waiting.status, waiting.action) == (Status.SCHEDULED, Action.WAIT)
    teams.clock.turn(hours=1)
    assert statuses(teams.reconcile()) == {"again": Status.PRESENT, "tool": Status.PRESENT}
    assert repo.record("ada", "again").executed_at is None


def test_pass_over_one_of_two_entries_makes_no_account_that_the_other_may_have_made(teams, accounts, repo):
    accounts.drop(1, method="POST")
    teams.reconcile()
    repo.hire("ada", AGAIN, in_team(7))
    repo.commit()
    waiting = row(teams.reconcile(grants=[("ada", "again")]), "ada", "again")
    assert (waiting.status, waiting.action) == (Status.SCHEDULED, Action.WAIT)
    teams.clock.turn(hours=1)
    assert row(teams.reconcile(grants=[("ada", "again")]), "ada", "again").status is Status.SCHEDULED
    assert len(accounts.calls("POST")) == 1
    assert statuses(teams.reconcile()) == {"again": Status.PRESENT, "tool": Status.PRESENT}


def test_entry_that_is_run_by_hand_makes_what_two_ask_for(teams, accounts, repo):
    repo.hire("ada", in_team(7), AGAIN)
    repo.commit()
    assert statuses(teams.reconcile(by_hand={("ada", "again"): "run"})) == {
        "tool": Status.PRESENT,
        "again": Status.PRESENT,
    }
    assert len(accounts.calls("POST")) == 1
    assert repo.record("ada", "tool").executed_at is None


def test_a_webhook_runs_for_another_thing_and_once_for_each(accounts, repo):
    accounts.route("POST", "/tickets", lambda received: (200, received.json()))
    settings(repo)
    ticket = {"url": f"{accounts.url}/tickets", "data": {"team": "{{TEAM}}"}}
    repo.manifest("tool", {"form": [{"id": "TEAM", "type": "input", "identity": True}], "execute": [ticket]})
    sent = []
    for team in ("7", "8", "7"):
        repo.hire("ada", {"integration": "tool", "values": {"TEAM": team}})
        repo.commit()
        report = Machine(repo).reconcile()
        sent.append((statuses(report), [call.json()["team"] for call in accounts.calls("POST", "/tickets")]))
    assert sent == [
        ({"tool": Status.DONE}, ["7"]),
        ({"tool": Status.DONE, "tool~7": Status.ORPHANED}, ["7", "8"]),
        ({"tool": Status.DONE, "tool~8": Status.ORPHANED}, ["7", "8"]),
    ]
