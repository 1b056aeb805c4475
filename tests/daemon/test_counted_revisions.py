"""A revision is counted as it is taken over: nothing of too much is done, whatever pass meets a part of it first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from reconciler.daemon.slices import Lane, Slice
from reconciler.model.report import Report
from tests.daemon.running import Turned, found_and_left, held, peopled, running, sent, until, users
from tests.repo import Repo, run_cli, running_cli
from tests.servers import AccountService, Received, Reply, eventually

STEMS = [f"h{number}" for number in range(12)]
GONE = STEMS[:8]


class Busy(AccountService):
    """A service that answers checks for a few people at a time."""

    def __init__(self) -> None:
        self.answers = frozenset[str]()
        super().__init__()

    def handle(self, received: Received) -> Reply:
        stem = received.path.rpartition("/")[2].partition("@")[0]
        if received.method == "GET" and self.answers and stem not in self.answers:
            return Reply(503, {"error": "too many requests"})
        return super().handle(received)


@pytest.fixture
def busy() -> Iterator[Busy]:
    with Busy() as service:
        yield service


def found(repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    """Twelve people, found by a daemon; from now on passes take two at a time."""
    repo.settings(interval="1h", prune="revoke", **settings)
    peopled(repo, accounts, len(STEMS))
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.commit()
    found_and_left(repo, ())
    monkeypatch.setattr("reconciler.daemon.loop.TICK_SECONDS", 0.02)


def leave(repo: Repo, *stems: str) -> str:
    for stem in stems:
        repo.remove(f"hires/{stem}.yaml")
    return repo.commit()


def join(repo: Repo, *stems: str) -> str:
    for stem in stems:
        repo.hire(stem, "tool", "more")
    return repo.commit()


def test_none_is_revoked_while_a_service_answers_for_a_few_at_a_time(
    repo: Repo, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(repo, busy, monkeypatch)
    leave(repo, *GONE)
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)

    async def run() -> None:
        clock = Turned()
        busy.answers = frozenset(GONE[:4])
        async with running(repo, clock) as now:
            await until(lambda: set(GONE[:4]) <= held(now).keys())
            busy.answers = frozenset(GONE[4:])
            clock.pace = timedelta(seconds=30)
            await until(lambda: held(now).keys() == {*GONE} and all("(8/12)" in why for why in held(now).values()))

    asyncio.run(run())
    assert sent(busy, "DELETE") == []


def test_slices_of_the_interval_revoke_none_before_a_commit_was_counted(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass that the commit begins is late; slices come across those who leave, a few at a time."""
    found(repo, accounts, monkeypatch)

    async def run() -> None:
        clock = Turned()
        async with running(repo, clock) as now:
            await until(lambda: now.passes)
            make, sliced = now.daemon._dispatcher._pass, asyncio.Event()

            async def late(item: Slice) -> Report:
                if item.lane is Lane.NOW:
                    await sliced.wait()
                return await make(item)

            monkeypatch.setattr(now.daemon._dispatcher, "_pass", late)
            revision = leave(repo, *GONE)
            await until(lambda: now.active.acted_on == revision)
            clock.pace = timedelta(seconds=60)
            await until(lambda: set(GONE) <= held(now).keys())
            assert sent(accounts, "DELETE") == []
            sliced.set()

    asyncio.run(run())
    assert sent(accounts, "DELETE") == []


