"""No account is forgotten: what an entry was about before is an orphan of its own (docs/design/states.md)."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.report import Report
from reconciler.model.status import Action, Status
from tests.engine.harness import Machine, dying, row
from tests.ledger.states import change
from tests.repo import Repo
from tests.servers import AccountService, Received

OLD, NEW = "ada@example.com", "lovelace@example.com"


def statuses(report: Report) -> dict[str, tuple[Status, Action]]:
    return {item.access: (item.status, item.action) for item in report.rows}


def settings(repo: Repo, **values: Any) -> None:
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path, **values)


@pytest.fixture
def pruning(machine: Machine, accounts: AccountService, repo: Repo) -> Machine:
    """Ada has an account that is told by her address; what leaves git is revoked."""
    settings(repo, prune="revoke")
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    return machine


# A login, or a value of the form


def by_login(accounts: AccountService, *, form: bool) -> dict[str, Any]:
    one = f"{accounts.url}/users/{{{{LOGIN}}}}"
    return {
        "form": [{"id": "LOGIN", "type": "input"}] if form else [],
        "exists": {"url": one, "expected": "{{LOGIN}}", "fail_when_4xx_response_code": False},
        "execute": [{"url": f"{accounts.url}/users", "data": {"email": "{{LOGIN}}"}}],
        "revoke": [{"url": one, "method": "DELETE"}],
        "headers": {"Content-Type": "application/json"},
    }


def with_login(repo: Repo, login: str, *, form: bool) -> None:
    if form:
        repo.hire("ada", {"integration": "tool", "values": {"LOGIN": login}})
    else:
        repo.hire("ada", "tool", extra={"LOGIN": login})
    repo.commit()


@pytest.mark.parametrize("form", [True, False], ids=["form", "extra"])
@pytest.mark.parametrize("there", [True, False], ids=["found", "missing"])
def test_another_login_is_a_new_grant_and_the_former_account_an_orphan(
    machine: Machine, accounts: AccountService, repo: Repo, form: bool, there: bool
) -> None:
    settings(repo)
    repo.manifest("tool", by_login(accounts, form=form))
    with_login(repo, "ada", form=form)
    machine.reconcile()
    if there:
        accounts.add("lovelace")
    with_login(repo, "lovelace", form=form)
    planned = machine.plan()
    assert statuses(planned)["tool"][1] is (Action.NONE if there else Action.EXECUTE)
    assert statuses(planned)["tool~ada"] == (Status.ORPHANED, Action.NONE)
    assert statuses(machine.reconcile()) == {
        "tool": (Status.PRESENT, Action.NONE),
        "tool~ada": (Status.ORPHANED, Action.NONE),
    }
    with_login(repo, "ada", form=form)
    assert statuses(machine.reconcile()) == {
        "tool": (Status.PRESENT, Action.NONE),
        "tool~lovelace": (Status.ORPHANED, Action.NONE),
    }
    settings(repo, prune="revoke")
    repo.commit()
    machine.reconcile()
    assert [call.path for call in accounts.calls("DELETE")] == ["/users/lovelace"]
    assert accounts.created == {"ada": 1} | ({} if there else {"lovelace": 1})


# An address


@pytest.mark.parametrize("prune", ["report", "revoke"])
def test_where_both_addresses_are_there_the_former_account_is_an_orphan(
    pruning: Machine, accounts: AccountService, repo: Repo, prune: str
) -> None:
    settings(repo, prune=prune)
    accounts.add(NEW)
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    before = statuses(pruning.plan())
    assert before["tool"] == (Status.PRESENT, Action.NONE)
    assert before[f"tool~{OLD}"] == (Status.ORPHANED, Action.REVOKE if prune == "revoke" else Action.NONE)
    after = statuses(pruning.reconcile())
    assert after["tool"] == (Status.PRESENT, Action.NONE)
    assert after[f"tool~{OLD}"][0] is (Status.REVOKED if prune == "revoke" else Status.ORPHANED)
    assert set(accounts.people) == ({NEW} if prune == "revoke" else {OLD, NEW})
    repo.hire("ada", "tool")
    repo.commit()
    again = statuses(pruning.reconcile())
    assert again["tool"][0] is (Status.BLOCKED if prune == "revoke" else Status.PRESENT)
    assert accounts.created == {OLD: 1}


def test_the_former_account_is_an_orphan_after_run(pruning: Machine, accounts: AccountService, repo: Repo) -> None:
    settings(repo)
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    assert statuses(pruning.reconcile()) == {"tool": (Status.BLOCKED, Action.NONE)}
    report = pruning.reconcile(grants=[("ada", "tool")], by_hand={("ada", "tool"): "run"})
    assert statuses(report) == {
        "tool": (Status.PRESENT, Action.NONE),
        f"tool~{OLD}": (Status.ORPHANED, Action.NONE),
    }
    assert statuses(pruning.reconcile()) == statuses(report)
    assert accounts.created == {OLD: 1, NEW: 1}


def test_the_former_account_is_an_orphan_after_run_while_no_check_answers(
    pruning: Machine, accounts: AccountService, repo: Repo
) -> None:
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    accounts.fail_next(None, 500, method="GET")
    assert statuses(pruning.reconcile(by_hand={("ada", "tool"): "run"}))["tool"][0] is Status.UNCONFIRMED
    accounts.clear()
    after = statuses(pruning.reconcile())
    assert (after["tool"][0], after[f"tool~{OLD}"][0]) == (Status.PRESENT, Status.REVOKED)
    assert set(accounts.people) == {NEW}


def test_run_makes_the_new_account_where_the_former_one_is_switched_off(
    machine: Machine, accounts: AccountService, repo: Repo
) -> None:
    repo.manifest("tool", accounts.lockable())
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    accounts.people[OLD]["active"] = False
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    assert "or `reconcile run`" in row(machine.reconcile(), "ada", "tool").reason
    after = statuses(machine.reconcile(by_hand={("ada", "tool"): "run"}))
    assert (after["tool"][0], after[f"tool~{OLD}"][0]) == (Status.PRESENT, Status.REVOKED)  # off: it counts as gone
    assert accounts.created == {OLD: 1, NEW: 1}
    assert not accounts.calls("PATCH")


@pytest.mark.parametrize("waits", [True, False], ids=["needs", "policy"])
def test_nothing_is_set_apart_for_a_run_that_cannot_be_made_when_it_is_taken_up(
    pruning: Machine, accounts: AccountService, repo: Repo, waits: bool
) -> None:
    repo.manifest("base", accounts.manifest() | {"exists": {"url": f"{accounts.url}/teams", "expected": "base"}})
    accounts.teams["base"] = []
    repo.hire("ada", "base", {"integration": "tool", "needs": ["base"]}, email=NEW)
    if not waits:
        rule = {"name": "no-tools", "when": {"last_name": "Example"}, "must_not_have": ["tool"]}
        repo.write("config/policy.yaml", [rule])
    repo.commit()
    pruning.enqueue("run", "ada", "tool")
    accounts.fail_next(None if waits else 0, 500, prefix="/teams")
    for _ in range(2):
        assert statuses(pruning.reconcile())["tool"] == (Status.BLOCKED, Action.NONE)  # "rename it there"
        accounts.clear()
    assert set(accounts.people) == {OLD}


def test_an_account_renamed_there_is_the_same_one(pruning: Machine, accounts: AccountService, repo: Repo) -> None:
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    pruning.reconcile()
    accounts.people[NEW] = {**accounts.people.pop(OLD), "email": NEW}
    assert statuses(pruning.reconcile()) == {"tool": (Status.PRESENT, Action.NONE)}
    assert len(accounts.calls("POST")) == 1
    assert accounts.calls("DELETE") == []


def test_it_is_unknown_while_the_former_address_cannot_be_asked_for(
    pruning: Machine, accounts: AccountService, repo: Repo
) -> None:
    accounts.add(NEW)
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    accounts.fail_next(1, 500, method="GET", prefix="/users/ada")
    assert statuses(pruning.reconcile()) == {"tool": (Status.UNKNOWN, Action.NONE)}
    assert f"tool~{OLD}" in statuses(pruning.reconcile())


def test_an_invitation_to_the_former_address_is_not_forgotten(
    machine: Machine, accounts: AccountService, repo: Repo
) -> None:
    """Executed, and not seen by the check: nobody can say whether it is still open."""
    repo.manifest("tool", accounts.manifest(revoke=True))
    accounts.route("POST", "/users", {"invited": True})
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    report = machine.reconcile()
    assert {access: status for access, (status, _) in statuses(report).items()} == {
        "tool": Status.UNCONFIRMED,
        f"tool~{OLD}": Status.ORPHANED,
    }
    assert "an invitation may be open" in row(report, "ada", f"tool~{OLD}").reason


@pytest.fixture
def invited(machine: Machine, accounts: AccountService, repo: Repo) -> Machine:
    """Ada was invited, and the invitation is open."""
    manifest = accounts.manifest()
    manifest["exists"]["pending"] = {"url": f"{accounts.url}/invitations", "data_from": "", "match": "email"}
    repo.manifest("tool", manifest)
    accounts.route("POST", "/users", {"invited": True})
    accounts.route("GET", "/invitations", [{"email": OLD}])
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    return machine


@pytest.mark.parametrize("how", ["run while open ones cannot be read", "accepted before"])
def test_no_open_invitation_is_forgotten(invited: Machine, accounts: AccountService, repo: Repo, how: str) -> None:
    if how == "accepted before":
        invited.enqueue("accept", "ada", "tool")
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    if how != "accepted before":
        accounts.fail_next(None, 500, prefix="/invitations")
        invited.reconcile(by_hand={("ada", "tool"): "run"})
        accounts.clear()
    left = row(invited.reconcile(), "ada", f"tool~{OLD}")
    assert (left.status, left.reason) == (
        Status.ORPHANED,
        "no longer in git; an invitation is open, and the manifest has no withdraw",
    )


def test_an_open_invitation_whose_withdrawal_lacks_a_value_is_left_to_a_person(
    invited: Machine, accounts: AccountService, repo: Repo
) -> None:
    """It was forgotten: the hire has the value now, and the ledger does not have it of the one before."""
    settings(repo, prune="revoke")
    manifest = accounts.manifest()
    manifest["exists"]["pending"] = {"url": f"{accounts.url}/invitations", "data_from": "", "match": "email"}
    manifest["withdraw"] = [{"url": f"{accounts.url}/invitations/{{{{SEAT}}}}", "method": "DELETE"}]
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool", email=NEW, extra={"SEAT": "5"})
    repo.commit()
    report = invited.reconcile()
    left = row(report, "ada", f"tool~{OLD}")
    assert (left.status, left.reason, report.wrong) == (
        Status.ORPHANED,
        "no longer in git; variable {{SEAT}} is not known: remove the account there",
        True,
    )


# A hire's id


def test_a_new_person_with_a_leavers_id_leaves_their_row_alone(
    pruning: Machine, accounts: AccountService, repo: Repo
) -> None:
    settings(repo)
    repo.remove("hires/ada.yaml")
    repo.hire("zoe")
    repo.commit()
    assert statuses(pruning.reconcile()) == {"tool": (Status.ORPHANED, Action.NONE)}
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    assert statuses(pruning.plan())["tool"] == (Status.MISSING, Action.EXECUTE)
    expected = {"tool": (Status.PRESENT, Action.NONE), f"tool~{OLD}": (Status.ORPHANED, Action.NONE)}
    assert statuses(pruning.reconcile()) == expected
    assert statuses(pruning.reconcile()) == expected
    settings(repo, prune="revoke")
    repo.commit()
    pruning.reconcile()
    assert set(accounts.people) == {NEW}
    assert accounts.created == {OLD: 1, NEW: 1}


def test_a_file_renamed_to_a_leavers_id_takes_its_rows_along(
    pruning: Machine, accounts: AccountService, repo: Repo
) -> None:
    repo.hire("bob", "tool")
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/ada.yaml")
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/bob.yaml")
    repo.hire("ada", "tool", email="bob@example.com", first_name="Bob")
    repo.commit()
    report = pruning.reconcile()
    assert {(item.hire, item.access): item.status for item in report.rows} == {
        ("ada", "tool"): Status.PRESENT,
        ("ada", f"tool~{OLD}"): Status.REVOKED,
    }
    assert accounts.created == {OLD: 1, "bob@example.com": 1}


def test_a_file_with_another_address_is_a_renaming_where_it_was_never_gone(
    pruning: Machine, accounts: AccountService, repo: Repo
) -> None:
    repo.remove("hires/ada.yaml")
    repo.hire("zoe")
    repo.commit()
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    found = row(pruning.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.BLOCKED, Action.NONE)
    assert f"the account is under {OLD}: rename it there" in found.reason


def test_files_with_other_addresses_are_renamings_where_git_lacks_the_revision_of_before(
    pruning: Machine, accounts: AccountService, repo: Repo
) -> None:
    """So it is in a shallow clone: nobody can tell that one of them had no file."""
    repo.hire("bob", "tool")
    repo.commit()
    pruning.reconcile()
    change(StateLocation(repo.state_url, repo.root), f"UPDATE grants SET revision = '{'5' * 40}'")
    for hire in ("ada", "bob"):
        repo.hire(hire, "tool", email=f"{hire}@example.org")
    repo.commit()
    report = pruning.reconcile()
    assert {(item.hire, item.access): item.status for item in report.rows} == {
        ("ada", "tool"): Status.BLOCKED,
        ("bob", "tool"): Status.BLOCKED,
    }
    assert accounts.calls("DELETE") == []


def test_a_file_with_another_address_is_somebody_else_where_another_file_has_the_former(
    pruning: Machine, accounts: AccountService, repo: Repo
) -> None:
    repo.hire("ada", "tool", email=NEW)
    repo.hire("bob", "tool", email=OLD, first_name="Ada")
    repo.commit()
    report = pruning.reconcile()
    assert {(item.hire, item.access): item.status for item in report.rows} == {
        ("ada", "tool"): Status.PRESENT,
        ("bob", "tool"): Status.PRESENT,
    }
    assert accounts.created == {OLD: 1, NEW: 1}
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("passes", [["ada"], ["zoe"], ["ada", "zoe"]], ids=" then ".join)
def test_a_renamed_hire_keeps_the_account_of_a_former_address(
    pruning: Machine, accounts: AccountService, repo: Repo, passes: list[str]
) -> None:
    """In passes over the former name and the new one alone, in any order, as the parts of a sweep are."""
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/ada.yaml")
    repo.hire("zoe", "tool", email=NEW, first_name="Ada")
    repo.commit()
    for hire in passes:
        assert {item.status for item in pruning.reconcile(hires=[hire]).rows} <= {Status.BLOCKED}
    left = row(pruning.reconcile(), "zoe", "tool")
    assert (left.status, left.reason) == (
        Status.BLOCKED,
        f"the account is under {OLD}: rename it there, or `reconcile run`",
    )
    assert pruning.record("ada", "tool") is None
    assert accounts.people.keys() == {OLD}
    assert accounts.created == {OLD: 1}


@pytest.mark.parametrize("passes", [[], ["ada"], ["bob"]], ids=lambda passes: " ".join(passes) or "whole")
def test_who_swaps_names_keeps_the_account_of_a_former_address(
    pruning: Machine, accounts: AccountService, repo: Repo, passes: list[str]
) -> None:
    repo.hire("ada", "tool", email=NEW)
    repo.hire("bob", "tool")
    repo.commit()
    pruning.reconcile()
    repo.hire("ada", "tool", email="bob@example.com", first_name="Bob")
    repo.hire("bob", "tool", email=NEW, first_name="Ada")
    repo.commit()
    for hire in passes:
        pruning.reconcile(hires=[hire])
    report = pruning.reconcile()
    assert {(item.hire, item.access): item.status for item in report.rows} == {
        ("ada", "tool"): Status.PRESENT,
        ("bob", "tool"): Status.BLOCKED,
    }
    assert accounts.people.keys() == {OLD, "bob@example.com"}
    assert set(accounts.created.values()) == {1}


def test_the_row_that_git_wanted_follows_before_one_that_a_leaver_left(
    pruning: Machine, accounts: AccountService, repo: Repo
) -> None:
    """A leaver had the address that is the hire's now."""
    repo.hire("bob", "tool", email=NEW)
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/bob.yaml")
    repo.commit()
    pruning.reconcile()
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/ada.yaml")
    repo.hire("zoe", "tool", email=NEW, first_name="Ada")
    repo.commit()
    report = pruning.reconcile()
    assert row(report, "zoe", "tool").status is Status.BLOCKED
    assert accounts.people.keys() == {OLD}


