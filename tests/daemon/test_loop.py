"""What the loop does whatever happens beside it: a remote that hangs, a clock that is set, a watch that ends."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

import pytest

from reconciler.daemon.runtime import GRACE_SECONDS
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key, Record
from reconciler.model.selection import Selection
from reconciler.model.status import EventType, Status
from reconciler.repository.git.watch import commits
from reconciler.repository.hire_index import HireCache
from reconciler.repository.parsing import summarize
from reconciler.requests.tasks import FEW, MAX_HIRES
from tests.daemon.running import Turned, running, until
from tests.ledgers import inside
from tests.repo import Repo, call_cli
from tests.servers import PATIENCE, AccountService

DUE = 300
"""More than are in one pass."""


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    repo.settings(interval="1d", retry_delay="1s")
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    return repo


def test_a_remote_that_hangs_delays_neither_retries_nor_shutdown(tool: Repo, accounts: AccountService) -> None:
    tool.settings(interval="1d", retry_delay="1s", git={"fetch": "1s"})
    tool.commit()
    accounts.fail_next(1, 500, method="POST")

    async def walk() -> float:
        async with running(tool) as now:
            await until(lambda: accounts.created["ada@example.com"])
            assert now.daemon.fetching.under_way
            return monotonic()

    with socket.create_server(("127.0.0.1", 0)) as remote:  # it never says a word
        tool.git("remote", "add", "origin", f"git://127.0.0.1:{remote.getsockname()[1]}/access.git")
        told_to_stop = asyncio.run(walk())
        assert monotonic() - told_to_stop < GRACE_SECONDS


def test_a_commit_is_acted_on_when_the_system_tells_of_it(tool: Repo, accounts: AccountService) -> None:
    """And not when somebody looks next."""

    async def walk() -> None:
        async with running(tool, watch=partial(commits, poll=3600)) as now:
            await until(lambda: now.passes)
            tool.hire("bob", "tool")
            tool.commit()
            await until(lambda: accounts.created["bob@example.com"])

    asyncio.run(walk())


@pytest.mark.parametrize(("path", "problems"), [("README.md", 0), ("manifests/unused.yaml", 1)])
def test_status_has_a_commit_that_no_grant_follows_from(tool: Repo, path: str, problems: int) -> None:
    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            tool.write(path, "Who has what\n")
            commit = tool.commit()
            await until(lambda: call_cli(tool, "status", "--output", "json").json["revision"] == commit)
            assert len(call_cli(tool, "status", "--output", "json").json["problems"]) == problems

    asyncio.run(walk())


def test_status_keeps_the_newest_revision_when_a_pass_of_an_older_one_ends(
    tool: Repo, accounts: AccountService
) -> None:
    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            answered = accounts.hang(method="POST")
            tool.hire("bob", "tool")
            tool.commit()
            await until(lambda: len(accounts.calls("POST")) == 2)
            tool.write("manifests/unused.yaml", "Who has what\n")
            commit = tool.commit()
            await until(lambda: call_cli(tool, "status", "--output", "json").json["revision"] == commit)
            answered.set()
            await until(lambda: "commit" in [why for why, _ in now.passes])
            told = call_cli(tool, "status", "--output", "json").json
            assert (told["revision"], len(told["problems"])) == (commit, 1)

    asyncio.run(walk())


def test_a_commit_is_acted_on_where_git_has_lost_the_one_before(tool: Repo, accounts: AccountService) -> None:
    """As a single pass does it: what this process still remembers of a commit is not there for others."""

    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            before = tool.git("rev-parse", "HEAD")
            tool.hire("bob", "tool")
            tool.git("add", "--all")
            rewritten = tool.git("commit-tree", tool.git("write-tree"), "-m", "all of it anew")
            (tool.root / ".git" / "objects" / before[:2] / before[2:]).unlink()
            tool.git("update-ref", "refs/heads/main", rewritten)
            await until(lambda: accounts.created["bob@example.com"])

    asyncio.run(walk())


def test_passes_go_on_after_the_clock_is_set_back(tool: Repo, accounts: AccountService) -> None:
    tool.settings(interval="1s")
    tool.commit()

    async def walk() -> None:
        clock = Turned()
        async with running(tool, clock) as now:
            await until(lambda: [why for why, _ in now.passes].count("interval") >= 1)
            clock.turn(days=-1)
            before = len(accounts.calls("GET"))
            await until(lambda: len(accounts.calls("GET")) >= before + 2)

    asyncio.run(walk())


def test_what_is_over_is_revoked_at_its_moment(repo: Repo, accounts: AccountService) -> None:
    """Without a poll of git or a resync; who does not answer then is asked again each minute."""
    repo.settings(interval="1d")
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", {"integration": "tool", "for": "8h"})
    repo.commit()

    async def walk() -> None:
        clock = Turned()
        async with running(repo, clock) as now:
            await until(lambda: accounts.created["ada@example.com"] and now.passes)
            accounts.fail_next(None, 503, method="GET")
            clock.turn(hours=8)
            await until(lambda: [why for why, _ in now.passes].count("over") == 1)
            assert accounts.calls("DELETE") == []
            accounts.clear()
            clock.turn(minutes=1)
            await until(lambda: accounts.calls("DELETE"))

    asyncio.run(walk())


@pytest.mark.parametrize("locked", [False, True], ids=["", "after a lock by hand"])
@pytest.mark.parametrize("commit", ["hires", "manifests", "settings"])
def test_what_is_over_is_revoked_by_a_daemon_that_starts_while_a_commit_is_refused(
    repo: Repo, accounts: AccountService, commit: str, *, locked: bool
) -> None:
    """As by one that runs then; as soon as the commit is mended, that is acted on."""
    repo.settings(interval="1d", git={"branch": "main", "fetch": None})
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", {"integration": "tool", "for": "8h"})
    repo.hire("eve", "tool")
    good = repo.commit()

    async def begin() -> None:
        async with running(repo) as now:
            await until(lambda: len(accounts.people) == 2 and now.passes)

    async def begin_again() -> None:
        clock = Turned()
        clock.turn(hours=8)
        async with running(repo, clock) as now:
            await until(lambda: "ada@example.com" not in accounts.people)
            assert now.active.refused is not None
            repo.git("reset", "--hard", "--quiet", good)
            repo.hire("bob", "tool")
            repo.commit()
            await until(lambda: accounts.created["bob@example.com"])
            await until(lambda: now.active.refused is None and now.active.fault is None)

    asyncio.run(begin())
    if commit == "settings":
        repo.write("config/reconciler.yaml", "prune: [\n")
    else:
        repo.git("rm", "-rq", commit)
    repo.commit()
    if locked:
        assert call_cli(repo, "lock", "eve", "--reason", "left").code == 0
    asyncio.run(begin_again())


def test_the_daemon_ends_if_its_watch_fails(tool: Repo) -> None:
    """So that whatever runs it starts it again: it would look well, and act on an old commit for ever."""

    async def broken(*_: Any, **_given: Any) -> AsyncGenerator[None, None]:
        for nothing in list[None]():
            yield nothing
        raise RuntimeError("no watch")

    async def walk() -> None:
        async with running(tool, watch=broken) as now:
            await asyncio.wait({now.task})

    with pytest.raises(RuntimeError, match="no watch"):
        asyncio.run(walk())


def test_a_hire_that_is_renamed_during_its_attempt_gets_one_account(repo: Repo, accounts: AccountService) -> None:
    manifest = accounts.manifest()
    del manifest["exists"]
    repo.settings(interval="1d")
    repo.manifest("tool", manifest)
    repo.hire("ada", "tool")
    repo.commit()
    accounts.delay = 1

    async def walk() -> None:
        async with running(repo) as now:
            await until(lambda: len(accounts.calls("POST")) == 1)
            repo.remove("hires/ada.yaml")
            repo.hire("ada2", "tool", email="ada@example.com", first_name="Ada")
            repo.commit("rename")
            await until(lambda: any(why == "commit" for why, _ in now.passes))
            assert [record.key for record in inside(now.state.ledger).grants.records()] == [Key("ada", "tool")]
            await until(
                lambda: [record.key for record in inside(now.state.ledger).grants.records()] == [Key("ada2", "tool")]
            )
            assert [record.status for record in inside(now.state.ledger).grants.records()] == [Status.DONE]
            assert len(accounts.calls("POST")) == 1

    asyncio.run(walk())


def test_dependent_of_another_service_that_was_revoked_before_follows_at_once(
    repo: Repo, accounts: AccountService
) -> None:
    def change(*access: Any) -> None:
        repo.hire("ada", *access)
        repo.commit()

    async def walk() -> None:
        async with running(repo) as now:
            for access, status in ((entries, Status.PRESENT), ((), Status.REVOKED), (entries, Status.PRESENT)):
                change(*access)
                await until(lambda: [each.status for each in inside(now.state.ledger).grants.records()] == [status] * 2)  # noqa: B023

    entries = "tool", {"integration": "next", "needs": ["tool"]}
    repo.settings(interval="1d", prune="revoke")
    repo.manifest("tool", accounts.manifest(revoke=True))
    change()
    with AccountService() as others:
        repo.manifest("next", others.manifest(revoke=True))
        repo.commit()
        asyncio.run(walk())


def test_dependent_of_another_service_follows_what_a_retry_finds(tool: Repo, accounts: AccountService) -> None:
    accounts.fail_next(1, 500, method="POST")

    async def walk() -> None:
        async with running(tool):
            await until(lambda: tool.has("ada", "tool", "retrying"))
            accounts.add("ada@example.com")
            await until(lambda: others.created)
        assert not accounts.created

    with AccountService() as others:
        tool.manifest("next", others.manifest())
        tool.hire("ada", "tool", {"integration": "next", "needs": ["tool"]})
        tool.commit()
        asyncio.run(walk())


@pytest.mark.parametrize("gone", [False, True], ids=["removed", "brought back"])
def test_a_commit_stops_attempts_that_have_not_begun(repo: Repo, accounts: AccountService, *, gone: bool) -> None:
    """The service takes one request at a time; meanwhile somebody takes the commit back that asked for them."""
    hires = ["ada", "bob", "cleo"]

    def change(*, there: bool) -> None:
        for hire in hires:
            repo.hire(hire, *(["tool"] if there else []))
        repo.commit()

    async def walk() -> None:
        async with running(repo) as now:
            await until(lambda: len(now.passes) == 1)
            release = accounts.hang(1, method=method)
            change(there=not gone)
            await until(lambda: accounts.calls(method))
            change(there=gone)
            head = now.context.checkout.head_id()
            await until(lambda: now.active.acted_on == head)
            release.set()
            await until(lambda: accounts.calls(undo))
        assert len(accounts.calls(method)) == len(accounts.calls(undo)) == 1

    method, undo = ("DELETE", "POST") if gone else ("POST", "DELETE")
    repo.settings(interval="1d", prune="revoke", limits={"per_host": 1})
    repo.manifest("tool", accounts.manifest(revoke=True))
    change(there=gone)
    accounts.add(*(f"{hire}@example.com" for hire in hires if gone))
    asyncio.run(walk())


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_settings_stop_attempts_that_have_not_begun(repo: Repo, accounts: AccountService, method: str) -> None:
    """The brake is pulled while the service takes one request at a time."""
    hires, settings = ["ada", "bob", "cleo"], {"interval": "1d", "prune": "revoke", "limits": {"per_host": 1}}
    repo.settings(**settings)
    repo.manifest("tool", accounts.manifest(revoke=True))
    for hire in hires:
        repo.hire(hire, *(["tool"] if method == "DELETE" else []))
    repo.commit()
    accounts.add(*(f"{hire}@example.com" for hire in hires if method == "DELETE"))

    async def walk() -> None:
        async with running(repo) as now:
            await until(lambda: len(now.passes) == 1)
            release = accounts.hang(1, method=method)
            for hire in hires:
                repo.hire(hire, *(["tool"] if method == "POST" else []))
            repo.commit()
            await until(lambda: accounts.calls(method))
            repo.settings(**settings, suspend=[{"integration": "tool"}])
            head = repo.commit()
            await until(lambda: now.active.acted_on == head)
            release.set()
            await until(lambda: sum(repo.has(hire, "tool", "suspended") for hire in hires) >= 2)
        assert len(accounts.calls(method)) == 1

    asyncio.run(walk())


def test_a_commit_stops_attempts_whose_check_is_under_way(tool: Repo, accounts: AccountService) -> None:
    """When its own pass comes by, the ledger knows nothing yet of what the pass before it has planned."""

    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            release = accounts.hang(1, method="GET", prefix="/users/bob")
            tool.hire("bob", "tool")
            tool.commit()
            await until(lambda: accounts.calls("GET", "/users/bob"))
            tool.remove("hires/bob.yaml")
            tool.commit()
            await until(lambda: any(why == "commit" for why, _ in now.passes))
            release.set()
            await until(
                lambda: any(line.event is EventType.DROPPED for line in inside(now.state.ledger).history.lines())
            )
        assert accounts.created == {"ada@example.com": 1}

    asyncio.run(walk())


def test_a_commit_takes_away_what_a_check_finds_that_is_under_way(repo: Repo, accounts: AccountService) -> None:
    repo.settings(interval="1d", prune="revoke")
    repo.manifest("tool", accounts.manifest(revoke=True))
    repo.hire("ada", "tool")
    repo.commit()
    accounts.add("ada@example.com", "bob@example.com")

    async def walk() -> None:
        async with running(repo) as now:
            await until(lambda: now.passes)
            release = accounts.hang(1, method="GET", prefix="/users/bob")
            repo.hire("bob", "tool")
            repo.commit()
            await until(lambda: accounts.calls("GET", "/users/bob"))
            repo.remove("hires/bob.yaml")
            head = repo.commit()
            await until(lambda: now.active.acted_on == head)
            release.set()
            await until(lambda: accounts.calls("DELETE", "/users/bob"))
        assert accounts.people.keys() == {"ada@example.com"}

    asyncio.run(walk())


def test_a_commit_changes_attempts_that_have_not_begun(repo: Repo, accounts: AccountService) -> None:
    def change(name: str) -> None:
        for hire in ("ada", "bob", "cleo"):
            repo.hire(hire, "tool", last_name=name)
        repo.commit()

    async def walk() -> None:
        async with running(repo) as now:
            release = accounts.hang(1, method="POST")
            await until(lambda: accounts.calls("POST"))
            change("After")
            head = now.context.checkout.head_id()
            await until(lambda: now.active.acted_on == head)
            release.set()
            await until(lambda: len(accounts.people) == 3)
        names = sorted(call.json()["name"].partition(" ")[2] for call in accounts.calls("POST"))
        assert names == ["After", "After", "Before"]

    repo.settings(interval="1d", limits={"per_host": 1})
    repo.manifest("tool", accounts.manifest())
    change("Before")
    asyncio.run(walk())


def test_a_commit_is_read_beside_the_loop(
    tool: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes go on meanwhile, over the revision before. What was parsed is saved for the next start beside it, too."""
    many = sorted(["bob", *(f"hire{number:02}" for number in range(FEW))])
    for hire in many:
        tool.hire(hire, "tool")
    save, saved_in = HireCache.save, list[int]()

    def saved(self: HireCache, *given: Any) -> None:
        saved_in.append(threading.get_ident())
        save(self, *given)

    monkeypatch.setattr(HireCache, "save", saved)

    async def walk() -> list[list[str]]:
        async with running(tool) as now:
            loop, found = asyncio.get_running_loop(), list[list[str]]()
            await until(lambda: accounts.created["ada@example.com"])

            async def hires() -> list[str]:
                return sorted(now.active.files.hires)

            def beside(*given: Any) -> Any:
                found.append(asyncio.run_coroutine_threadsafe(hires(), loop).result(PATIENCE))
                return summarize(*given)

            monkeypatch.setattr("reconciler.repository.files.summarize", beside)
            tool.commit()
            await until(lambda: accounts.created["bob@example.com"])
            assert saved_in
            assert threading.get_ident() not in saved_in
            return [*found, await hires()]

    assert asyncio.run(walk()) == [*[["ada"]] * len(many), ["ada", *many]]


