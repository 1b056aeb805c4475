"""Fixtures that every room's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo import GnupgHome, Repo
from tests.servers import AccountService, Service


@pytest.fixture
def service() -> Iterator[Service]:
    """A scripted service without any routes."""
    with Service() as running:
        yield running


@pytest.fixture
def accounts() -> Iterator[AccountService]:
    """A SaaS tool with people and teams, without a token."""
    with AccountService() as running:
        yield running


@pytest.fixture(scope="session")
def gnupg_home() -> Iterator[GnupgHome]:
    """A throw-away GnuPG home with one key."""
    home = GnupgHome()
    yield home
    home.close()


@pytest.fixture
def repo(tmp_path: Path, gnupg_home: GnupgHome) -> Repo:
    """A repository with settings of its own and nothing else yet; `repo.commit()` before it is used."""
    made = Repo(tmp_path / "repo", gnupg_home)
    made.settings()
    made.write("hires/.gitkeep", "")
    made.write("manifests/.gitkeep", "")
    return made
