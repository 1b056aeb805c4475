"""When hooks last came, and that one is missed which used to come: of a git server, and of a service."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.daemon.hooked import HookLog, hooks_of
from reconciler.daemon.runtime import ProblemLog
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.writer import LedgerWriter
from tests.daemon.running import Turned, running, until
from tests.engine.harness import Hands
from tests.repo import Repo, call_cli
from tests.servers import AccountService

EVENTS = {"token": {"header": "X-Token", "value": "{{HOOK_SECRET}}"}, "account": "email"}


def hooks(repo: Repo) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call_cli(repo, "status", "--output", "json").json["hooks"]
    return found


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerWriter]:
    with closing(StateLocation("sqlite:///state.db", tmp_path).writer()) as made:
        yield made


@pytest.mark.parametrize(
    ("came_before", "comes_after", "missed"),
    [
        pytest.param(300, None, True, id="used to come"),
        pytest.param(60, None, False, id="came in the time in which it happened"),
        pytest.param(300, 30, False, id="comes a little later"),
        pytest.param(None, None, False, id="never came"),
    ],
)
def test_what_is_found_without_a_hook(
    ledger: LedgerWriter, came_before: int | None, comes_after: int | None, missed: bool
) -> None:
    async def walk() -> None:
        clock = Hands()
        log = HookLog(OpenLedger(ledger), clock, ProblemLog())
        if came_before is not None:
            await log.came("git")
            clock.turn(seconds=came_before)
        found_at = clock.now()
        log.found_without("git", found_at - timedelta(minutes=2))
        if comes_after is not None:
            clock.turn(seconds=comes_after)
            await log.judge()
            await log.came("git")
        clock.turn(seconds=61)
        await log.judge()
        known = [each.missed_at for each in hooks_of(ledger)]
        assert known == ([] if came_before is None else [found_at if missed else None])
        clock.turn(minutes=5)
        await log.judge()
        await HookLog(OpenLedger(ledger), clock, ProblemLog()).came("git")  # at another member
        clock.turn(minutes=5)
        await log.judge()
        assert [each.missed_at for each in hooks_of(ledger)] == [None]

    asyncio.run(walk())


def test_a_commit_that_nobody_told_of_is_noted_where_pushes_used_to_be_told(
    repo: Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo.settings(interval="1d", git={"fetch": "1s"})
    repo.hire("ada")
    repo.commit()
    bare = tmp_path / "remote.git"
    repo.git("clone", "--quiet", "--bare", ".", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    subprocess.run(["git", "clone", "--quiet", str(bare), str(tmp_path / "clone")], check=True)
    theirs = Repo(tmp_path / "clone")

    async def walk() -> None:
        clock = Turned(timedelta(seconds=0.1))
        async with running(repo, clock) as now:
            await until(lambda: now.daemon.runtime.freshness.fetched_at)
            assert hooks(repo) == []
            now.daemon.pushed()
            await until(lambda: [(each["hook"], each["missed_at"]) for each in hooks(repo)] == [("git", None)])
            await until(lambda: now.daemon.fetching.told_of and not now.daemon.fetching.under_way)
            clock.turn(minutes=3)
            theirs.hire("bob")
            head = theirs.commit()
            theirs.git("push", "--quiet", "origin", "HEAD:main")
            await until(lambda: now.active.acted_on == head)
            clock.turn(minutes=2)
            await until(lambda: hooks(repo)[0]["missed_at"])
            now.daemon.pushed()
            await until(lambda: hooks(repo)[0]["missed_at"] is None)

    asyncio.run(walk())
    assert "a commit was found without one" in capsys.readouterr().out


def test_an_account_that_is_gone_and_of_which_no_event_told(repo: Repo, accounts: AccountService) -> None:
    repo.settings(interval="1m", drift="report")
    repo.manifest("tool", {**accounts.manifest(), "events": EVENTS})
    repo.manifest("quiet", accounts.manifest())
    repo.hire("ada", "tool", "quiet")
    repo.commit()
    accounts.add("ada@example.com")

    async def walk() -> None:
        clock = Turned(timedelta(seconds=0.1))
        async with running(repo, clock) as now:
            await until(lambda: now.passes)
            now.daemon.told("tool", "ada@example.com")
            await until(lambda: [each["hook"] for each in hooks(repo)] == ["tool"])
            await until(lambda: any(why == "event" for why, _ in now.passes))
            clock.turn(minutes=5)
            accounts.people.clear()
            await until(lambda: repo.has("ada", "tool", "missing") and repo.has("ada", "quiet", "missing"))
            clock.turn(minutes=2)
            await until(lambda: hooks(repo)[0]["missed_at"])
            assert "an account that is gone was found without one" in call_cli(repo, "status").err
            now.daemon.told("tool", "ada@example.com")
            await until(lambda: hooks(repo)[0]["missed_at"] is None)

    asyncio.run(walk())