def test_a_leaver_who_comes_back_has_their_row_again(pruning: Machine, accounts: AccountService, repo: Repo) -> None:
    settings(repo)
    repo.remove("hires/ada.yaml")
    repo.hire("zoe")
    repo.commit()
    pruning.reconcile()
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    pruning.reconcile()
    repo.hire("countess", "tool", email=OLD, first_name="Ada")
    repo.commit()
    report = pruning.reconcile()
    assert {(item.hire, item.access): item.status for item in report.rows} == {
        ("ada", "tool"): Status.PRESENT,
        ("countess", "tool"): Status.PRESENT,
    }
    assert accounts.created == {OLD: 1, NEW: 1}


@pytest.mark.parametrize("passes", [[], ["ada"], ["bob"]], ids=lambda passes: " ".join(passes) or "whole")
def test_the_account_set_apart_makes_room_for_the_one_of_whose_address_it_is_now(
    pruning: Machine, accounts: AccountService, repo: Repo, passes: list[str]
) -> None:
    repo.hire("bob", "tool")
    repo.commit()
    pruning.reconcile()
    repo.remove("hires/bob.yaml")
    repo.hire("ada", "tool", email="bob@example.com")
    repo.commit()
    for hire in passes:
        pruning.reconcile(hires=[hire])
    report = pruning.reconcile()
    assert {(item.hire, item.access) for item in report.rows} == {("ada", "tool"), ("ada", f"tool~{OLD}")}
    assert pruning.record("bob", "tool") is None
    assert accounts.people.keys() == {"bob@example.com"}