def test_commits_in_quick_succession_add_up(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five of twelve may go, and eight may not; nor where the first five have gone when the others leave."""
    found(repo, accounts, monkeypatch, max_change_percent=50)

    async def run() -> None:
        async with running(repo) as now:
            await until(lambda: now.passes)
            leave(repo, *GONE[:5])
            leave(repo, *GONE[5:])
            await until(lambda: held(now).keys() >= {*GONE[5:]})

    asyncio.run(run())
    assert set(sent(accounts, "DELETE")) <= {*users(GONE[:5])}


@pytest.mark.parametrize("restarted", [False, True])
def test_commits_add_up_where_a_sweep_over_everybody_comes_between(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """The second commit changes the settings, too, or the daemon is started anew: that sweep has not ended yet."""
    found(repo, accounts, monkeypatch, max_change_percent=50)

    def leave_more() -> None:
        repo.settings(interval="1h", prune="revoke", max_change_percent=50, fail_stale="16m")
        leave(repo, *GONE[5:])

    async def run() -> None:
        async with running(repo) as now:
            await until(lambda: now.passes)
            leave(repo, *GONE[:5])
            await until(lambda: sent(accounts, "DELETE") == users(GONE[:5]))
            if not restarted:
                leave_more()
                await until(lambda: held(now).keys() == {*GONE[5:]})

    async def run_again() -> None:
        leave_more()
        async with running(repo) as now:
            await until(lambda: held(now).keys() == {*GONE[5:]})

    asyncio.run(run())
    if restarted:
        asyncio.run(run_again())
    assert sent(accounts, "DELETE") == users(GONE[:5])


def test_a_limit_that_is_raised_by_the_commit_that_empties_a_folder_does_not_count(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(repo, accounts, monkeypatch)

    async def run() -> None:
        async with running(repo) as now:
            await until(lambda: now.passes)
            repo.settings(interval="1h", prune="revoke", max_change_percent=100)
            leave(repo, *GONE)
            await until(lambda: held(now).keys() == {*GONE})
            assert sent(accounts, "DELETE") == []
            repo.settings(interval="1h", prune="revoke", max_change_percent=90)
            repo.commit()
            await until(lambda: sent(accounts, "DELETE") == users(GONE))

    asyncio.run(run())


def test_none_of_many_new_ones_is_made_before_all_were_checked(
    repo: Repo, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most are there already; what is missing is judged as a whole. Nothing waits for those who are not asked for."""
    found(repo, busy, monkeypatch, max_new=3, suspend=[{"hire": "off", "until": "2099-01-01", "reason": "leave"}])
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)
    new = [f"n{number}" for number in range(8)]
    busy.add(*(f"{stem}@example.com" for stem in new[3:]))
    for stem in new:
        repo.hire(stem, "tool")
    repo.hire("off", "tool")
    repo.hire("later", "tool", start_date="2099-01-01")
    repo.hire("needs", {"integration": "tool", "needs": ["other"]}, {"integration": "other"})
    repo.hire("over", {"integration": "tool", "until": "2020-01-01"})
    repo.manifest("other", {**busy.manifest(), "headers": {"X-Key": "{{NOWHERE}}"}})
    repo.commit()
    busy.answers = frozenset({*STEMS, *new[:5]})

    async def run() -> None:
        clock = Turned()
        async with running(repo, clock) as now:
            await until(lambda: {*new[:3]} <= held(now).keys())
            assert sent(busy, "POST") == []
            busy.answers = frozenset()
            clock.pace = timedelta(seconds=30)
            await until(lambda: len(sent(busy, "POST")) == 3)

    asyncio.run(run())


def second_account(repo: Repo, busy: Busy) -> None:
    """A manifest by which everybody may have a second account, told by its address."""
    exists = {"url": f"{busy.url}/users/2-{{{{email}}}}", "expected": "2-{{email}}"}
    execute = [{"url": f"{busy.url}/users", "data": {"email": "2-{{email}}"}}]
    repo.manifest("more", {"exists": {**exists, "fail_when_4xx_response_code": False}, "execute": execute})


def test_none_of_many_new_ones_that_need_what_is_there_is_made_before_all_were_checked(
    repo: Repo, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(repo, busy, monkeypatch, max_new=3)
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)
    second_account(repo, busy)
    for stem in GONE:
        repo.hire(stem, "tool", {"integration": "more", "needs": ["tool"]})
    repo.commit()
    busy.answers = frozenset({*STEMS, *(f"2-{stem}" for stem in GONE[:2])})

    async def run() -> None:
        async with running(repo) as now:
            await until(lambda: {*GONE[:2]} <= held(now).keys())

    asyncio.run(run())
    assert sent(busy, "POST") == []


def test_none_of_many_whose_day_comes_is_made_before_all_were_checked(
    repo: Repo, busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(repo, busy, monkeypatch, max_new=3)
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)
    second_account(repo, busy)
    clock = Turned()
    tomorrow = (clock.now() + timedelta(days=1)).date().isoformat()
    for stem in GONE:
        repo.hire(stem, "tool", {"integration": "more", "at": tomorrow})
    repo.commit()

    async def run() -> None:
        async with running(repo, clock) as now:
            await until(lambda: all(repo.has(stem, "more", "scheduled") for stem in GONE))
            busy.answers = frozenset({*STEMS, *(f"2-{stem}" for stem in GONE[:2])})
            clock.turn(days=1)
            clock.pace = timedelta(seconds=60)
            await until(lambda: {*GONE[:2]} <= held(now).keys())
            busy.answers = frozenset()
            await until(lambda: held(now).keys() == {*GONE} and all("max_new" in why for why in held(now).values()))

    asyncio.run(run())
    assert sent(busy, "POST") == []


def test_no_former_account_goes_before_others_may_come_in_their_place(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(repo, accounts, monkeypatch, max_new=3, max_change_percent=100)
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)
    one = f"{accounts.url}/users/{{{{LOGIN}}}}"
    by_login = {
        "exists": {"url": one, "expected": "{{LOGIN}}", "fail_when_4xx_response_code": False},
        "execute": [{"url": f"{accounts.url}/users", "data": {"email": "{{LOGIN}}"}}],
        "revoke": [{"url": one, "method": "DELETE"}],
    }
    repo.manifest("tool", by_login)
    for stem in STEMS:
        repo.hire(stem, "tool", extra={"LOGIN": f"{stem}@example.com"})
    repo.commit()
    assert run_cli(repo).code == 0
    for stem in GONE:
        repo.hire(stem, "tool", extra={"LOGIN": f"new-{stem}"})
    repo.commit()

    async def run() -> None:
        async with running(repo) as now:
            await until(lambda: {stem for stem, why in held(now).items() if "max_new is 3" in why} == {*GONE})

    asyncio.run(run())
    assert (sent(accounts, "POST"), sent(accounts, "DELETE")) == ([], [])


