"""Sweeps over more hires than one pass takes, and the cycle that each begins."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.daemon.slices import Lane, Slice
from reconciler.engine.apply.commands import enqueue_release
from reconciler.model.errors import LedgerError
from reconciler.model.report import Report
from reconciler.model.selection import Selection
from reconciler.model.status import EventType
from reconciler.review.unmanaged import AccountKind, ComparedListing
from tests.daemon.running import Running, Turned, found_and_left, held, peopled, running, sent, until, users
from tests.ledgers import inside
from tests.repo import Repo
from tests.servers import AccountService

STEMS = [f"h{number}" for number in range(12)]
GONE = STEMS[4:]
NEW = [f"n{number}" for number in range(7)]


@pytest.fixture
def left(request: pytest.FixtureRequest, repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Hires of whom git has only the first ones left, since a daemon found all of them; passes take two at a time."""
    repo.settings(interval="1d", prune="revoke", max_change_percent=getattr(request, "param", 25))
    peopled(repo, accounts, len(STEMS))
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.commit()
    found_and_left(repo, GONE)
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)
    monkeypatch.setattr("reconciler.daemon.slices.MAX_RUNNING", 1)
    monkeypatch.setattr("reconciler.daemon.loop.TICK_SECONDS", 0.05)
    return repo


