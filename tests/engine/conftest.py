"""A machine on a repository of its own: one hire, one integration of two requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.harness import Machine
from tests.repo import Repo
from tests.servers import AccountService


@pytest.fixture
def machine(repo: Repo, accounts: AccountService) -> Machine:
    """Ada is to have `tool`: an account, then a place in team 7; it can be revoked."""
    assert repo.gnupg is not None
    repo.settings(gnupg_home=repo.gnupg.path)
    repo.manifest("tool", accounts.manifest(team=True, revoke=True))
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    return Machine(repo)


@pytest.fixture
def others() -> Iterator[AccountService]:
    """A second tool, with accounts of its own."""
    with AccountService() as running:
        yield running
