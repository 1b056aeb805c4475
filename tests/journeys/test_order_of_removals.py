"""Somebody leaves who had entries that need one another, of services with passes of their own in a daemon."""

from __future__ import annotations

from tests.repo import Daemon, Repo
from tests.servers import AccountService, eventually


def test_a_daemon_revokes_what_needs_another_entry_first(repo: Repo, accounts: AccountService) -> None:
    with AccountService() as slow:
        repo.settings(prune="revoke", interval="12h")
        repo.manifest("tool", accounts.manifest(revoke=True))
        repo.manifest("other", slow.manifest(revoke=True))
        repo.hire("ada", "tool", {"integration": "other", "needs": ["tool"]})
        repo.commit()
        with Daemon(repo):
            eventually(lambda: accounts.people and slow.people)
            slow.delay = 1.0
            repo.remove("hires/ada.yaml")
            repo.commit()
            eventually(lambda: not accounts.people and not slow.people)
        (first,), (second,) = slow.calls("DELETE"), accounts.calls("DELETE")
        assert first.at < second.at
