"""Fetch from the remote, when it is due and when a push is told of; judge whether the revision in force is stale."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta
from functools import partial

from reconciler.daemon.dispatcher import SliceRunner
from reconciler.daemon.freshness import NOTE, noted
from reconciler.daemon.runtime import Runtime
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError
from reconciler.model.revision_status import Stale
from reconciler.repository.git.branches import fetch, remotes

PUSHED = "pushed"
"""The note; what it says is when the git server called."""

UNSEEN = b""
"""The note was not read yet: what it says now was told to the leader before."""

TELL_SECONDS = 1.0
"""How often a member writes the note at most."""

JUST_NOW = timedelta(seconds=1)
"""A fetch that began this recently is not repeated, even if one is asked for at once."""


class Fetching:
    """Fetches when due, in its own task because a remote may hang. `fetched` is awaited after each fetch."""

    def __init__(self, runtime: Runtime, fetched: Callable[[], Awaitable[None]]) -> None:
        self._runtime = runtime
        self._clock = runtime.clock
        self._ledger = runtime.ledger
        self._fetched = fetched
        self._began_at: datetime | None = None
        self._nudged = False
        """Whether a push was told of and is not yet fetched."""
        self._later: asyncio.TimerHandle | None = None
        self._nudged_at = float("-inf")
        self.told_of = False
        """Whether the last fetch was made because of a push that was told of."""
        self.began_with: str | None = None
        """The revision in force when it began: the watch may take over what it brings before it ends."""
        self._task: asyncio.Task[None] | None = None
        self._freshness = runtime.freshness
        self._noted: bytes | None = None

    async def open(self) -> None:
        """Read what the daemon before this one noted. Raises LedgerError."""
        await self.lead()
        self._freshness.follow(self._noted)

    async def lead(self) -> None:
        """Read what the leader before this one noted, which it told of. Raises LedgerError."""
        self._noted = await self._ledger.run(lambda ledger: ledger.notes.get(NOTE))

    @property
    def under_way(self) -> bool:
        """Whether a fetch is running."""
        return self._task is not None and not self._task.done()

    def begin(self, now: datetime) -> None:
        """Begin a fetch, if one is due."""
        active = self._runtime.active
        git, checkout = active.settings.git, self._runtime.context.checkout
        if git.fetch is None or active.branch is None:
            self._freshness.not_fetching()
            return
        if self.under_way:
            return
        if self._task is not None:
            self._task.result()
        if self._began_at is not None and timedelta() <= now - self._began_at < git.fetch:
            return
        self._began_at, self.told_of = now, False
        self.began_with = active.acted_on
        proof = None if active.settings.checkpoints is None else active.settings.checkpoints.remote
        here = [name for name in remotes(checkout) if name == git.remote or name != proof]  # which is only written to
        if here:
            self._task = asyncio.create_task(self._fetch(git.remote, active.branch, here))
            self._task.add_done_callback(lambda _: self._follow_nudge())
        else:
            self._freshness.not_fetching()

    def nudge(self) -> None:
        """Fetch at once because of a push: after a fetch that is under way, and at most once a second."""
        self._nudged = True
        self._follow_nudge()

    def _follow_nudge(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._nudged or self.under_way or self._clock.stopping.is_set():
            return
        if self._later is not None:
            self._later.cancel()
        wait = self._nudged_at + JUST_NOW.total_seconds() - loop.time()
        if wait > 0:
            self._later = loop.call_later(wait, self._follow_nudge)
            return
        self._nudged, self._nudged_at, self._began_at = False, loop.time(), None
        self.begin(self._clock.now())
        self.told_of = True

    async def at_once(self) -> None:
        """Fetch now and await the end; skip it if this repository is not fetched or was within `JUST_NOW`."""
        await self._end()  # one that is under way may have asked before what is missing was there
        now = self._clock.now()
        if self._began_at is None or abs(now - self._began_at) >= JUST_NOW:
            self._began_at = None
            self.begin(now)
            await self._end()

    async def _end(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})

    def cancel(self) -> None:
        """Cancel a fetch that is under way."""
        self._nudged = False
        if self._later is not None:
            self._later.cancel()
        if self._task is not None:
            self._task.cancel()

    async def note(self, others: Mapping[str, Stale | None]) -> list[tuple[str, Stale | None, Stale | None]]:
        """Note what is stale: the revision in force, and clones of other members. Return what changed.

        That is whose it is, "" for the revision in force, before, and now. While that one is stale, others' wait.
        """
        freshness, before = self._freshness, noted(self._noted)
        if not freshness.known:
            return []
        told: Mapping[str, Stale | None] = before.members if freshness.stale else others
        written = freshness.written(told)
        if written == self._noted:
            return []
        await self._ledger.run(lambda ledger: ledger.notes.put(NOTE, written))
        own = "", before.stale, freshness.stale
        self._noted = written
        found = [own, *((name, before.members.get(name), now) for name, now in told.items())]
        return [(name, was, now) for name, was, now in found if (was is None) != (now is None)]

    async def _fetch(self, remote: str, branch: str, here: Collection[str]) -> None:
        checkout, stopped = self._runtime.context.checkout, self._clock.stopping.is_set
        if remote in here:
            problem = await asyncio.to_thread(fetch, checkout, remote, branch, stopped=stopped)
        else:
            problem = f"there is no remote {remote}, only {', '.join(here)}: mend git.remote, or `git remote add` it"
        self._freshness.fetched(self._clock.now(), problem)
        self._runtime.problems.update("fetch", problem and f"{problem}; acting on HEAD as it is")
        await self._fetched()


class PushRelay:
    """Pushes in a fleet: the member that a git server called tells the leader, by a note in the state.

    `fetch` is called in the leader for each that was not seen yet.
    """

    def __init__(self, runtime: Runtime, runner: SliceRunner, fetch: Callable[[], None]) -> None:
        self._runtime = runtime
        self._ledger = runtime.ledger
        self._clock = runtime.clock
        self._runner = runner
        self._fetch = fetch
        self._seen: bytes | None = UNSEEN
        self._telling = self._waiting = False

    def tell(self) -> None:
        """Tell the leader at once, and once more where this is called again meanwhile."""
        if self._runner.exclusive or self._runner.leads:
            return
        self._waiting = True
        if not self._telling:
            self._telling = True
            self._runtime.spawn(self._tell())

    async def _tell(self) -> None:
        try:
            while self._waiting:
                self._waiting = False
                await self._ledger.run(partial(_say, at=self._clock.now()))
                await self._clock.sleep(TELL_SECONDS)
        except Stopped:
            pass
        except LedgerError as error:
            self._runtime.problems.update("hooks", str(error))
        finally:
            self._telling = False

    async def look(self) -> None:
        """Fetch if a push was told to another member since the last look. Raises LedgerError."""
        if self._runner.exclusive:
            return
        note = await self._ledger.run(lambda ledger: ledger.notes.get(PUSHED))
        before, self._seen = self._seen, note
        if before is not UNSEEN and note != before:
            self._fetch()


def _say(ledger: LedgerWriter, at: datetime) -> None:
    """Tell the leader that a git server called."""
    ledger.notes.put(PUSHED, at.isoformat().encode())
