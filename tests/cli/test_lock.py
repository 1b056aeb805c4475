"""`reconcile lock` and `unlock`: at once, alone and beside a daemon, without a commit."""

from __future__ import annotations

from contextlib import closing, nullcontext
from datetime import UTC, datetime
from time import sleep

import pytest

from reconciler.ledger.opening import StateLocation
from tests.repo import Daemon, Repo, Result, call_cli
from tests.servers import AccountService, Received, Reply, eventually


@pytest.fixture
def there(repo: Repo, accounts: AccountService) -> Repo:
    """Ada has `tool`, whose accounts can be switched off, and `sheet`, whose accounts cannot; the interval is long."""
    repo.settings(interval="12h")
    repo.manifest("tool", accounts.lockable())
    sheet = accounts.manifest()
    repo.manifest("sheet", {**sheet, "exists": {**sheet["exists"], "url": f"{accounts.url}/users/{{{{email}}}}?sheet"}})
    repo.hire("ada", "tool")
    repo.commit()
    assert call_cli(repo).code == 0
    return repo


def active(accounts: AccountService) -> bool:
    return bool(accounts.people["ada@example.com"].get("active", True))


def said(result: Result) -> tuple[str, str]:
    grant = result.grant("ada", "tool")
    return grant["status"], grant["reason"].partition("; ")[2]


def journey(repo: Repo, accounts: AccountService) -> None:
    done = call_cli(repo, "lock", "ada", "--reason", "left in anger", "--output", "json")
    assert (done.code, said(done), active(accounts)) == (0, ("suspended", "switched off"), False)
    assert " since " in done.grant("ada", "tool")["reason"]
    status = call_cli(repo, "status", "--output", "json")
    assert (status.code, said(status)) == (0, ("suspended", "switched off"))
    assert "nothing is provisioned until the lock ends" in call_cli(repo, "explain", "ada", "tool").out
    done = call_cli(repo, "unlock", "ada")
    assert done.code == 0, done.err
    assert eventually(lambda: active(accounts))


def test_lock_and_unlock_alone(there: Repo, accounts: AccountService) -> None:
    journey(there, accounts)
    assert call_cli(there, "--output", "json").grant("ada", "tool")["status"] == "present"
    refused = call_cli(there, "unlock", "ada")
    assert (refused.code, "ada is not locked" in refused.err) == (1, True)
    history = call_cli(there, "history", "--hire", "ada", "--output", "json").json
    asked = [line for line in history if line["event"] in ("locked", "unlocked") and not line["access"]]
    assert [line["event"] for line in asked] == ["locked", "unlocked"]
    assert ": left in anger" in asked[0]["detail"]


def test_lock_that_nobody_took_up_yet_is_unlocked(there: Repo, accounts: AccountService) -> None:
    with closing(StateLocation(there.state_url, there.root).writer()) as ledger:
        data = {"reason": "left in anger", "addresses": ["ada@example.com"], "delete": False}
        ledger.commands.enqueue("lock", hire="ada", data=data, by="tester@here", now=datetime.now(UTC))
    done = call_cli(there, "unlock", "ada")
    assert (done.code, active(accounts)) == (0, True), done.err
    assert call_cli(there, "--output", "json").grant("ada", "tool")["status"] == "present"


@pytest.mark.parametrize("named", ["countess", "ada"])
def test_who_was_renamed_is_locked_and_unlocked_as_the_same_person(
    there: Repo, accounts: AccountService, named: str
) -> None:
    assert call_cli(there, "lock", "ada", "--reason", "left in anger").code == 0
    there.remove("hires/ada.yaml")
    there.hire("countess", "tool", email="ada@example.com")
    there.commit()
    again = call_cli(there, "lock", "countess", "--reason", "a second look", "--output", "json")
    assert "a second look" in again.grant("countess", "tool")["reason"]
    for unlocks in (False, True):
        assert not unlocks or call_cli(there, "unlock", named).code == 0
        verified = call_cli(there, "history", "--verify")
        assert verified.code == 0, verified.out
    assert eventually(lambda: active(accounts))


@pytest.mark.parametrize("seen", [False, True], ids=["renamed", "left-and-came-back"])
def test_who_is_renamed_by_a_commit_that_no_pass_has_seen_is_locked_by_the_former_id(
    there: Repo, accounts: AccountService, *, seen: bool
) -> None:
    there.remove("hires/ada.yaml")
    there.write("hires/.gitkeep", "")
    if seen:
        there.commit()
        assert call_cli(there).code == 0
    there.hire("countess", "tool", email="ada@example.com")
    there.commit()
    done = call_cli(there, "lock", "ada", "--reason", "left in anger", "--output", "json")
    assert (done.code, active(accounts)) == (0, False), done.err
    assert done.grant("countess", "tool")["status"] == "suspended"
    assert call_cli(there).code == 0
    assert not active(accounts)
    assert call_cli(there, "unlock", "countess").code == 0
    assert active(accounts)


def test_who_has_the_former_id_of_another_is_locked_alone(there: Repo, accounts: AccountService) -> None:
    """Also before a pass has seen the commit."""
    there.hire("countess", "tool", email="ada@example.com")
    there.hire("ada", "tool", email="ada.king@example.com")
    there.commit()
    assert call_cli(there, "lock", "ada", "--reason", "left in anger").code == 0
    assert call_cli(there, "--output", "json").grant("countess", "tool")["status"] == "present"
    assert active(accounts)