@pytest.mark.no_cover  # the same lines thousands of times
@pytest.mark.parametrize("why", ["due", "asked"])
def test_many_grants_are_dispatched_in_parts_and_each_once(
    repo: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Over many looks at what is due: nobody is asked for again and again while the others wait for their turn.

    Other tasks have their turn after a few hires, also while all that failed is started afresh by hand.
    """
    stems = [f"h{number}" for number in range(DUE)]
    repo.settings(interval="100d")
    repo.manifest("tool", accounts.manifest())
    for stem in stems:
        repo.hire(stem, "tool")
    repo.retrying("tool", stems, in_=timedelta(hours=1))
    repo.commit()
    monkeypatch.setattr("reconciler.requests.tasks.SLICE_SECONDS", 0.0)

    async def walk() -> None:
        clock, turn, work = Turned(), 0, list[tuple[int, int]]()

        cut = Selection.parts

        def looked_through(selection: Selection, most: int) -> Iterator[Selection]:
            for part in cut(selection, most):
                yield part
                if most == FEW and len(selection.hires or ()) == DUE:  # passes read their rows so, too
                    work.append((turn, len(part.hires or ())))

        async def counting() -> None:
            nonlocal turn
            while True:
                await asyncio.sleep(0)
                turn += 1

        async with running(repo, clock) as now:
            await until(lambda: sum(len(report.rows) for _, report in now.passes) == DUE)
            accounts.requests.clear()
            now.passes.clear()
            accounts.add(*(f"{stem}@example.com" for stem in stems))  # there is nothing left to make
            accounts.delay = 0.1
            monkeypatch.setattr(Selection, "parts", looked_through)
            ticking, save = asyncio.create_task(counting()), inside(now.state.ledger).save

            def saved(records: list[Record], *given: Any, **more: Any) -> None:
                if Failpoint.TAKEN_UP in given:
                    work.append((turn, len(records)))
                save(records, *given, **more)

            monkeypatch.setattr(inside(now.state.ledger), "save", saved)
            if why == "due":
                clock.turn(hours=2)
            else:
                inside(now.state.ledger).commands.enqueue("retry", now=clock.now(), by="tester@here")
            await until(lambda: sum(len(report.rows) for _, report in now.passes) >= DUE)
            ticking.cancel()
            parts = sorted((len(report.rows), why) for why, report in now.passes)
            assert parts == [(DUE - MAX_HIRES, why), (MAX_HIRES, why)]
            assert inside(now.state.ledger).commands.waiting() == []
            assert len({turn for turn, _ in work}) == len(work) >= DUE / 20
            assert max(size for _, size in work) <= 50

    asyncio.run(walk())
    assert set(Counter(accounts.lines()).values()) == {1}
