"""Sweeps over more hires than one pass takes, and the cycle that each begins."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from reconciler.model.errors import LedgerError
from reconciler.review.unmanaged import AccountKind, ComparedListing
from tests.daemon.running import peopled, running, until
from tests.repo import Repo
from tests.servers import AccountService

STEMS = [f"h{number}" for number in range(12)]
GONE = STEMS[4:]


@pytest.fixture
def left(repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Hires of whom git has only the first ones left, since a daemon found all of them; passes take two at a time."""
    repo.settings(interval="1d", prune="revoke")
    peopled(repo, accounts, len(STEMS))
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.commit()

    async def find() -> None:
        async with running(repo) as now:
            await until(lambda: now.passes)

    asyncio.run(find())
    for stem in GONE:
        repo.remove(f"hires/{stem}.yaml")
    repo.commit()
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)
    monkeypatch.setattr("reconciler.daemon.queues.MAX_RUNNING", 1)
    return repo


@pytest.mark.parametrize("at_a_time", [1, 5, 100])
def test_sweep_covers_all_hires_that_git_or_the_ledger_has_once(
    left: Repo, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr("reconciler.daemon.schedule.AT_A_TIME", at_a_time)

    async def swept() -> list[str]:
        async with running(left) as now:
            await until(lambda: sum(len(report.rows) for _, report in now.passes) >= len(STEMS))
            assert {why for why, _ in now.passes} == {"start"}
            return [row.hire for _, report in now.passes for row in report.rows]

    assert Counter(asyncio.run(swept())) == Counter(STEMS)


def test_guard_counts_all_that_a_sweep_takes_away(
    left: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cycle that a sweep begins does not have it count anew, even if half of the sweep was made by then.

    Here the ledger cannot be read meanwhile: what is left of the sweep is queued once it can.
    """
    monkeypatch.setattr("reconciler.daemon.schedule.AT_A_TIME", 2)
    monkeypatch.setattr("reconciler.daemon.schedule.AGAIN_SECONDS", 0.01)

    async def swept() -> set[str]:
        async with running(left) as now:
            read = now.state.ledger.hires_after

            def locked(hire: str, at_most: int) -> list[str]:
                if hire == "h5" and len(now.passes) < 4:
                    raise LedgerError("the ledger is locked")
                return read(hire, at_most)

            monkeypatch.setattr(now.state.ledger, "hires_after", locked)
            await until(lambda: sum(len(report.rows) for _, report in now.passes) >= len(STEMS))
            return {row.hire for _, report in now.passes for row in report.rows if row.guarded}

    assert asyncio.run(swept()) == set(GONE[2:6])
    revoked = {request.path for request in accounts.requests if request.method == "DELETE"}
    assert len(revoked) == 4


def test_survey_of_the_cycle_that_a_sweep_begins_knows_all_hires(left: Repo, accounts: AccountService) -> None:
    left.settings(interval="1d")
    left.manifest("tool", accounts.manifest(listing=True))
    left.commit()

    async def surveyed() -> ComparedListing:
        async with running(left) as now:
            await until(lambda: now.daemon.survey.found)
            return now.daemon.survey.found["tool"]

    found = asyncio.run(surveyed())
    assert (found.listed, found.matched, found.of(AccountKind.ORPHANED)) == (len(STEMS), 4, len(GONE))