# Told apart by what a check stores


@pytest.mark.parametrize("others", [0, 11], ids=["by its check", "by a listing"])
def test_accounts_that_were_found_are_told_apart_by_what_their_checks_store(
    machine: Machine, accounts: AccountService, repo: Repo, others: int
) -> None:
    settings(repo, prune="revoke")
    manifest = accounts.manifest(listing=True)
    manifest["exists"]["store_data"] = {"ID": "id"}
    manifest["revoke"] = [{"url": f"{accounts.url}/ids/{{{{ID}}}}", "method": "DELETE"}]
    repo.manifest("tool", manifest)

    def delete(_received: Received, number: str) -> int:
        (email,) = [each for each, person in accounts.people.items() if person["id"] == number]
        del accounts.people[email]
        return 204

    accounts.route("DELETE", "/ids/{number}", delete)
    stems = [f"h{number}" for number in range(others)]
    accounts.add(OLD, NEW, *(f"{stem}@example.com" for stem in stems))
    for stem in ("ada", *stems):
        repo.hire(stem, "tool")
    repo.commit()
    machine.reconcile()
    former = accounts.people[OLD]["id"]
    repo.hire("ada", "tool", email=NEW)
    repo.commit()
    after = {key: status for key, (status, _) in statuses(machine.reconcile()).items()}
    assert after == {"tool": Status.PRESENT, f"tool~{OLD}": Status.REVOKED}
    assert [call.path for call in accounts.calls("DELETE")] == [f"/ids/{former}"]
    assert NEW in accounts.people


