"""The daemon in this process, on a real repository and real services, so that a test can get at its ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reconciler.daemon.loop import Daemon, Watch
from reconciler.daemon.runtime import ActiveRevision, Runtime
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.run.accepted import in_force
from reconciler.engine.state import OpenState, locking
from reconciler.model.report import Report
from reconciler.model.secret import Redactor
from reconciler.repository.git.watch import commits
from tests.ledgers import inside
from tests.repo import Repo
from tests.servers import PATIENCE, AccountService


class Turned(SystemClock):
    """The machine's clock, whose hands a test can turn. With a `pace`, they turn by that much at each wait instead."""

    def __init__(self, pace: timedelta | None = None) -> None:
        super().__init__()
        self._turned = timedelta()
        self.pace = pace

    def now(self) -> datetime:
        return super().now() + self._turned

    def turn(self, **span: float) -> None:
        """Turn the hands: `turn(hours=1)`; backwards too."""
        self._turned += timedelta(**span)

    async def sleep(self, seconds: float) -> None:
        if self.pace is None:
            await super().sleep(seconds)
        else:
            self._turned += self.pace
            await super().sleep(0.01)


@dataclass
class Running:
    """A daemon at work; `passes` are those that came to their end, with what started them."""

    context: Context
    daemon: Daemon
    state: OpenState
    passes: list[tuple[str, Report]]
    task: asyncio.Task[None]

    @property
    def active(self) -> ActiveRevision:
        """What passes act on."""
        return self.daemon.runtime.active

    async def a_tick(self) -> None:
        """Wait until the daemon looks at what is due."""
        before = self.daemon.runtime.health.ticked_at
        await until(lambda: self.daemon.runtime.health.ticked_at > before)

    def pragma(self, text: str) -> Any:
        """Set something on the ledger's own connection."""
        with inside(self.state.ledger).backend.reading() as reading:
            return reading.value(f"PRAGMA {text}")


def peopled(repo: Repo, accounts: AccountService, count: int) -> list[str]:
    """Commit so many hires of one tool, where all of them have their account; gives their ids."""
    stems = [f"h{number}" for number in range(count)]
    repo.manifest("tool", accounts.manifest())
    for stem in stems:
        repo.hire(stem, "tool")
    repo.commit()
    accounts.add(*(f"{stem}@example.com" for stem in stems))
    return stems


@asynccontextmanager
async def running(repo: Repo, clock: SystemClock | None = None, *, watch: Watch = commits) -> AsyncIterator[Running]:
    """A daemon for as long as the block runs; it is told to stop at its end, and has to end well."""
    clock = clock or SystemClock()
    context = Context(repo.root, clock, Redactor())
    passes: list[tuple[str, Report]] = []
    try:
        force = in_force(context, starts=True)
        with locking(force, "test") as state:
            runtime = Runtime(clock, state, ActiveRevision(context, force.tree, force.settings, force.branch))
            daemon = Daemon(runtime, lambda report, _took, why: passes.append((why, report)), watch=watch)
            task = asyncio.create_task(daemon.run())
            try:
                yield Running(context, daemon, state, passes, task)
            finally:
                clock.stopping.set()
                await asyncio.wait_for(task, PATIENCE)
    finally:
        await context.aclose()


async def until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not (found := condition()):  # noqa: ASYNC110  it waits for anything that can be looked at
            await asyncio.sleep(0.01)
        return found


def found_and_left(repo: Repo, gone: Iterable[str]) -> None:
    """Let a daemon find everybody's account, and commit that some hires have left."""

    async def find() -> None:
        async with running(repo) as now:
            await until(lambda: now.passes)

    asyncio.run(find())
    for stem in gone:
        repo.remove(f"hires/{stem}.yaml")
    repo.commit()


def held(now: Running) -> dict[str, str]:
    """Who is held by the guard, and why, as the ledger has it."""
    return {record.key.hire: record.reason for record in inside(now.state.ledger).grants.records() if record.guarded}


def sent(accounts: AccountService, method: str) -> list[str]:
    return sorted(request.path for request in accounts.requests if request.method == method)


def users(stems: Iterable[str]) -> list[str]:
    return sorted(f"/users/{stem}@example.com" for stem in stems)
