"""A person who left is erased: from the ledger, its history, what alerts remember, from every byte of the state."""

from __future__ import annotations

import pytest

from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService, Reply, Service, eventually


@pytest.fixture
def told(repo: Repo, accounts: AccountService, service: Service) -> Repo:
    """Two hires; zebedee fails twice, which an alert tells of, and leaves."""
    service.route("POST", "/alerts", Reply(204))
    repo.settings(retry_delay="0s", alerts=[{"webhook": f"{service.url}/alerts"}])
    repo.manifest("tool", accounts.manifest(team=True, revoke=True))
    repo.hire("zebedee", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    return repo


def erased(repo: Repo) -> bool:
    files = [file for file in repo.state.parent.rglob("*") if file.is_file()]
    return all(b"zebedee" not in file.read_bytes().lower() for file in files)


def test_forget_person_without_accounts(
    told: Repo, accounts: AccountService, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.review.validated.WORTH_KEEPING", 1)
    accounts.fail_next(4, 500, method="POST")
    for _ in range(2):
        assert call_cli(told).code == 1
    assert any(b"zebedee" in call.body for call in service.calls("POST"))
    call_cli(told, "validate")
    assert call_cli(told, "forget", "zebedee").code == 1, "git still has the person"
    told.remove("hires/zebedee.yaml")
    told.commit()
    call_cli(told)
    for name in ("hires", "validate"):
        (told.state.parent / f"{name}.cache.new").write_text("zebedee")  # a process was killed while it wrote
    assert not erased(told), "the history has it still"
    copy = told.state.with_name("state.db.schema-0004")
    copy.write_text("zebedee")
    forgotten = call_cli(told, "forget", "zebedee")
    assert (forgotten.code, forgotten.err) == (0, "")
    assert erased(told)
    assert call_cli(told, "forget", "zebedee").code == 64
    assert not copy.exists(), "it has everybody who was there before the upgrade"
    history = call_cli(told, "history", "--output", "json")
    assert "forgotten" in {line["event"] for line in history.json}
    assert call_cli(told, "status", "--output", "json").grant("ada", "tool")


def test_forget_one_of_many_who_left_with_one_commit(told: Repo, accounts: AccountService) -> None:
    """The guard remembers for its count whose accounts a commit took away."""
    told.settings(prune="revoke", max_change_percent=100)
    others = [f"h{number}" for number in range(6)]
    for stem in others:
        told.hire(stem, {"integration": "tool", "values": {"TEAM": "7"}})
    told.commit()
    assert call_cli(told).code == 0
    for stem in ("zebedee", *others):
        told.remove(f"hires/{stem}.yaml")
    told.commit()
    assert call_cli(told).code == 0
    assert list(accounts.people) == ["ada@example.com"]
    assert call_cli(told, "forget", "zebedee").code == 0
    assert erased(told)


def test_forget_is_refused_while_account_may_exist(told: Repo, accounts: AccountService) -> None:
    """Half done, and never confirmed: there can be an account, and it is not forgotten."""
    accounts.fail_next(4, 500, method="POST", prefix="/teams")
    call_cli(told)
    told.remove("hires/zebedee.yaml")
    told.commit()
    call_cli(told)
    refused = call_cli(told, "forget", "zebedee")
    assert (refused.code, refused.out) == (1, "")
    assert "revoke" in refused.err
    accounts.clear()
    assert call_cli(told, "revoke", "zebedee", "tool").code == 0
    assert "zebedee@example.com" not in accounts.people
    assert call_cli(told, "forget", "zebedee").code == 0
    assert erased(told)


def test_beside_a_daemon(told: Repo, accounts: AccountService) -> None:
    """What a daemon holds is left to it: the revocation, and then the erasing, which it judges by what it acts on."""
    told.settings(interval="1d")
    told.commit()
    with Daemon(told, env={"RECONCILE_LOG_FORMAT": "json"}) as daemon:
        eventually(lambda: told.has("zebedee", "tool", "present"))
        refused = call_cli(told, "forget", "zebedee")
        assert (refused.code, "zebedee is still in git" in refused.err) == (1, True)
        told.remove("hires/zebedee.yaml")
        told.commit()
        eventually(lambda: told.has("zebedee", "tool", "orphaned"))
        refused = call_cli(told, "forget", "zebedee")
        assert (refused.code, "still orphaned: zebedee/tool" in refused.err) == (1, True)
        revoked = call_cli(told, "revoke", "zebedee", "tool")
        assert (revoked.code, "which was asked to revoke zebedee/tool" in revoked.err) == (0, True)
        eventually(lambda: told.has("zebedee", "tool", "revoked"))
        forgotten = call_cli(told, "forget", "zebedee")
        assert (forgotten.code, "which was asked to forget zebedee" in forgotten.err) == (0, True)
        eventually(lambda: told.record("zebedee", "tool") is None)
        eventually(lambda: "person.forgotten" in daemon.log)
        eventually(lambda: erased(told))  # while the daemon has the state open, the log included
    assert "zebedee@example.com" not in accounts.people
    assert call_cli(told, "history", "--verify").code == 0


def test_forget_is_refused_while_somebody_is_locked(told: Repo, accounts: AccountService) -> None:
    """The lock follows the person by name and address, so they would still be in the state."""
    assert call_cli(told).code == 0
    assert call_cli(told, "lock", "zebedee", "--reason", "left in anger", "--delete").code == 0
    told.remove("hires/zebedee.yaml")
    told.commit()
    assert call_cli(told).code == 0
    refused = call_cli(told, "forget", "zebedee")
    assert (refused.code, refused.out, "reconcile unlock zebedee" in refused.err) == (1, "", True)
    assert call_cli(told, "unlock", "zebedee").code == 0
    assert call_cli(told, "forget", "zebedee").code == 0
    assert erased(told)
