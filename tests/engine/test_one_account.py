"""docs/design/rules.md, "One account, one hire": two hires whose checks mean one account."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.status import Action, Status
from tests.engine.harness import Machine, row
from tests.repo import Repo
from tests.servers import AccountService

SPELLINGS = {
    "the same": "ceo",
    "another case": "CEO",
    "a blank": "ceo ",
    "an invisible letter": "c\u200beo",
    "full width": "\uff43eo",
    "percent-encoded": "%63eo",
}


def by_login(accounts: AccountService, **more: Any) -> dict[str, Any]:
    """Accounts that are told by a login of `extra`."""
    one = f"{accounts.url}/users/{{{{LOGIN}}}}"
    return {
        "exists": {"url": one, "expected": "{{LOGIN}}", "fail_when_4xx_response_code": False},
        "execute": [{"url": f"{accounts.url}/users", "data": {"email": "{{LOGIN}}"}}],
        "revoke": [{"url": one, "method": "DELETE"}],
        "headers": {"Content-Type": "application/json"},
        **more,
    }


@pytest.fixture
def logins(machine: Machine, accounts: AccountService, repo: Repo) -> Machine:
    """Ada is the CEO; what leaves git is revoked."""
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path, prune="revoke")
    repo.manifest("tool", by_login(accounts))
    hire(repo, "ada", "ceo")
    repo.commit()
    return machine


def hire(repo: Repo, stem: str, login: str | None, access: str = "tool") -> None:
    repo.hire(stem, access, extra={} if login is None else {"LOGIN": login})


@pytest.mark.parametrize("deletes", [False, True])
def test_who_asks_for_anothers_account_does_not_keep_it_from_being_locked(
    logins: Machine, accounts: AccountService, repo: Repo, *, deletes: bool
) -> None:
    manifest = by_login(accounts)
    if not deletes:
        manifest["exists"]["inactive"] = off = {"active": False}
        manifest["lock"] = [{"url": manifest["exists"]["url"], "method": "PATCH", "data": off}]
    repo.manifest("tool", manifest)
    repo.commit()
    logins.reconcile()
    hire(repo, "bob", "ceo")
    repo.commit()
    logins.reconcile()
    logins.lock("ada")
    assert row(logins.reconcile(), "ada", "tool").reason.endswith("; gone" if deletes else "; switched off")
    report = logins.reconcile()
    assert row(report, "bob", "tool").status is Status.INVALID
    assert row(report, "ada", "tool").reason.endswith("; there is no account" if deletes else "; switched off")
    assert accounts.created == {"ceo": 1}
    assert len(accounts.calls("DELETE" if deletes else "PATCH")) == 1


def test_a_lock_leaves_the_account_of_who_has_it_now_whoever_else_asks_for_it(
    logins: Machine, accounts: AccountService, repo: Repo
) -> None:
    manifest = by_login(accounts)
    manifest["exists"]["inactive"] = off = {"active": False}
    manifest["lock"] = [{"url": manifest["exists"]["url"], "method": "PATCH", "data": off}]
    repo.manifest("tool", manifest)
    repo.commit()
    logins.reconcile()
    repo.remove("hires/ada.yaml")
    hire(repo, "bob", "ceo")
    repo.commit()
    assert row(logins.reconcile(), "bob", "tool").status is Status.PRESENT
    hire(repo, "cy", "ceo")
    repo.commit()
    for who in ("ada", "cy"):
        logins.lock(who)
    report = logins.reconcile()
    assert "it is the same account as bob/tool" in row(report, "ada", "tool").reason
    assert row(report, "bob", "tool").status is Status.PRESENT
    assert accounts.calls("PATCH") == []


@pytest.mark.parametrize("login", SPELLINGS.values(), ids=SPELLINGS)
def test_whose_account_it_is_by_the_ledger_has_it(
    logins: Machine, accounts: AccountService, repo: Repo, login: str
) -> None:
    logins.reconcile()
    hire(repo, "bob", login)
    repo.commit()
    for report in (logins.plan(), logins.reconcile(), logins.reconcile(hires=["bob"])):
        found = row(report, "bob", "tool")
        assert (found.status, found.action) == (Status.INVALID, Action.NONE)
        assert "its check means the account of ada/tool: an account belongs to one hire" in found.reason
    assert row(logins.reconcile(), "ada", "tool").status is Status.PRESENT
    repo.remove("hires/bob.yaml")
    repo.commit()
    logins.reconcile()
    assert accounts.created == {"ceo": 1}
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("login", SPELLINGS.values(), ids=SPELLINGS)
def test_nobody_has_an_account_that_two_new_hires_mean(
    logins: Machine, accounts: AccountService, repo: Repo, login: str
) -> None:
    hire(repo, "bob", login)
    repo.commit()
    report = logins.reconcile()
    for one, other in (("ada", "bob"), ("bob", "ada")):
        found = row(report, one, "tool")
        assert (found.status, found.action) == (Status.INVALID, Action.NONE)
        assert f"means the same account as that of {other}/tool: an account" in found.reason
    assert accounts.calls() == []
    hire(repo, "bob", "cto")
    repo.commit()
    assert {each.status for each in logins.reconcile().rows} == {Status.PRESENT}


@pytest.mark.parametrize("late", [False, True])
def test_account_is_somebody_elses_once_its_holders_time_is_over(
    logins: Machine, accounts: AccountService, repo: Repo, *, late: bool
) -> None:
    """Whose time is over counts as removed, whether it is revoked by then or not, and although its entry stands."""
    repo.hire("ada", {"integration": "tool", "for": "8h"}, extra={"LOGIN": "root"})
    repo.commit()
    assert row(logins.reconcile(), "ada", "tool").status is Status.PRESENT
    logins.clock.turn(hours=8)
    if late:
        assert row(logins.reconcile(), "ada", "tool").status is Status.REVOKED
    hire(repo, "bob", "root")
    repo.commit()
    found = logins.reconcile().rows
    assert [item.status for item in found] == [Status.REVOKED if late else Status.ORPHANED, Status.PRESENT]
    logins.clock.turn(hours=1)
    assert logins.reconcile().rows[1].status is Status.PRESENT
    assert accounts.created == {"root": 1 + late}


def test_manifests_of_one_service_are_compared(logins: Machine, accounts: AccountService, repo: Repo) -> None:
    repo.manifest("tool", by_login(accounts, service="house"))
    repo.manifest("admin", by_login(accounts, service="house", headers={"X-Admin": "1"}))
    repo.manifest("elsewhere", by_login(accounts, service="elsewhere"))
    hire(repo, "bob", "CEO", "admin")
    hire(repo, "eve", "CEO", "elsewhere")
    repo.commit()
    report = logins.plan()
    assert (row(report, "ada", "tool").status, row(report, "bob", "admin").status) == (Status.INVALID,) * 2
    assert row(report, "eve", "elsewhere").status is Status.MISSING


def test_a_page_that_two_people_share_is_no_account_of_theirs(
    logins: Machine, accounts: AccountService, repo: Repo
) -> None:
    manifest = by_login(accounts)
    manifest["exists"] |= {"url": f"{accounts.url}/users/{{{{department}}}}", "expected": '"id"'}
    repo.manifest("tool", manifest)
    accounts.add("sales")
    for stem in ("ada", "bob"):
        repo.hire(stem, "tool", department="sales", extra={"LOGIN": stem})
    repo.commit()
    assert [item.status for item in logins.reconcile().rows] == [Status.PRESENT, Status.PRESENT]


def test_an_account_kept_for_a_broken_file_is_its_hires(logins: Machine, accounts: AccountService, repo: Repo) -> None:
    logins.reconcile()
    repo.write("hires/ada.yaml", "email: [")
    hire(repo, "bob", "Ceo")
    repo.commit()
    found = row(logins.reconcile(), "bob", "tool")
    assert (found.status, found.reason) == (
        Status.INVALID,
        "its account is that of ada/tool, whose file cannot be read",
    )


def test_account_that_a_lock_switched_off_is_given_to_nobody_until_the_lock_ends(
    logins: Machine, accounts: AccountService, repo: Repo
) -> None:
    """Its person left, and somebody else asks for it: it was switched on again, and whoever was locked could use it."""
    one = f"{accounts.url}/users/{{{{LOGIN}}}}"
    manifest = by_login(accounts)
    manifest["exists"]["inactive"] = {"active": False}
    manifest["update"] = [{"url": one, "method": "PATCH", "data": {"active": True}}]
    manifest["lock"] = [{"url": one, "method": "PATCH", "data": {"active": False}}]
    repo.manifest("tool", manifest)
    repo.commit()
    logins.reconcile()
    logins.lock("ada")
    logins.reconcile()
    repo.remove("hires/ada.yaml")
    hire(repo, "bob", "ceo")
    repo.commit()
    for _ in range(2):
        found = row(logins.reconcile(), "bob", "tool")
        assert (found.status, found.reason) == (Status.INVALID, "its account is that of ada/tool, who is locked")
        assert accounts.people["ceo"]["active"] is False
    logins.enqueue("unlock", "ada")
    assert row(logins.reconcile(), "bob", "tool").status is Status.PRESENT
    assert accounts.people["ceo"]["active"] is True


@pytest.mark.parametrize("covers", [{"grants": [("bob", "tool~bo")]}, {"integrations": ["other"]}], ids=str)
def test_nothing_of_who_asks_for_anothers_account_is_revoked_in_any_pass(
    logins: Machine, accounts: AccountService, repo: Repo, covers: dict[str, Any]
) -> None:
    """Also not in one that does not cover the entry, of another grant or of another service."""
    repo.manifest("other", accounts.manifest(revoke=True))
    repo.hire("bob", "tool", "other", extra={"LOGIN": "bo"})
    repo.commit()
    logins.reconcile()
    hire(repo, "bob", "ceo")
    repo.commit()
    report = logins.reconcile(**covers)
    left = next(item for item in report.rows if item.status is Status.ORPHANED)
    assert "nothing of bob is revoked until this is mended: hires/bob.yaml:" in left.reason
    assert accounts.calls("DELETE") == []


@pytest.mark.parametrize("login", [*SPELLINGS.values(), "x/../ceo", "ceo/"])
def test_an_orphan_that_somebody_has_spelt_otherwise_is_not_revoked(
    logins: Machine, accounts: AccountService, repo: Repo, login: str
) -> None:
    hire(repo, "ada", "Ceo")
    repo.commit()
    logins.reconcile()
    repo.remove("hires/ada.yaml")
    hire(repo, "bob", login)
    repo.commit()
    logins.reconcile()
    logins.reconcile()
    assert len(accounts.calls("DELETE")) == (1 if "/" in login else 0)
    assert [call for call in accounts.calls() if ".." in call.path or call.path.endswith("/")] == []


@pytest.mark.parametrize("login", ["x/../ceo", "ceo/", "..", "%2e%2e/ceo"])
def test_a_login_that_would_climb_in_a_path_is_blocked(
    logins: Machine, accounts: AccountService, repo: Repo, login: str
) -> None:
    hire(repo, "ada", login)
    repo.commit()
    found = row(logins.reconcile(), "ada", "tool")
    assert (found.status, found.action) == (Status.BLOCKED, Action.NONE)
    assert "variable {{LOGIN}}" in found.reason
    assert accounts.calls() == []
