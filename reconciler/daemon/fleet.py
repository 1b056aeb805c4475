"""A member of a fleet: slices are put before all members, and each is made by one that has its service by a lease.

One member leads: it decides what is due. Every member makes slices, puts back those of the dead, and acts on a revision
only where nobody acted on a newer one. See docs/design/rules.md, "A fleet".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from reconciler.daemon.beside import taken
from reconciler.daemon.dispatcher import GRACE_SECONDS, Dispatcher
from reconciler.daemon.health import ProblemLog
from reconciler.daemon.jobs import FAULTS, Again, Arguments, Jobs, arguments, slice_of
from reconciler.daemon.newest import Newest
from reconciler.daemon.slices import Lane, Make, Slice, Spawn
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.everybody import Listings
from reconciler.engine.planner import listed_grants
from reconciler.engine.state import OpenState
from reconciler.ledger.entries import Member
from reconciler.ledger.membership import LEADER, Membership
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key

__all__ = ["Fleet"]

log = structlog.get_logger()

TURN_SECONDS = 1.0
"""Between two looks at who leads, who died, and how many members there are."""

BEHIND = "this clone is not as new as what the fleet acts on, or has another history: bring it up to date"

DUE_AGAIN = timedelta(seconds=5)
"""After how long a due grant that no slice came to is put again."""


class Fleet:
    """Where the slices of a fleet are made. `dispatcher` knows what is acted on, `catch_up` fetches and takes over."""

    alone = False

    def __init__(
        self,
        context: Context,
        clock: SystemClock,
        state: OpenState,
        make: Make,
        spawn: Spawn,
        *,
        problems: ProblemLog,
        dispatcher: Callable[[], Dispatcher],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        assert state.member is not None
        self._clock = clock
        self._state = state
        self._member: Membership = state.member
        self._make = make
        self._spawn = spawn
        self._problems = problems
        self._dispatcher = dispatcher
        self._catch_up = catch_up
        self._newest = Newest(context.checkout, state.ledger)
        self._jobs = Jobs(state.connect, self._job)
        self._turning: asyncio.Task[None] | None = None
        self._workers: list[asyncio.Task[None]] = []
        self._making: set[asyncio.Task[Any]] = set()
        """The jobs under way. A worker ends because there are more members now, too, and then they take their time."""
        self._at_once = 0
        self._leads = False
        self._left_over: list[Slice] = []
        self._put_at: dict[Key, datetime] = {}
        self._readings: dict[str, Listings] = {}
        self._read = 0

    @property
    def leads(self) -> bool:
        """Whether this member leads."""
        return self._leads

    @property
    def away(self) -> str | None:
        """Why the server cannot be reached; None where it can."""
        return self._member.fault

    @property
    def waiting(self) -> frozenset[Key]:
        """The single grants that were put a moment ago."""
        now = self._clock.now()
        self._put_at = {key: at for key, at in self._put_at.items() if abs(now - at) < DUE_AGAIN}
        return frozenset(self._put_at)

    def put(self, slices: Sequence[Slice], *, at_most: int | None = None) -> None:  # noqa: ARG002
        """Put slices of one service before all members; of the interval's, those that do not wait already."""
        for item in slices:
            if item.lane is Lane.DUE:
                self._put_at |= dict.fromkeys(item.request.selection.grants or (), item.queued_at)
        if slices:
            self._spawn(self._put(slices))

    def clear(self) -> None:
        """Leave what waits as it is: a slice that is made although a sweep included it costs checks."""

    def tick(self, now: datetime) -> None:  # noqa: ARG002
        """See that this member works, and put what could not be put before."""
        if self._turning is None:
            self._turning = asyncio.create_task(self._work())
        if self._left_over and self.away is None:
            left, self._left_over = self._left_over, []
            self._spawn(self._put(left))

    async def finish(self) -> None:
        """Make nothing new, await what is under way for up to `GRACE_SECONDS`, then cancel it."""
        if self._turning is not None:
            self._turning.cancel()
            await asyncio.gather(self._turning, return_exceptions=True)
        self._end_workers()
        if self._workers:
            await asyncio.wait(self._workers, timeout=GRACE_SECONDS)
        for job in self._making:
            job.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._jobs.close()

    @asynccontextmanager
    async def holding(self, *services: str) -> AsyncIterator[OpenState]:
        """Have services for as long as the block runs, after waiting for those who have one of them."""
        if not services:
            yield self._state
            return
        async with taken(self._state, self._clock, services) as state:
            yield state

    async def _put(self, slices: Sequence[Slice]) -> None:
        """Put slices of the revision in force: as a task, for the one that they are of is only being taken over."""
        for item in slices:
            tree = self._dispatcher().acting.tree
            assert tree is not None
            reading = None if item.listings is None else self._named(item.listings)
            if not await self._jobs.put(item, arguments(item, tree.revision, reading)):
                self._left_over.append(item)

    def _named(self, listings: Listings) -> str:
        """The name that listings have among all members."""
        name = next((name for name, known in self._readings.items() if known is listings), None)
        if name is None:
            self._read += 1
            name = f"{self._member.name}/{self._clock.now().timestamp():.0f}/{self._read}"
            self._readings = {**dict([*self._readings.items()][-1:]), name: listings}
        return name

    def _listings(self, name: str | None) -> Listings | None:
        """The listings of a name: each member reads them for itself, once for all slices that share them."""
        if name is None:
            return None
        if name not in self._readings:
            listings = Listings()
            listings.expect(listed_grants(self._dispatcher().desired()))
            self._readings = {**dict([*self._readings.items()][-1:]), name: listings}
        return self._readings[name]

    async def _job(self, given: Arguments) -> None:
        """Make a slice. Raises Again where it was not made, and somebody else may."""
        task = asyncio.current_task()
        assert task is not None
        self._making.add(task)
        made = False
        try:
            made = await self._made(given)
        except asyncio.CancelledError:
            raise Again from None
        except Exception as error:
            # The boundary for what comes before a pass, which has its own.
            log.debug("slice.broken", exc_info=True)
            self._problems.tell("slices", f"a slice could not be begun: {type(error).__name__}: {error}")
        else:
            self._problems.tell("slices", None)
        finally:
            self._making.discard(task)
        if not made:
            raise Again

    async def _made(self, given: Arguments) -> bool:
        if self._clock.stopping.is_set() or not await self._up_to_date(given["revision"]):
            return False
        item = replace(slice_of(given), listings=self._listings(given["reading"]))
        return await self._make(item) and not self._clock.stopping.is_set()

    async def _up_to_date(self, revision: str) -> bool:
        """Whether this member has the slice's revision and the newest that was acted on, after fetching if need be."""
        for catches_up in (True, False):
            tree = self._dispatcher().acting.tree
            with suppress(LedgerError):
                if tree is not None and self._may_act_on(tree.revision, revision):
                    self._problems.tell("revision", None)
                    return True
            if catches_up:
                await self._catch_up()
        self._problems.tell("revision", f"slices are left to other members: {BEHIND}")
        return False

    def _may_act_on(self, mine: str, revision: str) -> bool:
        as_new = self._newest.as_new(mine, revision, leads=self._leads)
        return as_new and self._newest.act_on(mine, leads=self._leads)

    async def _work(self) -> None:
        """Lead where nobody does, work as much as falls to this member, put back what the dead had."""
        while not self._clock.stopping.is_set():
            try:
                await self._jobs.open()
                while True:
                    await self._turn()
                    await self._clock.sleep(TURN_SECONDS)
            except Stopped:
                return
            except (*FAULTS, TimeoutError, LedgerError) as error:
                self._problems.tell("jobs", " ".join(str(error).split()) or type(error).__name__)
            except Exception as error:
                # The boundary for a member's own work, as passes have one.
                log.exception("fleet.broken")
                self._problems.tell("jobs", f"a fault of this program: {type(error).__name__}")
            self._at_once = 0
            self._end_workers()
            await self._jobs.close()
            with suppress(Stopped):
                await self._clock.sleep(TURN_SECONDS)

    async def _turn(self) -> None:
        if not self._leads and await asyncio.to_thread(self._member.take, [LEADER]) is not None:
            self._leads = True
            log.info("fleet.leads", member=self._member.name)
        for worker in [worker for worker in self._workers if worker.done()]:
            self._workers.remove(worker)
            self._at_once = 0
            if not worker.cancelled():
                worker.result()
        at_once = self._share(await asyncio.to_thread(self._state.ledger.members))
        if at_once != self._at_once:
            self._end_workers()
            self._at_once = at_once
            self._workers.append(asyncio.create_task(self._jobs.work(at_once)))
        if self._member.settled:
            await self._jobs.rescue()
        self._problems.tell("jobs", None)

    def _end_workers(self) -> None:
        """Have every worker make no new jobs and end those under way; told a second time, one would drop them."""
        for worker in self._workers:
            if not worker.cancelling():
                worker.cancel()

    def _share(self, members: Sequence[Member]) -> int:
        """How many services fall to this member: together the members have room for all, however many of them hang."""
        acting = self._dispatcher().acting.tree is not None
        services = len(self._dispatcher().desired().services) + 1 if acting else 1
        return -(-services // max(1, sum(each.daemon for each in members)))
