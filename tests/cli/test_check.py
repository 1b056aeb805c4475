"""`reconcile check`: a pass over the grants that are named, beside a daemon too; and what `retry` says of it."""

from __future__ import annotations

import pytest

from tests.repo import Daemon, Repo, Result, call_cli
from tests.servers import AccountService


@pytest.fixture
def two(repo: Repo, accounts: AccountService) -> Repo:
    """Ada and Bob have `tool`, confirmed; the interval is long."""
    repo.settings(interval="12h")
    repo.manifest("tool", accounts.manifest(revoke=True))
    for hire in ("ada", "bob"):
        repo.hire(hire, "tool")
    repo.commit()
    assert call_cli(repo).code == 0
    return repo


def statuses(result: Result) -> dict[str, str]:
    return {grant["hire"]: grant["status"] for grant in result.json["grants"]}


@pytest.mark.parametrize("arguments", [("ada",), ("ada", "tool"), ("ada", "--integration", "tool")])
def test_check_acts_as_a_pass_over_the_grants(two: Repo, accounts: AccountService, arguments: tuple[str, ...]) -> None:
    accounts.people.clear()
    done = call_cli(two, "check", *arguments, "--output", "json")
    assert (done.code, statuses(done)) == (0, {"ada": "present"})
    assert [*accounts.people] == ["ada@example.com"]


def test_check_is_no_way_around_a_suspension_a_retry_or_a_healing(two: Repo, accounts: AccountService) -> None:
    accounts.people.clear()
    accounts.fail_next(1, 500, method="POST")
    assert call_cli(two, "check", "bob").code == 1
    assert call_cli(two, "check", "ada").code == 0
    accounts.people.clear()
    two.settings(interval="12h", suspend=[{"hire": "cy"}])
    two.hire("cy", "tool")
    two.commit()
    sent = len(accounts.calls("POST"))
    done = call_cli(two, "check", "--integration", "tool", "--output", "json")
    assert statuses(done) == {"ada": "missing", "bob": "retrying", "cy": "suspended"}
    assert len(accounts.calls("POST")) == sent


def test_check_beside_a_daemon_waits_for_its_answer(two: Repo, accounts: AccountService) -> None:
    with Daemon(two):
        for arguments in (("ada",), ("ada", "tool"), ("--integration", "tool"), ()):
            accounts.people.pop("ada@example.com", None)
            before = len(accounts.calls("GET", "/users/ada@example.com"))
            done = call_cli(two, "check", *arguments, "--output", "json")
            assert "waiting for its answer" in done.err
            assert len(accounts.calls("GET", "/users/ada@example.com")) > before
            expected = "present" if arguments == ("ada",) else "missing"  # it was healed today
            assert statuses(done)["ada"] == expected
            assert done.code == (0 if expected == "present" else 1)


@pytest.mark.parametrize("arguments", [("adda",), ("ada", "tol"), ("--integration", "tol")])
def test_unknown_grants_are_refused(two: Repo, arguments: tuple[str, ...]) -> None:
    for command in ("check", "retry"):
        refused = call_cli(two, command, *arguments)
        assert (refused.code, "did you mean" in refused.err) == (1, True)


def test_retry_of_what_was_never_tried_names_run(two: Repo, accounts: AccountService) -> None:
    two.hire("zoe", "tool")
    two.commit()
    for arguments in (["zoe"], ["zoe", "tool"]):
        done = call_cli(two, "retry", *arguments)
        assert (done.code, "never tried" in done.err, "`reconcile run zoe tool`" in done.err) == (1, True, True)
    assert "zoe@example.com" not in accounts.people
    other = call_cli(two, "retry", "ada", "tool", "--integration", "more")
    assert (other.code, "there is no grant ada tool more" in other.err) == (1, True)


def test_retry_of_nothing_failed_names_check(two: Repo) -> None:
    done = call_cli(two, "retry", "ada", "tool")
    assert (done.code, "to check now: `reconcile check ada tool`" in done.out) == (0, True)
