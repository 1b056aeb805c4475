"""A state that was lost: nothing runs again before somebody has said so."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService


@pytest.fixture
def hooked(repo: Repo, accounts: AccountService) -> Repo:
    """A webhook that ran for one hire."""
    manifest: dict[str, Any] = accounts.manifest()
    del manifest["exists"]
    repo.manifest("hook", manifest)
    repo.hire("ada", "hook")
    repo.commit()
    assert call_cli(repo).code == 0
    assert len(accounts.calls("POST")) == 1
    return repo


def emptied(repo: Repo) -> None:
    repo.state.write_bytes(b"")


def removed(repo: Repo) -> None:
    shutil.rmtree(repo.state.parent)


def named_elsewhere(repo: Repo) -> None:
    repo.settings(state=f"sqlite:///{repo.root.parent}/elsewhere/state.db")
    repo.commit()


@pytest.mark.parametrize("lose", [removed, emptied, named_elsewhere])
def test_a_pass_stops_and_asks(hooked: Repo, accounts: AccountService, lose: Any) -> None:
    lose(hooked)
    for _ in range(2):
        done = call_cli(hooked)
        assert done.code == 1
        assert "is not there, and this checkout was acted on with one before" in done.err
        assert "Restore it from a backup" in done.err
        assert "`git update-ref -d refs/reconciler/state`" in done.err
    call_cli(hooked, "retry")
    assert call_cli(hooked).code == 1, "what people ask for makes no state either"
    assert len(accounts.calls("POST")) == 1


def test_what_reads_says_that_it_is_lost(hooked: Repo) -> None:
    removed(hooked)
    for command in ("history", "history --verify", "explain ada hook", "retry", "review start 1"):
        done = call_cli(hooked, *command.split())
        assert (done.code, done.out) == (1, ""), command
        assert "is not there, and this checkout was acted on with one before" in done.err, command
    assert not (hooked.root / "config/reviews").exists()
    shown = call_cli(hooked, "status", "--output", "json")
    assert shown.code == 1
    assert json.loads(shown.out)["grants"] == []
    assert "is not there, and this checkout was acted on" in json.loads(shown.out)["problems"][0]["message"]
    assert "no pass was made yet" not in shown.err


def test_a_dry_run_says_that_it_plans_without_what_was_lost(hooked: Repo) -> None:
    removed(hooked)
    done = call_cli(hooked, "--dry-run", "--output", "json")
    assert done.code == 1, "the webhook would not run again: a pass is refused"
    assert "is not there, and this checkout was acted on" in json.loads(done.out)["problems"][0]["message"]
    hooked.git("update-ref", "-d", "refs/reconciler/state")
    assert call_cli(hooked, "--dry-run").code == 0


def test_a_daemon_does_not_start(hooked: Repo, accounts: AccountService) -> None:
    removed(hooked)
    with Daemon(hooked, ready=False) as daemon:
        assert daemon.process.wait() == 1
        assert "is not there, and this checkout was acted on" in daemon.log
    assert len(accounts.calls("POST")) == 1


def test_both_ways_on(hooked: Repo, accounts: AccountService) -> None:
    backup = hooked.root.parent / "backup"
    shutil.copytree(hooked.state.parent, backup)
    removed(hooked)
    assert call_cli(hooked).code == 1
    shutil.copytree(backup, hooked.state.parent)
    assert call_cli(hooked).code == 0
    assert len(accounts.calls("POST")) == 1
    removed(hooked)
    hooked.git("update-ref", "-d", "refs/reconciler/state")
    call_cli(hooked)
    assert len(accounts.calls("POST")) == 2


def test_a_fresh_clone_begins_with_none(hooked: Repo, accounts: AccountService) -> None:
    clone = hooked.root.parent / "clone"
    hooked.git("clone", "--quiet", str(hooked.root), str(clone))
    hooked.root, hooked.state = clone, clone / ".reconciler/state.db"
    hooked.state_url = f"sqlite:///{hooked.state}"
    hooked.settings()
    hooked.git("-c", "user.name=I", "-c", "user.email=i@example.com", "commit", "-qam", "its own state")
    call_cli(hooked)
    assert len(accounts.calls("POST")) == 2