@pytest.mark.parametrize("at_a_time", [1, 5, 100])
def test_sweep_covers_all_hires_that_git_or_the_ledger_has_once(
    left: Repo, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr("reconciler.daemon.schedule.NAMES_AT_A_TIME", at_a_time)

    async def swept() -> list[str]:
        async with running(left) as now:
            await until(lambda: sum(len(report.rows) for _, report in now.passes) >= len(STEMS))
            assert {why for why, _ in now.passes} == {"start"}
            return [row.hire for _, report in now.passes for row in report.rows][: len(STEMS)]

    assert Counter(asyncio.run(swept())) == Counter(STEMS)


def test_everybody_is_looked_at_once_an_interval_a_slice_at_a_time(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.daemon.schedule.MIN_SLICES", 2)
    monkeypatch.setattr("reconciler.daemon.loop.TICK_SECONDS", 0.02)
    repo.settings(interval="2h")
    stems = peopled(repo, accounts, 12)

    async def looked_at() -> list[set[str]]:
        clock, found = Turned(), list[set[str]]()
        async with running(repo, clock) as now:
            await until(lambda: now.passes)
            now.passes.clear()
            accounts.requests.clear()
            for number in range(4):
                clock.turn(hours=1)
                await until(lambda: len(now.passes) > number)  # noqa: B023
                found.append({row.hire for row in now.passes[number][1].rows})
            await now.a_tick()
            assert [why for why, _ in now.passes] == ["interval"] * 4
        return found

    first, second, *again = asyncio.run(looked_at())
    assert first
    assert second
    assert sorted([*first, *second]) == sorted(stems)
    assert again == [first, second]
    assert sorted(accounts.lines()) == sorted(f"GET {path}" for path in users(stems) * 2)


def test_file_that_no_attempt_names_is_erased_while_the_daemon_runs(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that began anew, or one that saved another file under the same name, left it behind."""
    monkeypatch.setattr("reconciler.daemon.schedule.MIN_SLICES", 1)
    monkeypatch.setattr("reconciler.daemon.loop.TICK_SECONDS", 0.02)
    peopled(repo, accounts, 1)

    async def erased() -> None:
        clock = Turned()
        async with running(repo, clock) as now:
            await until(lambda: now.passes)
            sealed = inside(now.state.ledger).sealed
            young = now.state.vault.keep(inside(now.state.ledger), b"an answer")
            sealed.put("files/0000000001", b"older")
            clock.turn(hours=1)
            await until(lambda: sealed.names("files/") == [f"files/{young}"])

    asyncio.run(erased())


def noted(now: Running) -> list[str]:
    """What the history says of the guard, the oldest first."""
    lines = sorted(inside(now.state.ledger).history.lines(), key=lambda line: line.at)
    return [line.event for line in lines if line.event in (EventType.HELD, EventType.RELEASED)]


def test_guard_counts_all_that_a_sweep_takes_away_before_it_takes_any(
    left: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first parts alone would be let through.

    Here the ledger cannot be read meanwhile: what is left of the sweep is queued once it can.
    """
    monkeypatch.setattr("reconciler.daemon.schedule.NAMES_AT_A_TIME", 2)
    monkeypatch.setattr("reconciler.daemon.schedule.AGAIN_SECONDS", 0.01)

    async def swept() -> None:
        async with running(left) as now:
            read = inside(now.state.ledger).grants.hires_after

            def locked(hire: str, at_most: int) -> list[str]:
                if hire == "h5" and len(now.passes) < 4:
                    raise LedgerError("the ledger is locked")
                return read(hire, at_most)

            monkeypatch.setattr(inside(now.state.ledger).grants, "hires_after", locked)
            await until(lambda: held(now).keys() == {*GONE} and all("(8/12)" in why for why in held(now).values()))
            assert sent(accounts, "DELETE") == []
            enqueue_release(inside(now.state.ledger), Selection(), datetime.now(UTC), by="ida@here")
            await until(lambda: sent(accounts, "DELETE") == users(GONE))
            await until(lambda: noted(now) == ["held", "released"])

    asyncio.run(swept())


def test_guard_counts_a_sweep_that_begins_before_another_has_ended(
    left: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts of the first that are left act on the newer commit: alone, what they count would be let through."""
    left.settings(interval="1d", prune="revoke", max_change_percent=50)
    for stem in GONE:
        left.hire(stem, "tool")
    left.commit()

    async def swept() -> None:
        async with running(left) as now:
            reconcile, commits = now.daemon._dispatcher._pass, list[str]()

            def all_held() -> bool:
                return held(now).keys() == {*GONE} and all("(8/12)" in why for why in held(now).values())

            async def delayed(item: Slice) -> Report:
                if "h5" in (item.request.selection.hires or ()) and not commits:
                    for stem in GONE:
                        left.remove(f"hires/{stem}.yaml")
                    commits.append(left.commit())
                    await until(lambda: now.active.acted_on == commits[0])
                elif item.request.why == "commit" and not all_held():
                    await now.a_tick()
                return await reconcile(item)

            monkeypatch.setattr(now.daemon._dispatcher, "_pass", delayed)
            await until(all_held)
            await now.a_tick()  # a pass may wait for it, and the daemon for that pass

    asyncio.run(swept())
    assert sent(accounts, "DELETE") == []


@pytest.mark.parametrize("hires_of_a_pass", [8, 100])
def test_guard_counts_a_changed_manifest_as_a_whole_beside_changed_hires(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch, hires_of_a_pass: int
) -> None:
    """A pass over the hires that the same commit changes would be within the limit alone."""
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", hires_of_a_pass)
    stems = peopled(repo, accounts, 40)

    async def committed() -> None:
        async with running(repo) as now:
            await until(lambda: sum(len(report.rows) for _, report in now.passes) >= len(stems))
            manifest = accounts.manifest()
            manifest["exists"]["expected"] = "nobody has this text"
            repo.manifest("tool", manifest)
            for stem in stems[:8]:
                repo.hire(stem, "tool", position="Engineer")
            repo.commit()
            await until(lambda: held(now).keys() == {*stems} and all("/40)" in why for why in held(now).values()))

    asyncio.run(committed())
    assert sent(accounts, "POST") == []


def test_what_a_commit_takes_away_beside_a_sweep_waits_for_its_count(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it makes does not: somebody waits for it."""
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 8)
    stems = peopled(repo, accounts, 40)

    async def committed() -> None:
        async with running(repo) as now:
            await until(lambda: sum(len(report.rows) for _, report in now.passes) >= len(stems))
            reconcile, beside = now.daemon._dispatcher._pass, list[Report]()

            async def delayed(item: Slice) -> Report:
                if item.lane is not Lane.NOW:
                    await until(lambda: beside)
                report = await reconcile(item)
                if item.lane is Lane.NOW:
                    beside.append(report)
                return report

            monkeypatch.setattr(now.daemon._dispatcher, "_pass", delayed)
            manifest = accounts.manifest()
            manifest["exists"]["expected"] = "nobody has this text"
            repo.manifest("tool", manifest)
            revision = repo.commit()
            await until(lambda: now.active.acted_on == revision)
            await until(lambda: not now.daemon._schedule._queueing)
            for stem in (*stems[:7], "new"):
                repo.hire(stem, "tool", position="Engineer")
            repo.commit()
            await until(lambda: held(now).keys() >= {*stems} and all("/40)" in why for why in held(now).values()))

    asyncio.run(committed())
    assert [request.json()["email"] for request in accounts.requests if request.method == "POST"] == ["new@example.com"]


def test_history_says_at_once_that_a_revert_ends_the_hold(left: Repo, accounts: AccountService) -> None:
    async def reverted() -> None:
        async with running(left) as now:
            await until(lambda: noted(now) == ["held"])
            for stem in GONE:
                left.hire(stem, "tool")
            left.commit()
            await until(lambda: noted(now) == ["held", "released"])

    asyncio.run(reverted())
    assert sent(accounts, "DELETE") == []


@pytest.mark.parametrize("left", [70], indirect=True)
def test_what_a_revision_takes_away_within_the_limit_goes_with_the_first_pass_that_meets_it(
    left: Repo, accounts: AccountService
) -> None:
    async def swept() -> None:
        async with running(left) as now:
            await until(lambda: sent(accounts, "DELETE") == users(GONE))
            await now.a_tick()
            assert held(now) == {}
            assert {why for why, report in now.passes if report.revoked} == {"start"}

    asyncio.run(swept())


@pytest.mark.parametrize("most", [len(NEW), len(NEW) - 1])
def test_guard_counts_all_that_a_sweep_makes_before_it_makes_any(
    left: Repo, accounts: AccountService, most: int
) -> None:
    left.settings(interval="1d", prune="report", max_new=most)
    for stem in NEW:
        left.hire(stem, "tool")
    left.commit()

    async def swept() -> None:
        async with running(left) as now:
            if most == len(NEW):
                await until(lambda: sum(report.executed for _, report in now.passes) == len(NEW))
                assert held(now) == {}
            else:
                await until(lambda: all("max_new" in held(now).get(stem, "") for stem in NEW))

    asyncio.run(swept())
    assert len(sent(accounts, "POST")) == (most if most == len(NEW) else 0)


def test_end_of_a_sweep_waits_for_a_part_that_failed(
    left: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.daemon.slices.FIRST_RETRY", timedelta())
    left.settings(interval="1d", prune="revoke", max_change_percent=50)
    left.commit()

    async def swept() -> None:
        async with running(left) as now:
            reconcile, failures = now.daemon._dispatcher._pass, 0

            async def failing(item: Slice) -> Report:
                nonlocal failures
                if "h6" in (item.request.selection.hires or ()) and failures < 2:
                    failures += 1
                    raise LedgerError("the ledger is locked")
                return await reconcile(item)

            monkeypatch.setattr(now.daemon._dispatcher, "_pass", failing)
            await until(lambda: held(now).keys() == {*GONE} and all("(8/12)" in why for why in held(now).values()))
            assert failures == 2

    asyncio.run(swept())
    assert sent(accounts, "DELETE") == []


@pytest.mark.parametrize("percent", [99, 100])
def test_more_than_a_few_that_a_full_resync_finds_gone_wait_until_all_are_counted(
    repo: Repo, accounts: AccountService, percent: int
) -> None:
    """A service that says for a while that nobody is there must not have a quarter of all people invited again."""
    repo.settings(interval="1h", max_change_percent=percent)
    stems = peopled(repo, accounts, 12)
    clock = Turned()

    async def resynced() -> None:
        async with running(repo, clock) as now:
            await until(lambda: now.passes)
            accounts.people.clear()
            clock.pace = timedelta(seconds=20)  # a slice a minute
            if percent < 100:
                await until(lambda: "(12/12)" in held(now).get(stems[-1], ""))
            else:
                await until(lambda: len(sent(accounts, "POST")) == len(stems) and not held(now))

    asyncio.run(resynced())
    made = Counter(request.json()["email"] for request in accounts.requests if request.method == "POST")
    assert set(made.values()) == {1}
    assert len(made) == (5 if percent < 100 else len(stems))


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