@pytest.mark.parametrize("again", [False, True])
def test_none_of_many_is_updated_before_all_were_checked(
    repo: Repo, busy: Busy, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    """Nor where a commit before was about as many of the same accounts."""
    found(repo, busy, monkeypatch, max_new=5 if again else 50)
    manifest = busy.manifest()
    manifest["exists"]["where"] = title = {"title": "{{position}}"}
    manifest["update"] = [{"url": manifest["exists"]["url"], "method": "PATCH", "data": title}]
    repo.manifest("tool", manifest)
    for stem in STEMS:
        repo.hire(stem, "tool", position="Engineer")
        busy.people[f"{stem}@example.com"]["title"] = "Engineer"
    repo.commit()
    assert run_cli(repo).code == 0
    for stem in STEMS:
        repo.hire(stem, "tool", position="Lead")
    repo.settings(interval="1h", prune="revoke", max_new=5)
    repo.commit()
    busy.answers = frozenset(STEMS[:4])
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)

    async def run() -> None:
        clock = Turned()
        async with running(repo, clock) as now:
            await until(lambda: {*STEMS[:4]} <= held(now).keys())
            busy.answers = frozenset()
            clock.pace = timedelta(seconds=30)
            await until(lambda: held(now).keys() == {*STEMS} and all("max_new" in why for why in held(now).values()))

    asyncio.run(run())
    assert sent(busy, "PATCH") == []


@pytest.mark.parametrize("joins", [False, True])
def test_release_lets_through_what_was_held_then_and_no_later_commit(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch, *, joins: bool
) -> None:
    """The pass that somebody asked for is late: meanwhile a commit empties the folder, or gives all others more."""
    exists = {"url": f"{accounts.url}/users/2-{{{{email}}}}", "expected": "2-{{email}}"}
    execute = [{"url": f"{accounts.url}/users", "data": {"email": "2-{{email}}"}}]
    repo.manifest("more", {"exists": {**exists, "fail_when_4xx_response_code": False}, "execute": execute})
    found(repo, accounts, monkeypatch, max_new=5)
    repo.write("hires/.gitkeep", "")
    first, others = STEMS[:6], STEMS[6:]
    change = join if joins else leave

    def done() -> list[str]:
        made = users(address.removeprefix("2-").removesuffix("@example.com") for address in accounts.created)
        return made if joins else sent(accounts, "DELETE")

    async def run() -> None:
        async with running(repo) as now:
            await until(lambda: now.passes)
            change(repo, *first)
            await until(lambda: held(now).keys() == {*first})
            make, counted = now.daemon._dispatcher._pass, asyncio.Event()

            async def late(item: Slice) -> Report:
                if item.request.released:
                    await counted.wait()
                return await make(item)

            monkeypatch.setattr(now.daemon._dispatcher, "_pass", late)
            assert (await asyncio.to_thread(run_cli, repo, "--yes-really")).code == 0
            revision = change(repo, *others)
            await until(lambda: now.active.acted_on == revision)
            counted.set()
            await until(lambda: any(why == "released" for why, _ in now.passes) and len(done()) >= len(first))
            await until(lambda: held(now).keys() == {*others})

    asyncio.run(run())
    assert done() == users(first)
    assert run_cli(repo, "--yes-really").code == 0
    assert done() == users(STEMS)


def test_release_that_waits_for_the_next_pass_lets_no_later_commit_through(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(repo, accounts, monkeypatch)
    repo.write("hires/.gitkeep", "")
    first, others = STEMS[:6], STEMS[6:]
    leave(repo, *first)
    assert run_cli(repo).code == 1
    asked, _ = len(accounts.requests), accounts.hang()
    with running_cli(repo):  # it has the state until it is killed
        eventually(lambda: len(accounts.requests) > asked)
        assert "handed over" in run_cli(repo, "--yes-really").out
    leave(repo, *others)
    assert run_cli(repo).code == 1
    assert sent(accounts, "DELETE") == users(first)


def test_accounts_that_are_only_found_to_be_former_ones_wait_until_all_were_checked(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit gives eight of twelve another address, and each has an account there, too: that, git does not know."""
    found(repo, accounts, monkeypatch, max_change_percent=60)
    monkeypatch.setattr("reconciler.daemon.schedule.MAX_HIRES", 2)
    for stem in GONE:
        repo.hire(stem, "tool", email=f"{stem}@example.org")
        accounts.add(f"{stem}@example.org")
    repo.commit()

    async def run() -> None:
        clock = Turned()
        async with running(repo, clock) as now:
            clock.pace = timedelta(seconds=30)
            await until(lambda: held(now) and all("(8/12)" in why for why in held(now).values()))

    asyncio.run(run())
    assert len(sent(accounts, "DELETE")) <= 5
