"""Commits that begin a sweep anew before it is over: what it suspends is judged all the same, and by one revision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from reconciler.daemon.slices import Slice
from reconciler.model.report import Report
from tests.daemon.running import Running, Turned, found_and_left, held, running, sent, until, users
from tests.repo import Repo
from tests.servers import AccountService

STEMS = [f"h{number:02}" for number in range(12)]
GONE = STEMS[8:]


@pytest.fixture
def left(repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Hires whom a sequence gives a tool; some have left since a daemon found all. Passes take two at a time."""
    repo.manifest("tool", accounts.manifest(revoke=True))
    configure(repo, 0)
    for stem in STEMS:
        repo.hire(stem, department="Research")
    repo.commit()
    accounts.add(*(f"{stem}@example.com" for stem in STEMS))
    found_and_left(repo, GONE)
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)
    monkeypatch.setattr("reconciler.daemon.schedule.LOOK_AGAIN", timedelta())
    monkeypatch.setattr("reconciler.daemon.queues.MAX_RUNNING", 1)
    monkeypatch.setattr("reconciler.daemon.loop.TICK_SECONDS", 0.02)
    return repo


def configure(repo: Repo, number: int, department: str = "Research") -> None:
    """Settings that differ from those of any other number, and to whom the sequence gives the tool."""
    repo.settings(interval="2h", prune="revoke", max_change_percent=90, max_new=100 + number)
    repo.write("config/sequences/team.yaml", {"assign": {"department": [department]}, "access": ["tool"]})


Parts = Callable[[frozenset[str]], Awaitable[None]]
"""Called with the hires of a part of a sweep, once it is made and before that is known."""


def after_each_part(now: Running, monkeypatch: pytest.MonkeyPatch, act: Parts) -> None:
    reconcile = now.daemon._dispatcher._pass

    async def delayed(item: Slice) -> Report:
        report = await reconcile(item)
        if item.sweeps:
            await act(item.request.selection.hires or frozenset())
        return report

    monkeypatch.setattr(now.daemon._dispatcher, "_pass", delayed)


async def commit(repo: Repo, now: Running) -> None:
    """Commit, and wait until the daemon acts on it."""
    revision = repo.commit()
    await until(lambda: now.daemon.tree and now.daemon.tree.revision == revision)


def test_leavers_go_where_every_sweep_is_begun_anew(
    left: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, commits = Turned(), 0

    async def swept() -> None:
        async with running(left, clock) as now:

            async def begin_anew(hires: frozenset[str]) -> None:
                nonlocal commits
                if GONE[-1] in hires and not sent(accounts, "DELETE"):
                    commits += 1
                    configure(left, commits)
                    clock.turn(hours=1)
                    await commit(left, now)

            after_each_part(now, monkeypatch, begin_anew)
            await until(lambda: sent(accounts, "DELETE") == users(GONE))

    asyncio.run(swept())
    assert commits > 1


def test_what_a_later_commit_takes_away_waits_for_a_count_of_its_own(
    left: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part of it that a sweep under way has come across is within the limits, and all of it is not."""
    clock, commits = Turned(), 0

    async def swept() -> None:
        async with running(left, clock) as now:

            async def begin_anew(hires: frozenset[str]) -> None:
                nonlocal commits
                if GONE[-1] in hires and not commits:
                    commits += 1
                    configure(left, commits)
                    await commit(left, now)
                    clock.turn(hours=3)
                elif STEMS[5] in hires and commits == 1:
                    commits += 1
                    configure(left, commits, "nobody's department")
                    await commit(left, now)

            after_each_part(now, monkeypatch, begin_anew)
            await until(
                lambda: held(now).keys() == {*STEMS} - {*GONE} and all("%" in why for why in held(now).values())
            )
            assert sent(accounts, "DELETE") == users(GONE)

    asyncio.run(swept())