def test_what_must_not_be_lost_stays_until_the_account_in_its_place_is_there(
    machine: Machine, accounts: AccountService, repo: Repo
) -> None:
    settings(repo, prune="revoke")
    repo.write("config/policy.yaml", [{"name": "break-glass", "hire": "ada", "must_have": ["tool"]}])
    repo.manifest("tool", by_login(accounts, form=False))
    with_login(repo, "ada", form=False)
    machine.reconcile()
    accounts.fail_next(1, 500, method="POST")
    with_login(repo, "lovelace", form=False)
    assert statuses(machine.reconcile()) == {
        "tool": (Status.RETRYING, Action.WAIT),
        "tool~ada": (Status.ORPHANED, Action.NONE),
    }
    machine.clock.turn(hours=1)
    for left in (Status.ORPHANED, Status.REVOKED):
        assert statuses(machine.reconcile()) == {
            "tool": (Status.PRESENT, Action.NONE),
            "tool~ada": (left, Action.NONE),
        }
    assert set(accounts.people) == {"lovelace"}


# Told by what a needed entry stored


@pytest.mark.parametrize(("only", "killed"), [(None, False), (["tool"], False), (["badge"], False), (["tool"], True)])
def test_what_is_told_by_what_a_needed_entry_stored_goes_with_its_former_account(
    machine: Machine,
    accounts: AccountService,
    others: AccountService,
    repo: Repo,
    only: list[str] | None,
    *,
    killed: bool,
) -> None:
    """Also where a pass over one of the two comes first, and where the program ends as soon as rows have moved."""
    settings(repo, prune="report")
    seat = by_login(accounts, form=True)
    seat["execute"][0]["store_data"] = {"SEAT": "id"}
    badge = f"{others.url}/users/{{{{SEAT}}}}"
    repo.manifest("tool", seat)
    repo.manifest(
        "badge",
        {
            "service": "tool",
            "exists": {"url": badge, "expected": "{{SEAT}}", "fail_when_4xx_response_code": False},
            "execute": [{"url": f"{others.url}/users", "data": {"email": "{{SEAT}}"}}],
            "revoke": [{"url": badge, "method": "DELETE"}],
            "headers": {"Content-Type": "application/json"},
        },
    )

    def give(login: str, *, killed: bool = False) -> None:
        seated = {"integration": "tool", "values": {"LOGIN": login}}
        repo.hire("ada", seated, {"integration": "badge", "needs": ["tool"]})
        repo.commit()
        if killed:
            with dying(LedgerWriter, "rename", after=True):
                machine.reconcile(integrations=only)
        for integrations in (only, None, None):
            machine.reconcile(integrations=integrations)

    give("ada")
    give("lovelace", killed=killed)
    first, second = (accounts.people[login]["id"] for login in ("ada", "lovelace"))
    assert set(others.people) == {first, second}
    both = {"tool": Status.PRESENT, "badge": Status.PRESENT}
    former = {"tool~ada": Status.ORPHANED, "badge~ada": Status.ORPHANED}
    assert {key: status for key, (status, _) in statuses(machine.reconcile()).items()} == both | former
    give("ada")
    former = {"tool~lovelace": Status.ORPHANED, "badge~lovelace": Status.ORPHANED}
    assert {key: status for key, (status, _) in statuses(machine.reconcile()).items()} == both | former
    settings(repo, prune="revoke")
    repo.commit()
    machine.reconcile()
    assert (set(accounts.people), set(others.people)) == ({"ada"}, {first})
    assert accounts.created == {"ada": 1, "lovelace": 1}
    assert others.created == {first: 1, second: 1}
