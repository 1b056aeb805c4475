"""`revoke`, `retry`, `--no-removals`, and what drift and orphans make of the exit code."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.cli.context import requester
from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService, eventually


@pytest.fixture
def two(repo: Repo, accounts: AccountService) -> Repo:
    """Ada and Bob have `tool` and `more`, confirmed."""
    for name in ("tool", "more"):
        manifest = accounts.manifest(revoke=True)
        manifest["exists"] |= {"url": f"{accounts.url}/users/{name}-{{{{email}}}}", "expected": f"{name}-{{{{email}}}}"}
        manifest["execute"] = [{"url": f"{accounts.url}/users", "data": {"email": f"{name}-{{{{email}}}}"}}]
        manifest["revoke"] = [{"url": f"{accounts.url}/users/{name}-{{{{email}}}}", "method": "DELETE"}]
        repo.manifest(name, manifest)
    for hire in ("ada", "bob"):
        repo.hire(hire, "tool", "more")
    repo.commit()
    assert call_cli(repo).code == 0
    assert len(accounts.people) == 4
    return repo


def test_all_of_a_persons_orphans_are_revoked_by_hand(two: Repo, accounts: AccountService) -> None:
    two.remove("hires/ada.yaml")
    two.commit()
    done = call_cli(two, "revoke", "ada", "--output", "json")
    assert done.code == 0, done.err
    assert {grant["status"] for grant in done.json["grants"]} == {"revoked"}
    assert set(accounts.people) == {"tool-bob@example.com", "more-bob@example.com"}
    again = call_cli(two, "revoke", "ada")
    assert (again.code, "nothing of ada is left to revoke" in again.err) == (1, True)
    lines = call_cli(two, "history", "--event", "revoke_requested", "--output", "json").json
    assert {(line["access"], line["detail"]) for line in lines} == {
        (access, f"by {requester()}") for access in ("tool", "more")
    }
    assert {(line["by"], line["author"], line["granted_in"]) for line in lines} == {(requester(), None, None)}
    assert call_cli(two, "forget", "ada").code == 0
    (line,) = call_cli(two, "history", "--event", "forgotten", "--output", "json").json
    assert (line["detail"].endswith(f"by {requester()}"), line["by"]) == (True, requester())
    assert call_cli(two, "history", "--verify").code == 0


EMPTY = (
    ("revoke", ""),
    ("revoke", "bob", ""),
    ("retry", ""),
    ("accept", "", "tool"),
    ("check", ""),
    ("status", "--hire", ""),
)
EMPTY_OPTIONS = (
    ("--dry-run", "--rev", ""),
    ("--integration", ""),
    ("validate", "--rev", ""),
    ("retry", "--integration", ""),
    ("try", "tool", "--save", ""),
    ("history", "export", ""),
    ("--repo", "", "status"),
    ("status", "--branch", ""),
)


def test_an_empty_word_means_nobody(two: Repo, accounts: AccountService) -> None:
    """As a script has it whose variable is not set: it is not everybody, and not HEAD."""
    two.remove("hires/ada.yaml")
    two.commit()
    before = len(accounts.calls())
    for words in (*EMPTY, *EMPTY_OPTIONS):
        done = call_cli(two, *words)
        assert (done.code, done.out) == (64, ""), words
        assert "is empty: give it a value, or leave it out" in done.err, words
        assert two.git("status", "--porcelain") == "", words
        assert len(accounts.calls()) == before, words


def test_last_hires_file_is_gone(two: Repo, accounts: AccountService) -> None:
    """Git keeps no empty folder: the pass is refused, with the right advice, and `revoke` by hand works."""
    for name in ("ada.yaml", "bob.yaml", ".gitkeep"):
        two.remove(f"hires/{name}")
    two.commit()
    before = len(accounts.calls())
    for arguments in ((), ("--dry-run",), ("status",), ("status", "--output", "json")):
        refused = call_cli(two, *arguments)
        assert refused.code == 1
        assert "commit an empty hires/.gitkeep" in refused.out + refused.err
    assert len(accounts.calls()) == before
    assert call_cli(two, "run", "ada", "tool").code == 1
    assert call_cli(two, "revoke", "ada").code == 0
    assert call_cli(two, "revoke", "bob", "tool").code == 0
    assert set(accounts.people) == {"more-bob@example.com"}
    two.write("hires/.gitkeep", "")
    two.settings(prune="revoke")
    two.commit()
    assert call_cli(two).code == 0
    assert accounts.people == {}


def test_without_manifests_nothing_is_taken_for_revoked_by_hand(two: Repo, accounts: AccountService) -> None:
    for name in ("tool.yaml", "more.yaml", ".gitkeep"):
        two.remove(f"manifests/{name}")
    two.commit()
    refused = call_cli(two, "revoke", "ada")
    assert (refused.code, "commit an empty manifests/.gitkeep" in refused.err) == (1, True)
    assert len(accounts.people) == 4


def test_revoke_refuses_a_grant_that_git_wants(two: Repo, accounts: AccountService) -> None:
    two.hire("ada", "tool")
    two.commit()
    refused = call_cli(two, "revoke", "ada", "tool")
    assert (refused.code, "still wanted in git" in refused.err) == (1, True)
    assert call_cli(two, "revoke", "ada").code == 0
    assert "tool-ada@example.com" in accounts.people
    assert "more-ada@example.com" not in accounts.people
    assert call_cli(two, "revoke", "ada").code == 1


@pytest.mark.parametrize("held", [{}, {"suspend": [{"hire": "ada"}]}], ids=["orphaned", "suspended"])
def test_accept_refuses_what_git_does_not_want(two: Repo, held: dict[str, Any]) -> None:
    two.settings(**held)
    two.remove("hires/ada.yaml")
    two.commit()
    call_cli(two)
    refused = call_cli(two, "accept", "ada", "tool")
    assert (refused.code, "git does not want it" in refused.err) == (1, True)
    call_cli(two, "lock", "bob", "--reason", "a lost laptop")
    refused = call_cli(two, "accept", "bob", "tool")
    assert (refused.code, "`reconcile unlock bob` ends the lock" in refused.err) == (1, True)


def test_refusal_names_the_next_command(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    assert call_cli(repo).code == 0
    repo.remove("hires/ada.yaml")
    repo.commit()
    refused = call_cli(repo, "revoke", "ada", "tool")
    assert refused.code == 1
    assert refused.err == (
        "error: ada/tool is orphaned: no longer in git; the manifest has no revoke; "
        "`reconcile explain ada tool` says what can be done\n"
    )
    assert "remove the account at the service" in call_cli(repo, "explain", "ada", "tool").out


def test_person_whom_the_ledger_does_not_have_is_named(repo: Repo) -> None:
    repo.commit()
    refused = call_cli(repo, "revoke", "nobody")
    assert (refused.code, refused.err.partition(":")[2].partition(":")[0]) == (64, " the ledger has no grant of nobody")


def test_a_persons_orphans_are_left_for_the_daemon(two: Repo, accounts: AccountService) -> None:
    two.remove("hires/ada.yaml")
    two.settings(interval="1d")
    two.commit()
    with Daemon(two):
        asked = call_cli(two, "revoke", "ada")
        assert asked.code == 0, asked.err
        assert "ada/more" in asked.err
        assert "ada/tool" in asked.err
        eventually(lambda: len(accounts.people) == 2)


def test_no_removals_revokes_nothing_in_this_pass(two: Repo, accounts: AccountService) -> None:
    two.settings(prune="revoke")
    two.remove("hires/ada.yaml")
    two.commit()
    for arguments, env in (
        (["--dry-run", "--no-removals"], {}),
        (["--no-removals"], {}),
        ([], {"RECONCILE_NO_REMOVALS": "1"}),
    ):
        done = call_cli(two, *arguments, "--output", "json", env=env)
        assert done.code == 0
        for access in ("tool", "more"):
            left = done.grant("ada", access)
            assert (left["status"], left["action"]) == ("orphaned", "none")
            assert "--no-removals" in left["reason"]
    assert len(accounts.people) == 4
    assert call_cli(two).code == 0
    assert len(accounts.people) == 2


def test_orphans_count_for_the_detailed_exit_code_only(two: Repo, accounts: AccountService) -> None:
    two.remove("hires/ada.yaml")
    two.commit()
    assert call_cli(two).code == 0
    assert call_cli(two, "--dry-run", "--detailed-exitcode").code == 2
    assert call_cli(two, "--detailed-exitcode").code == 2
    assert call_cli(two, "status").code == 0


def test_drift_that_is_left_to_a_person_is_an_error(two: Repo, accounts: AccountService) -> None:
    two.settings(drift="report")
    two.commit()
    accounts.people.pop("tool-ada@example.com")
    for arguments in (["--dry-run"], [], ["status"]):
        done = call_cli(two, *arguments, "--output", "json")
        assert done.code == 1, arguments
        assert (done.grant("ada", "tool")["action"], done.grant("ada", "tool")["drifted"]) == ("none", True)
        assert done.grant("ada", "more")["drifted"] is False
    two.settings(drift="heal")
    two.commit()
    assert call_cli(two, "--dry-run", "--detailed-exitcode").code == 2
    assert call_cli(two).code == 0


def test_retry_of_a_grant_that_did_not_fail_succeeds(two: Repo) -> None:
    for arguments in ([], ["ada"], ["ada", "tool"], ["--integration", "tool"]):
        done = call_cli(two, "retry", *arguments)
        assert (done.code, "nothing to start afresh" in done.out) == (0, True), arguments


def test_retry_of_what_is_not_there_fails(two: Repo) -> None:
    for arguments in (["eve"], ["ada", "toool"], ["--integration", "toool"]):
        done = call_cli(two, "retry", *arguments)
        assert (done.code, "nothing to start afresh" in done.out) == (1, False), arguments


def test_a_retry_without_arguments_starts_every_failed_one_afresh(two: Repo, accounts: AccountService) -> None:
    two.hire("cleo", "tool", "more")
    two.commit()
    accounts.fail_next(2, 500, method="POST")
    assert call_cli(two).code == 1
    asked = call_cli(two, "retry")
    assert (asked.code, "cleo/more" in asked.out, "cleo/tool" in asked.out) == (0, True, True)
    assert call_cli(two).code == 0
    assert len(accounts.people) == 6
