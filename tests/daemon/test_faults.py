"""The disk is full, the ledger is locked, the program errs: nothing leaves without its line, it is said, it passes."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from structlog.testing import capture_logs

from reconciler.engine.apply.commands import enqueue_release
from reconciler.engine.run.planner import Planner
from reconciler.model.selection import Selection
from reconciler.repository.files import Reader
from reconciler.repository.git.trees import Tree
from tests.daemon.running import Running, Turned, running, until
from tests.ledgers import inside
from tests.repo import Repo
from tests.servers import AccountService, Received


@pytest.fixture
def tool(repo: Repo, accounts: AccountService) -> Repo:
    """One hire who is provisioned, of an integration of two requests."""
    repo.settings(interval="1d", retry_delay="0s")
    repo.manifest("tool", accounts.manifest(team=True))
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    return repo


def fill(now: Running) -> None:
    """No page more than there is: SQLite itself says from now on that the disk is full."""
    now.pragma(f"max_page_count = {now.pragma('page_count') + 2}")


def make_room(now: Running) -> None:
    now.pragma("max_page_count = 1000000")


def test_a_full_disk(tool: Repo, accounts: AccountService) -> None:
    """Forty people start, and the ledger takes a few lines more: what has left is what is written, and no one else."""

    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            fill(now)
            for number in range(40):
                tool.hire(f"h{number}", {"integration": "tool", "values": {"TEAM": "7"}}, last_name="x" * 500)
            tool.commit()
            problem = await until(lambda: now.daemon.runtime.health.problem)
            assert "make room on the disk" in problem
            await asyncio.sleep(0.5)
            sent = Counter(call.json()["email"] for call in accounts.calls("POST"))
            written = written_requests(tool)
            assert all(written[email] >= count for email, count in sent.items())
            assert len(sent) < 41
            make_room(now)
            await until(lambda: len(set(accounts.teams["7"])) == 41)
            await until(lambda: now.daemon.runtime.health.problem is None)
        assert set(accounts.created.values()) == {1}
        assert len(accounts.people) == 41

    asyncio.run(walk())


def written_requests(repo: Repo) -> Counter[str]:
    with closing(sqlite3.connect(repo.state)) as database:
        query = "select hire, count(*) from requests join attempts on attempts.id = attempt group by 1"
        return Counter({f"{hire}@example.com": count for hire, count in database.execute(query)})


def test_the_disk_fills_up_in_the_middle_of_an_attempt(tool: Repo, accounts: AccountService) -> None:
    """The first request is under way. Its answer cannot be written down, and so the second does not leave."""

    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            release = accounts.hang(1, method="POST", prefix="/users")
            tool.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
            tool.commit()
            await until(lambda: len(accounts.calls("POST", "/users")) == 2)
            with broken_disk(tool):
                release.set()
                await until(lambda: now.daemon.runtime.health.problem)
                await asyncio.sleep(0.3)
                assert len(accounts.calls("POST", "/teams")) == 1, "only ada's: nothing leaves without its line"
            await until(lambda: len(accounts.calls("POST", "/teams")) == 2)
            await until(lambda: now.daemon.runtime.health.problem is None)
        assert accounts.created == {"ada@example.com": 1, "bob@example.com": 1}
        assert accounts.teams == {"7": ["ada@example.com", "bob@example.com"]}

    asyncio.run(walk())


def twice_over(accounts: AccountService) -> None:
    """The service takes the same account twice, so that a run by hand can succeed."""

    def make(received: Received) -> int:
        accounts.add(received.json()["email"])
        return 201

    accounts.route("POST", "/users", make)


def test_command_is_taken_up_once_while_the_disk_fails(tool: Repo, accounts: AccountService) -> None:
    """A run by hand is under way. Its command is off the list with its beginning: what is made up for is its retry."""
    twice_over(accounts)

    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            release = accounts.hang(1, method="POST", prefix="/users")
            inside(now.state.ledger).commands.enqueue(
                "run", now=datetime.now(UTC), by="ida@here", hire="ada", access="tool"
            )
            await until(lambda: len(accounts.calls("POST", "/users")) == 2)
            with broken_disk(tool):
                release.set()
                await until(lambda: now.daemon.runtime.health.problem)
            await until(lambda: len(accounts.calls("POST", "/teams")) == 2)
            await until(lambda: now.daemon.runtime.health.problem is None)
        assert len(accounts.calls("POST", "/users")) == 2

    asyncio.run(walk())


def test_release_stays_on_the_list_until_its_passes_are_made(tool: Repo, accounts: AccountService) -> None:
    """A daemon that ends before leaves it to the next, whose first pass over the same grants goes before it."""
    tool.settings(interval="1d", max_new=0)
    tool.commit()

    async def stopped() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            release = accounts.hang(1, method="GET", prefix="/users")
            enqueue_release(inside(now.state.ledger), Selection(), datetime.now(UTC), by="ida@here")
            await until(lambda: len(accounts.calls("GET", "/users")) == 2)
            assert [command.kind for command in inside(now.state.ledger).commands.waiting()] == ["release"]
            now.daemon._clock.stopping.set()
            release.set()

    async def started() -> None:
        async with running(tool) as now:
            await until(lambda: accounts.created["ada@example.com"])
            await until(lambda: not inside(now.state.ledger).commands.waiting())

    asyncio.run(stopped())
    assert not accounts.created
    asyncio.run(started())


def test_release_of_one_integration_lets_no_other_through(tool: Repo, accounts: AccountService) -> None:
    tool.settings(interval="1d", max_new=0)
    tool.manifest("other", accounts.manifest())
    tool.hire("bob", "other")
    tool.commit()

    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: inside(now.state.ledger).guard.held() == {"tool": 1, "other": 1})
            only = Selection(integrations=frozenset({"tool"}))
            enqueue_release(inside(now.state.ledger), only, datetime.now(UTC), by="ida@here")
            await until(lambda: accounts.created["ada@example.com"])
            await until(lambda: not inside(now.state.ledger).commands.waiting())

    asyncio.run(walk())
    assert accounts.created == {"ada@example.com": 1}


def test_command_waits_for_the_pass_that_claimed_its_grant(tool: Repo, accounts: AccountService) -> None:
    twice_over(accounts)

    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            release = accounts.hang(1, method="GET", prefix="/users")
            tool.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
            tool.commit()
            asked = len(accounts.calls("GET", "/users"))
            await until(lambda: len(accounts.calls("GET", "/users")) > asked)
            inside(now.state.ledger).commands.enqueue(
                "run", now=datetime.now(UTC), by="ida@here", hire="ada", access="tool"
            )
            await until(lambda: now.daemon._seen)
            await asyncio.sleep(0.1)
            release.set()
            await until(lambda: accounts.teams.get("8") == ["ada@example.com"])
            await until(lambda: inside(now.state.ledger).commands.waiting() == [])
        assert len(accounts.calls("POST", "/users")) == 2

    asyncio.run(walk())


@pytest.mark.parametrize("kind", ["accept", "retry"])
def test_command_is_not_undone_by_the_pass_under_way(tool: Repo, accounts: AccountService, kind: str) -> None:
    """The pass read the record before, and writes it down anew, for it is the first at this revision."""
    accounts.fail_next(None, 500, method="POST", prefix="/teams")

    def is_(status: str) -> bool:
        return tool.has("ada", "tool", status)

    async def walk() -> None:
        async with running(tool):
            await until(lambda: is_("failed"))
        tool.write("hires/ada.yaml", f"# Ada\n{(tool.root / 'hires/ada.yaml').read_text()}")
        tool.commit()
        release = accounts.hang(1, method="GET", prefix="/users")
        asked = len(accounts.calls("GET", "/users"))
        async with running(tool) as now:
            await until(lambda: len(accounts.calls("GET", "/users")) > asked)
            inside(now.state.ledger).commands.enqueue(
                kind, now=datetime.now(UTC), by="ida@here", hire="ada", access="tool"
            )
            await now.a_tick()
            await now.a_tick()  # by now the first has taken it up
            accounts.clear()
            release.set()
            await until(lambda: any(why == "start" for why, _ in now.passes))
            await until(lambda: is_("present"))
        assert (accounts.teams == {}) is (kind == "accept")

    asyncio.run(walk())


class broken_disk:  # noqa: N801  a context manager, used like a function
    """The disk takes no more than a part of a page: SQLite learns it from the kernel, in the middle of its write."""

    def __init__(self, repo: Repo) -> None:
        self._state = repo.state

    def __enter__(self) -> None:
        log = self._state.with_name(f"{self._state.name}-wal")
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 1000, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


def test_daemon_recovers_from_a_ledger_locked_by_another_process(tool: Repo, accounts: AccountService) -> None:
    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)
            now.pragma("busy_timeout = 50")
            with closing(sqlite3.connect(tool.state, isolation_level=None)) as other:
                other.execute("begin immediate")
                before = len(accounts.calls("POST"))
                with capture_logs() as logs:
                    tool.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
                    tool.commit()
                    problem = await until(lambda: now.daemon.runtime.health.problem)
                    await asyncio.sleep(1.2)
                assert "another program has it open" in problem
                told = [line for line in logs if line["event"] == "daemon.problem"]
                assert 1 <= len(told) <= 2, "said once, not at every try"
                assert len(accounts.calls("POST")) == before
                other.execute("rollback")
            await until(lambda: accounts.created["bob@example.com"])
            await until(lambda: now.daemon.runtime.health.problem is None)

    asyncio.run(walk())


def test_locked_from_the_start(tool: Repo, accounts: AccountService) -> None:
    """The first pass of all cannot be begun: it is made up for."""

    async def walk() -> None:
        async with running(tool) as now:
            now.pragma("busy_timeout = 50")
            with closing(sqlite3.connect(tool.state, isolation_level=None)) as other:
                other.execute("begin immediate")
                await until(lambda: now.daemon.runtime.health.problem)
                assert not now.daemon.runtime.health.healthy(monotonic() + 4, timedelta(seconds=1))
                other.execute("rollback")
            await until(lambda: accounts.created["ada@example.com"])
            await until(
                lambda: now.daemon.runtime.health.problem is None and now.daemon.runtime.health.due_since is None
            )

    asyncio.run(walk())


def test_passes_over_nothing_are_no_progress(tool: Repo, accounts: AccountService) -> None:
    """While the only check hangs, passes of the interval go by, and pass over what is checked already."""
    tool.settings(interval="1s")
    tool.commit()

    async def walk() -> None:
        async with running(tool) as now:
            health = now.daemon.runtime.health
            await until(lambda: accounts.created and now.passes)
            release = accounts.hang(1, method="GET", prefix="/users")
            asked = len(accounts.calls("GET", "/users"))
            await until(lambda: len(accounts.calls("GET", "/users")) > asked)
            began, made = monotonic(), len(now.passes)
            await until(lambda: len(now.passes) > made + 1)
            assert not health.healthy(began + 4, timedelta(seconds=1))
            release.set()
            await until(lambda: health.healthy(began + 4, timedelta(seconds=1)))

    asyncio.run(walk())


def test_passes_where_nothing_is_due_are_progress(repo: Repo, accounts: AccountService) -> None:
    """Those of several services may overlap for ever, so that some work always seems to be due."""
    repo.settings(interval="1s")
    for name in ("tool", "other"):
        repo.manifest(name, accounts.manifest())
    repo.hire("ada")
    repo.commit()

    async def walk() -> None:
        async with running(repo) as now:
            began = monotonic()
            await until(lambda: len(now.passes) > 5)
            assert now.daemon.runtime.health.healthy(began + 4, timedelta(seconds=1))

    asyncio.run(walk())


def test_a_fault_of_the_program_ends_a_pass_and_not_the_daemon(
    tool: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def walk() -> None:
        async with running(tool) as now:
            await until(lambda: now.passes)

            def broken(*_: Any, **__: Any) -> None:
                raise ZeroDivisionError("nobody thought of this")

            with capture_logs() as logs:
                monkeypatch.setattr(Planner, "plan", broken)
                tool.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
                tool.commit()
                assert "ZeroDivisionError" in await until(lambda: now.daemon.runtime.health.problem)
                monkeypatch.undo()
            assert [line["event"] for line in logs if line["log_level"] == "error"] == ["pass.broken"]
            tool.hire("cy", {"integration": "tool", "values": {"TEAM": "7"}})
            tool.commit()
            await until(lambda: accounts.created["cy@example.com"])
            await until(lambda: now.daemon.runtime.health.problem is None)

    asyncio.run(walk())


def test_a_fault_of_the_program_over_a_commit_leaves_the_one_before_in_force(
    tool: Repo, accounts: AccountService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def walk() -> None:
        clock = Turned()
        async with running(tool, clock) as now:
            await until(lambda: now.passes)
            good = now.active.tree.revision
            load = Reader.load

            def broken(reader: Reader, tree: Tree) -> Any:
                if tree.revision != good:
                    raise ZeroDivisionError("nobody thought of this")
                return load(reader, tree)

            with capture_logs() as logs:
                monkeypatch.setattr(Reader, "load", broken)
                tool.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
                tool.settings(interval="2d", retry_delay="0s")
                tool.commit()
                problem = await until(lambda: now.daemon.runtime.health.problem)
                told = f"a fault of this program over the newest commit: ZeroDivisionError; acting on {good[:12]}"
                assert problem == told
                passes = len(now.passes)
                inside(now.state.ledger).commands.enqueue(
                    "run", now=clock.now(), by="ida@here", hire="ada", access="tool"
                )
                await until(lambda: len(now.passes) > passes)  # what is asked for is done, by the revision before
                assert now.passes[-1][1].revision == good
                assert now.daemon.runtime.health.problem == told, "a pass over the old one does not make it good"
                assert now.active.settings.interval == timedelta(days=1)
            errors = [line["event"] for line in logs if line["log_level"] == "error"]
            assert errors == ["commit.broken", "daemon.problem"], "told once, not at every look"
            monkeypatch.undo()
            assert "bob@example.com" not in accounts.created
            clock.turn(minutes=1)
            await until(lambda: accounts.created["bob@example.com"])
            await until(lambda: now.daemon.runtime.health.problem is None)
            assert now.active.settings.interval == timedelta(days=2)

    asyncio.run(walk())


def test_a_head_that_the_system_does_not_let_be_read_ends_nothing(tool: Repo, accounts: AccountService) -> None:
    """Told once; the next commit that can be read is acted on, also where only the clock says to look again."""
    main = tool.root / ".git/refs/heads/main"

    async def walk() -> list[Any]:
        async with running(tool, Turned()) as now:
            await until(lambda: now.passes)
            with capture_logs() as logs:
                main.unlink()
                main.symlink_to("main")  # ELOOP: a system's error like EMFILE and EIO
                await until(lambda: [line for line in logs if line.get("about") == "repository"])
                await asyncio.sleep(0.3)
                assert not now.task.done()
                main.unlink()
                tool.hire("bob", {"integration": "tool", "values": {"TEAM": "7"}})
                main.write_text(before + "\n")
                tool.commit()
                await until(lambda: [call for call in accounts.calls("POST") if b"bob" in call.body])
            return logs

    before = tool.git("rev-parse", "HEAD")
    logs = asyncio.run(walk())
    told = [line for line in logs if line.get("about") == "repository" and line["event"] == "daemon.problem"]
    assert len(told) == 1, told
    assert "cannot be read" in told[0]["problem"]
