"""A member of a fleet: slices are queued for all members, and each is made by one that has leased its service.

One member leads: it decides what is due. Every member makes slices, requeues those of dead members, and acts on a
revision only if nobody acted on a newer one. See docs/design/rules.md, "A fleet".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog

from reconciler.daemon.fleet.jobs import FAULTS, Arguments, Jobs, Requeue, arguments, is_signed, signed, slice_of
from reconciler.daemon.fleet.single_pass import SharedState
from reconciler.daemon.fleet.told import Clones, Programs
from reconciler.daemon.runtime import GRACE_SECONDS, Runtime
from reconciler.daemon.slices import Lane, Make, Outdated, Slice
from reconciler.engine.observe.listings import Listings, listed_grants
from reconciler.ledger.entries import Member
from reconciler.ledger.lease import Lease
from reconciler.ledger.postgres.membership import LEADER, Membership
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Key
from reconciler.model.revision_status import Stale
from reconciler.model.value import replace

log = structlog.get_logger()

TICK_SECONDS = 1.0
"""How often to determine who leads, who died, and how many members there are."""

BEHIND = "this clone is not as new as what the fleet acts on, or has another history: bring it up to date"

DUE_AGAIN = timedelta(seconds=5)
"""After how long a due grant that no slice has reached is queued again."""


class _SharedListings:
    """Listings that many slices share, under names by which all members can refer to them."""

    def __init__(self, runtime: Runtime, member: str) -> None:
        self._runtime = runtime
        self._member = member
        self._by_name: dict[str, Listings] = {}
        self._named = 0

    def name_of(self, listings: Listings) -> str:
        """Name listings that this member made."""
        name = next((name for name, known in self._by_name.items() if known is listings), None)
        if name is None:
            self._named += 1
            name = f"{self._member}/{self._runtime.clock.now().timestamp():.0f}/{self._named}"
            self._keep(name, listings)
        return name

    def named(self, name: str | None) -> Listings | None:
        """Find the listings of a name: each member reads them itself, once for all slices that share them."""
        if name is None:
            return None
        if name not in self._by_name:
            listings = Listings(self._runtime.clock.now())
            listings.expect(listed_grants(self._runtime.active.desired))
            self._keep(name, listings)
        return self._by_name[name]

    def _keep(self, name: str, listings: Listings) -> None:
        """Keep these listings, and those before them."""
        self._by_name = {**dict([*self._by_name.items()][-1:]), name: listings}


class Fleet(SharedState):
    """Runs slices as jobs of the fleet. `catch_up` fetches and takes over the newest commit."""

    exclusive = False

    def __init__(self, runtime: Runtime, make: Make, catch_up: Callable[[], Awaitable[None]]) -> None:
        super().__init__(runtime.context, runtime.clock, runtime.state, None)
        self._runtime = runtime
        self._problems = runtime.problems
        assert runtime.state.member is not None
        self._member: Membership = runtime.state.member
        self._make = make
        self._catch_up = catch_up
        self._jobs = Jobs(runtime.state.connect, self._job)
        self._working: asyncio.Task[None] | None = None
        self._workers: list[asyncio.Task[None]] = []
        self._making: set[asyncio.Task[Any]] = set()
        """The jobs under way. They outlive their worker, which also ends when the number of members changes."""
        self._concurrency = 0
        self._lead: Lease | None = None
        self._catching_up = False
        """Whether it fetches once more before it gives up the lead."""
        self._programs = Programs(runtime, self._member.name)
        self._clones = Clones(runtime, self._member.name, self)
        self._listings = _SharedListings(runtime, self._member.name)
        self._unsent: list[Slice] = []
        self._putting: list[Sequence[Slice]] = []
        """The slices that each task is about to queue."""
        self._put_at: dict[Key, datetime] = {}

    @property
    def unreachable(self) -> str | None:
        """Why the server cannot be reached; None if it can."""
        return self._member.fault

    @property
    def at_risk(self) -> bool:
        """Whether slices are still to be queued: once they are, other members make them."""
        return bool(self._unsent or self._putting)

    @property
    def stale(self) -> Mapping[str, Stale | None]:
        """Since when, and why, each other member takes over no new commit; None for one that does."""
        return self._clones.stale

    @property
    def waiting(self) -> frozenset[Key]:
        """The single grants that were queued less than `DUE_AGAIN` ago."""
        now = self._clock.now()
        self._put_at = {key: at for key, at in self._put_at.items() if abs(now - at) < DUE_AGAIN}
        return frozenset(self._put_at)

    def put(self, slices: Sequence[Slice], *, at_most: int | None = None) -> None:  # noqa: ARG002
        """Queue slices of one service for all members; one of the interval that waits already is not queued twice."""
        for item in slices:
            if item.lane is Lane.DUE:
                self._put_at |= dict.fromkeys(item.request.selection.grants or (), item.queued_at)
        if slices:
            self._begin_putting(slices)

    def clear(self, services: Collection[str]) -> None:
        """Leave the queue as it is: a slice that a sweep includes costs checks and does no harm."""

    def tick(self, now: datetime) -> None:  # noqa: ARG002
        """Start this member's own work, and queue what could not be queued before."""
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        if self._unsent and self.unreachable is None:
            left, self._unsent = self._unsent, []
            self._begin_putting(left)

    async def finish(self) -> None:
        """Begin nothing new; await jobs under way for up to `GRACE_SECONDS`, then cancel them."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        self._end_workers()
        if self._workers:
            await asyncio.wait(self._workers, timeout=GRACE_SECONDS)
        for job in self._making:
            job.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._jobs.close()

    async def refuse_outdated(self) -> None:
        """Raise Outdated where the revision in force here is older than one that others acted on."""
        if await self._is_outdated():
            raise Outdated

    def _at(self) -> str | None:
        """Return the revision in force, which changes."""
        return self._runtime.active.acted_on

    def _begin_putting(self, slices: Sequence[Slice]) -> None:
        self._putting.append(slices)
        self._runtime.spawn(self._put(slices))

    async def _put(self, slices: Sequence[Slice]) -> None:
        """Queue slices of the revision in force. Runs as a task: by then their revision has been leased over."""
        try:
            await self._runtime.reopen()  # without the key, others would drop what it queues
            for item in slices:
                revision = self._runtime.active.tree.revision
                reading = None if item.listings is None else self._listings.name_of(item.listings)
                job = signed(arguments(item, revision, reading), self._state.vault)
                if self._state.vault.fault is not None or not await self._jobs.put(item, job):
                    self._unsent.append(item)
        finally:
            self._putting.remove(slices)

    async def _job(self, given: Arguments) -> None:
        """Make a slice. Raises Requeue if it was not made here, so that another member may make it."""
        task = asyncio.current_task()
        assert task is not None
        self._making.add(task)
        made = False
        try:
            made = await self._made_here(given)
        except asyncio.CancelledError:
            raise Requeue from None
        except Exception as error:
            # The outermost boundary before a pass, which has its own.
            log.debug("slice.broken", exc_info=True)
            self._problems.update("slices", f"a slice could not be begun: {type(error).__name__}: {error}")
        else:
            self._problems.update("slices", None)
        finally:
            self._making.discard(task)
        if not made:
            raise Requeue

    async def _made_here(self, given: Arguments) -> bool:
        await self._runtime.reopen()
        if self._state.vault.fault is not None:
            return False  # another member has the key, by which a job counts
        if not is_signed(given, self._state.vault):  # one of somebody else's is dropped
            await self._runtime.ledger.run(lambda ledger: ledger.commands.refuse("a job"))
            return True
        if self._clock.stopping.is_set() or not await self._up_to_date(given["revision"]):
            return False
        item = replace(slice_of(given), listings=self._listings.named(given["reading"]))
        if self._programs.leaves_to_others(item.service):
            return False
        return await self._make(item) and not self._clock.stopping.is_set()

    async def _up_to_date(self, revision: str) -> bool:
        """Whether this member has the slice's revision and the newest one acted on; fetch first if it has not."""
        for catches_up in (True, False):
            mine = self._at()
            with suppress(LedgerError):
                if mine is not None and self.as_new(mine, revision) and not await self._is_outdated():
                    self._problems.update("revision", None)
                    return True
            if catches_up and not self._clones.are_ahead():  # else it would fail, and may take long
                await self._catch_up()
        self._problems.update("revision", f"slices are left to other members: {BEHIND}")
        return False

    async def _work(self) -> None:
        """Lead if nobody does, make this member's share of the jobs, requeue those of dead members."""
        while not self._clock.stopping.is_set():
            try:
                await self._jobs.open()
                while True:
                    await self._tick()
                    await self._clock.sleep(TICK_SECONDS)
            except Stopped:
                return
            except (*FAULTS, TimeoutError, LedgerError) as error:
                self._problems.update("jobs", " ".join(str(error).split()) or type(error).__name__)
            except Exception as error:
                # The outermost boundary for a member's own work.
                log.exception("fleet.broken")
                self._problems.update("jobs", f"a fault of this program: {type(error).__name__}")
            self._concurrency = 0
            self._end_workers()
            await self._jobs.close()
            with suppress(Stopped):
                await self._clock.sleep(TICK_SECONDS)

    async def _tick(self) -> None:
        for worker in [worker for worker in self._workers if worker.done()]:
            self._workers.remove(worker)
            if not worker.cancelled():  # it ended on its own
                self._concurrency = 0
                worker.result()
        members = await self._runtime.ledger.run(lambda ledger: ledger.members())
        others = [each.name for each in members if each.daemon and each.name != self._member.name]
        await self._programs.learn(others)
        await self._clones.learn(others)
        await self._decide_who_leads()
        at_once = self._worker_count(members)
        if at_once != self._concurrency:
            self._end_workers()
            self._concurrency = at_once
            self._workers.append(asyncio.create_task(self._jobs.work(at_once)))
        if self._member.settled:
            await self._jobs.rescue()
        self._problems.update("jobs", None)

    async def _decide_who_leads(self) -> None:
        """Lead if nobody does; but who takes over no new commit leaves the lead to a member that is ahead."""
        ahead = self._clones.are_ahead()
        if self.leads and ahead and not self._catching_up:
            self._catching_up = True
            self._runtime.spawn(self._catch_up_or_give_up())
        elif not self.leads and not ahead:
            self._lead = await asyncio.to_thread(self._member.take, [LEADER])
            if self._lead is not None:
                self.leads = True
                log.info("fleet.leads", member=self._member.name)

    async def _catch_up_or_give_up(self) -> None:
        """Fetch and take over what came; give up the lead where another member is ahead nevertheless."""
        try:
            await self._catch_up()
            if self._lead is not None and self._clones.are_ahead():
                self.leads = False
                await asyncio.to_thread(self._member.release, self._lead)
                log.warning("fleet.leads_no_more", member=self._member.name, problem=self._runtime.freshness.why_not)
        finally:
            self._catching_up = False

    def _end_workers(self) -> None:
        """Have every worker take no new jobs and finish those under way; cancelled twice, it would drop them."""
        for worker in self._workers:
            if not worker.cancelling():
                worker.cancel()

    def _worker_count(self, members: Sequence[Member]) -> int:
        services = len(self._runtime.active.desired.services) + 1 if self._runtime.active.taken_over else 1
        return worker_count(self._member.name, [each.name for each in members if each.daemon], services)


def worker_count(name: str, members: Collection[str], services: int) -> int:
    """How many jobs a member makes at a time: together they have room for every service, even if each one hangs.

    They have no more than that, or the first ones would make all jobs while the others have none.
    """
    names = sorted({name, *members})
    each, left = divmod(services, len(names))
    return max(1, each + (names.index(name) < left))