def test_lock_and_unlock_beside_a_daemon(there: Repo, accounts: AccountService) -> None:
    with Daemon(there):
        journey(there, accounts)


class Slow(AccountService):
    """A service that takes its time to answer the check that follows a change."""

    changed = False

    def handle(self, received: Received) -> Reply:
        if received.method == "GET" and self.changed:
            sleep(0.5)
        self.changed = received.method != "GET"
        return super().handle(received)


@pytest.mark.parametrize("gone", [False, True])
def test_unlock_and_check_beside_a_daemon_say_what_the_check_after_an_attempt_found(repo: Repo, *, gone: bool) -> None:
    with Slow() as slow:
        repo.settings(interval="12h")
        repo.manifest("tool", slow.lockable())
        repo.hire("ada", "tool")
        repo.commit()
        with Daemon(repo):
            assert eventually(lambda: repo.has("ada", "tool", "present"))
            assert call_cli(repo, "lock", "ada", "--reason", "left in anger").code == 0
            if gone:
                slow.people.clear()
            done = call_cli(repo, "unlock", "ada", "--output", "json")
            assert (done.code, done.grant("ada", "tool")["status"]) == (0, "present")
            slow.people.clear()
            done = call_cli(repo, "check", "ada", "--output", "json")
            assert (done.code, done.grant("ada", "tool")["status"]) == (0, "present")


def test_lock_names_what_a_person_has_to_do(there: Repo, accounts: AccountService) -> None:
    there.hire("ada", "tool", "sheet")
    there.commit()
    assert call_cli(there).code == 0
    done = call_cli(there, "lock", "ada", "--reason", "left in anger")
    assert done.code == 1
    assert "not locked: ada/sheet (sheet): locked by" in done.err
    assert "lock it there: the manifest has no lock and no revoke" in done.err
    assert call_cli(there, "status").code == 1


def test_lock_refuses_what_cannot_be_meant(there: Repo) -> None:
    for arguments, why in (
        (("ada",), "Missing option '--reason'"),
        (("ada", "--reason", " "), "--reason is empty"),
        (("ada", "--reason", "x", "--until", "soon"), "--until soon: write a date"),
        (("ada", "--reason", "x", "--until", "2020-01-01"), "is over already"),
        (("adda", "--reason", "x"), "neither git nor the ledger has adda"),
    ):
        refused = call_cli(there, "lock", *arguments)
        assert (refused.code, why in refused.err) == (64, True), refused.err


@pytest.mark.parametrize(
    ("until", "ends"),
    [
        ("2099-01-01", "2098-12-31T23:00:00Z"),
        ("2099-01-01T18:00", "2099-01-01T17:00:00Z"),
        ("2099-01-01T18:00+05:30", "2099-01-01T12:30:00Z"),
        ("2098-03-30T02:30", "2098-03-30T01:00:00Z"),
    ],
    ids=["day", "clock", "offset", "gap"],
)
def test_lock_ends_when_it_was_told_to(there: Repo, until: str, ends: str) -> None:
    there.settings(interval="12h", timezone="Europe/Berlin")
    there.commit()
    done = call_cli(there, "lock", "ada", "--reason", "on leave", "--until", until, "--output", "json")
    assert f", until {ends}: on leave" in done.grant("ada", "tool")["reason"]


def test_lock_works_where_the_file_is_broken(there: Repo, accounts: AccountService) -> None:
    there.write("hires/ada.yaml", "email: [")
    there.commit()
    done = call_cli(there, "lock", "ada", "--reason", "left in anger", "--until", "8h")
    assert (done.code, active(accounts)) == (0, False), done.err


@pytest.mark.parametrize("beside", ["nobody", "a daemon", "a daemon that starts then"])
@pytest.mark.parametrize(
    ("commit", "why"),
    [("hires", "no hires/ folder"), ("manifests", "no manifests/ folder"), ("settings", "config/reconciler.yaml")],
)
def test_lock_works_where_the_newest_commit_is_refused(
    there: Repo, accounts: AccountService, commit: str, why: str, beside: str
) -> None:
    """By the last accepted revision, or by the ledger; a pass is refused."""
    with Daemon(there) if beside == "a daemon" else nullcontext():
        if commit == "settings":
            there.write("config/reconciler.yaml", "prune: [\n")
        else:
            there.git("rm", "-rq", commit)
        there.commit()
        with Daemon(there) if beside == "a daemon that starts then" else nullcontext():
            done = call_cli(there, "lock", "ada", "--reason", "left in anger", "--output", "json")
            assert done.code == 0, done.err
            assert (said(done), active(accounts)) == (("suspended", "switched off"), False)
            for arguments in (["unlock", "ada"], ["--yes"]):
                refused = call_cli(there, *arguments)
                assert (refused.code, why in refused.err) == (1, True)
            assert why in call_cli(there, "status", "--output", "json").json["refused"]["why"]


def test_revoke_works_where_the_settings_cannot_be_read(there: Repo, accounts: AccountService) -> None:
    there.hire("ada")
    there.commit()
    assert call_cli(there, "--yes").code == 0
    there.write("config/reconciler.yaml", "prune: [\n")
    there.commit()
    done = call_cli(there, "revoke", "ada", "tool", "--output", "json")
    assert "ada@example.com" not in accounts.people, done.err
    assert done.grant("ada", "tool")["status"] == "revoked"
    assert "config/reconciler.yaml" in done.json["refused"]["why"]
