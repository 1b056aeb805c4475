"""A person who left is erased: from the ledger, its history, what alerts remember, from every byte of the state."""

from __future__ import annotations

import pytest

from tests.repo import Repo, run_cli
from tests.servers import AccountService, Reply, Service


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
    return all(b"zebedee" not in file.read_bytes().lower() for file in repo.state.parent.iterdir())


def test_one_for_whom_nothing_was_ever_made(told: Repo, accounts: AccountService, service: Service) -> None:
    accounts.fail_next(4, 500, method="POST")
    for _ in range(2):
        assert run_cli(told).code == 1
    assert any(b"zebedee" in call.body for call in service.calls("POST"))
    assert run_cli(told, "forget", "zebedee").code == 1, "git still has the person"
    told.remove("hires/zebedee.yaml")
    told.commit()
    run_cli(told)
    assert not erased(told), "the history has it still"
    forgotten = run_cli(told, "forget", "zebedee")
    assert (forgotten.code, forgotten.err) == (0, "")
    assert erased(told)
    assert run_cli(told, "forget", "zebedee").code == 64
    history = run_cli(told, "history", "--output", "json")
    assert "forgotten" in {line["event"] for line in history.json}
    assert run_cli(told, "status", "--output", "json").grant("ada", "tool")


def test_one_who_may_still_have_an_account(told: Repo, accounts: AccountService) -> None:
    """Half done, and never confirmed: there can be an account, and it is not forgotten."""
    accounts.fail_next(4, 500, method="POST", prefix="/teams")
    run_cli(told)
    told.remove("hires/zebedee.yaml")
    told.commit()
    run_cli(told)
    refused = run_cli(told, "forget", "zebedee")
    assert (refused.code, refused.out) == (1, "")
    assert "revoke" in refused.err
    accounts.clear()
    assert run_cli(told, "revoke", "zebedee", "tool").code == 0
    assert "zebedee@example.com" not in accounts.people
    assert run_cli(told, "forget", "zebedee").code == 0
    assert erased(told)
