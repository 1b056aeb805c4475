"""Fetch from the remote, and judge whether the revision in force is stale."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from reconciler.daemon.acting import Acting
from reconciler.daemon.freshness import NOTE, Freshness
from reconciler.daemon.health import ProblemLog
from reconciler.engine.context import Context, SystemClock
from reconciler.ledger.ledger import OpenLedger
from reconciler.model.revision_status import Stale

__all__ = ["Fetching"]


JUST_NOW = timedelta(seconds=1)
"""A fetch that began this recently is not repeated, even if one is asked for at once."""


class Fetching:
    """Fetches when due, in its own task because a remote may hang. `fetched` is awaited after each fetch."""

    def __init__(
        self,
        context: Context,
        clock: SystemClock,
        ledger: OpenLedger,
        *,
        problems: ProblemLog,
        fetched: Callable[[], Awaitable[None]],
    ) -> None:
        self._context = context
        self._clock = clock
        self._ledger = ledger
        self._problems = problems
        self._fetched = fetched
        self._began_at: datetime | None = None
        self._nudged: Callable[[], Acting] | None = None
        """What to act on when a push is fetched that was told of and not yet fetched; None if there is none."""
        self._later: asyncio.TimerHandle | None = None
        self._nudged_at = float("-inf")
        self.told_of = False
        """Whether the last fetch was made because of a push that was told of."""
        self.began_with: str | None = None
        """The revision in force when it began: the watch may take over what it brings before it ends."""
        self._task: asyncio.Task[None] | None = None
        self.freshness = Freshness(clock.now())
        self._noted = self.freshness.written()

    async def open(self) -> None:
        """Read what the daemon before this one noted. Raises LedgerError."""
        self.freshness.follow(await self._ledger.run(lambda ledger: ledger.note(NOTE)))
        self._noted = self.freshness.written()

    @property
    def under_way(self) -> bool:
        """Whether a fetch is running."""
        return self._task is not None and not self._task.done()

    def begin(self, now: datetime, acting: Acting) -> None:
        """Begin a fetch, if one is due."""
        git, checkout = acting.settings.git, self._context.checkout
        if git.fetch is None or acting.branch is None:
            self.freshness.not_fetching()
            return
        if self.under_way:
            return
        if self._task is not None:
            self._task.result()
        if self._began_at is not None and timedelta() <= now - self._began_at < git.fetch:
            return
        self._began_at, self.told_of = now, False
        self.began_with = None if acting.tree is None else acting.tree.revision
        if checkout.has_remote(git.remote):
            self._task = asyncio.create_task(self._fetch(acting))
            self._task.add_done_callback(lambda _: self._follow_nudge())
        else:
            self.freshness.not_fetching()

    def nudge(self, acting: Callable[[], Acting]) -> None:
        """Fetch at once because of a push: after a fetch that is under way, and at most once a second."""
        self._nudged = acting
        self._follow_nudge()

    def _follow_nudge(self) -> None:
        acting, loop = self._nudged, asyncio.get_running_loop()
        if acting is None or self.under_way or self._clock.stopping.is_set():
            return
        if self._later is not None:
            self._later.cancel()
        wait = self._nudged_at + JUST_NOW.total_seconds() - loop.time()
        if wait > 0:
            self._later = loop.call_later(wait, self._follow_nudge)
            return
        self._nudged, self._nudged_at, self._began_at = None, loop.time(), None
        self.begin(self._clock.now(), acting())
        self.told_of = True

    async def at_once(self, acting: Acting) -> None:
        """Fetch now and await the end; skip it if this repository is not fetched or was within `JUST_NOW`."""
        await self._end()  # one that is under way may have asked before what is missing was there
        now = self._clock.now()
        if self._began_at is None or abs(now - self._began_at) >= JUST_NOW:
            self._began_at = None
            self.begin(now, acting)
            await self._end()

    async def _end(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})

    def cancel(self) -> None:
        """Cancel a fetch that is under way."""
        self._nudged = None
        if self._later is not None:
            self._later.cancel()
        if self._task is not None:
            self._task.cancel()

    async def judge(self, now: datetime, limit: timedelta) -> tuple[Stale | None, Stale | None] | None:
        """Judge and note whether the revision in force is stale; return (before, now) if that changed, else None."""
        before = self.freshness.stale
        changed = self.freshness.judge(now, limit)
        if (written := self.freshness.written()) != self._noted:
            await self._ledger.run(lambda ledger: ledger.put_note(NOTE, written))
            self._noted = written
        return (before, self.freshness.stale) if changed else None

    async def _fetch(self, acting: Acting) -> None:
        remote, branch, stopped = acting.settings.git.remote, acting.branch, self._clock.stopping.is_set
        assert branch is not None
        problem = await asyncio.to_thread(self._context.checkout.fetch, remote, branch, stopped)
        self.freshness.fetched(self._clock.now(), problem)
        self._problems.update("fetch", problem and f"{problem}; acting on HEAD as it is")
        await self._fetched()
