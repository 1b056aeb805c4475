"""A service that answers no check any more is told of once, and once more when it does again."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from tests.daemon.running import running, until
from tests.repo import Repo
from tests.servers import AccountService


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    repo.settings(gnupg_home=repo.gnupg.path if repo.gnupg else None, interval="1s")
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.hire("bob", "tool")
    repo.commit()
    return repo


def test_an_outage_is_told_when_it_begins_and_when_it_is_over(tool: Repo, accounts: AccountService) -> None:
    async def walk() -> None:
        with structlog.testing.capture_logs() as lines:
            async with running(tool) as now:
                await until(lambda: len(accounts.people) == 2)
                accounts.fail_next(None, 503, method="GET", prefix="/users")
                await until(lambda: "daemon.problem" in [line["event"] for line in lines])
                before = len(now.passes)
                await until(lambda: len(now.passes) > before + 2)
                accounts.clear()
                await until(lambda: "daemon.recovered" in [line["event"] for line in lines])
        told = [line for line in lines if line.get("about") == "checks of tool"]
        assert [line["event"] for line in told] == ["daemon.problem", "daemon.recovered"]
        assert "answered 503" in told[0]["problem"]

    asyncio.run(walk())
