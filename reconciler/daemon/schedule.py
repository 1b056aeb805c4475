"""The full resync, as slices of hires spread over the interval; and sweeps over many hires at once.

Together the slices cover every hire once an interval. They share the listings of services.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from heapq import merge
from itertools import chain, islice
from zlib import crc32

from reconciler.daemon.dispatcher import Dispatcher
from reconciler.daemon.runtime import Runtime
from reconciler.daemon.slices import Lane
from reconciler.daemon.survey import Survey
from reconciler.engine.decide.guard import unanswered
from reconciler.engine.decide.revision_count import NOTE, RevisionCount
from reconciler.engine.observe.listings import Listings, listed_grants
from reconciler.engine.run.grants import broken_counts
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.vault import YOUNG
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, Problem, RepositoryError, SecretsError
from reconciler.model.grant import Key
from reconciler.model.last_pass import LAST, LastPass
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.value import replace
from reconciler.repository.config_files import POLICY
from reconciler.repository.desired import NO_SERVICE
from reconciler.repository.hires import Hires
from reconciler.requests.tasks import MAX_HIRES, NAMES_AT_A_TIME

MIN_SLICES = 60
SHORTEST_SLICE = timedelta(seconds=1)

AGAIN_SECONDS = 1.0
"""After how long a walk over all hires continues when the ledger or this clone failed."""


class Schedule:
    """Which hires the interval makes due, and the listings that their passes share."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher, survey: Survey) -> None:
        self._runtime = runtime
        self._clock = runtime.clock
        self._ledger = runtime.ledger
        self._health = runtime.health
        self._dispatcher = dispatcher
        self._survey = survey
        self._listings = Listings(self._clock.now())
        self._slices: list[list[str]] = []
        self._sliced = 0
        """The number of this cycle's slices that were queued."""
        self._everybody: Sequence[str] = ()
        """Who git or the ledger had when the interval began."""
        self._sliced_at: datetime | None = None
        self._swept_at: dict[str, datetime] = {}
        """When passes over all of an integration were begun last."""
        self._cycle_at = self._clock.now()
        """When the first slice of this cycle was queued."""
        self._queueing = list[Selection]()
        """What the sweeps are over of which not every slice is queued yet."""
        self._cutting = 0
        """The number of tasks that are about to cut all hires into the slices of a cycle."""

    async def sweep(self, request: PassRequest) -> bool:
        """Make passes over everything, over some integrations of all hires, or over some hires; False if over none."""
        self._runtime.spawn(self._count_rules())
        everything = request.selection.everything
        self._cutting += everything  # what makes its slices begins no cycle meanwhile
        try:
            return await self._sweep(request, everything=everything)
        finally:
            self._cutting -= everything

    async def _sweep(self, request: PassRequest, *, everything: bool) -> bool:
        selection, now = request.selection, self._clock.now()
        if everything:
            await self._ledger.run(lambda ledger: ledger.guard.begin_resync(ended=False))
            self._sliced_at = now
            self._slices = []
        if selection.hires is None:
            services = self._runtime.active.desired.services.values()
            manifests = {service.name: service.manifests for service in services}
            self._swept_at |= {
                name: now for own in manifests.values() for name in own if selection.covers_some_of(name)
            }
            # The sweep includes what waits of these services.
            complete = {service for service, own in manifests.items() if all(map(selection.covers_some_of, own))}
            self._dispatcher.runner.clear({*complete, NO_SERVICE} if everything else complete)
        hires = await self._few() if selection.hires is None else selection.hires
        if hires is not None and len(hires) <= MAX_HIRES:
            whole = replace(selection, hires=frozenset(hires))
            partial_ = selection.hires is not None
            return await self._dispatcher.start(replace(request, selection=whole, partial=partial_))
        self._read_listings_anew()
        self._queueing.append(selection)
        self._cutting += everything
        parts = replace(request, partial=not request.released)
        self._runtime.spawn(self._walk(parts, self._files, cycle=everything))
        return True

    async def released_passes_are_safe(self) -> None:
        """Wait until no pass that overrides the guard would be lost with this process. Raises Stopped."""
        while self._queueing or self._dispatcher.at_risk:
            await self._clock.sleep(AGAIN_SECONDS)

    async def judge_counted(self) -> None:
        """Have the guard judge what waits for a count, as soon as all that it counts was checked."""
        if self._queueing:
            return
        due = set[Key]()
        uncounted = await self._ledger.run(lambda ledger: ledger.guard.uncounted())
        for name, keys in uncounted.items():
            since = max(self._swept_at.get(name, self._cycle_at), self._cycle_at)
            if await self._ledger.run(partial(_is_counted, integration=name, since=since)):
                due |= keys
        await self._judge(due)

    async def _judge(self, keys: set[Key]) -> None:
        if due := keys - self._dispatcher.runner.waiting:
            request = PassRequest(Selection.of(due), "guard")
            await self._dispatcher.start(request, Lane.INTERVAL, listings=self._listings)

    async def _end_resync(self) -> None:
        """Have the guard judge what still waits for a resync that is over."""
        try:
            waiting = await self._ledger.run(_left_uncounted)
            await self._judge({*chain(*waiting.values())})
        except (LedgerError, RepositoryError) as error:
            self._health.stuck("ledger", str(error))

    async def _count_rules(self) -> None:
        """Find the rules of the policy whose count is too low or too high, which no slice sees."""
        desired, context, now = self._runtime.active.desired, self._runtime.context, self._clock.now()
        try:
            found = await broken_counts(context.policy_rules(desired), desired, self._ledger, now, context.yielder)
            if self._runtime.active.desired is desired:  # else those of the next one are counted
                await self._ledger.run(partial(_recounted, found=found, now=now))
        except LedgerError as error:
            self._health.stuck("ledger", str(error))

    async def queue_due(self, now: datetime) -> None:
        """Queue the slices that are due, but not between the parts of a sweep: these are counted before them."""
        if self._queueing:
            return
        if self._sliced_at is None or self._sliced_at > now:  # the first of all, or the clock was set back
            self._sliced_at = now
        interval = self._runtime.active.settings.interval
        while self._slices:
            count = len(self._slices) + self._sliced
            wait = interval / count
            if now - self._sliced_at < wait:
                return
            if not self._sliced:  # by now the passes of a sweep have ended, too
                await self._ledger.run(lambda ledger: ledger.guard.begin_resync())
                self._runtime.spawn(self._end_resync())
                self._cycle_at = now
            self._sliced_at = max(self._sliced_at + wait, now - 2 * wait)
            hires = self._slices.pop()
            self._sliced += 1
            if hires:
                request = PassRequest(Selection(hires=frozenset(hires)), "interval", partial=True)
                await self._dispatcher.start(request, Lane.INTERVAL, listings=self._listings, at_most=count)
        if not self._cutting:  # a sweep over everything begins the next cycle itself
            await self._begin_cycle()

    async def _begin_cycle(self) -> None:
        """Begin the next cycle of slices, the full resync that is spread over the interval."""
        self._read_listings_anew()
        with suppress(SecretsError):  # as in `locking`: the grant whose memory does not open is blocked for it
            await self._ledger.run(partial(self._runtime.state.vault.sweep, young=YOUNG))
        self._cutting += 1
        self._runtime.spawn(self._count_rules())
        self._runtime.spawn(self._walk(None, self._files, cycle=True))

    @property
    def _files(self) -> Hires:
        return self._runtime.active.desired.files.hires

    async def _few(self) -> set[str] | None:
        """Return every hire that git or the ledger has; None if they are too many for one pass."""
        most = MAX_HIRES + 1
        noted = await self._ledger.run(lambda ledger: ledger.grants.hires_after("", most))
        found = {*islice(self._files.index, most), *noted}
        return found if len(found) < most else None

    def _read_listings_anew(self) -> None:
        """Begin with unread listings; one is read only if it serves more than a few grants."""
        self._listings = Listings(self._clock.now())
        self._listings.expect(listed_grants(self._runtime.active.desired))

    async def _walk(self, request: PassRequest | None, files: Hires, *, cycle: bool) -> None:
        """Queue the parts of a sweep, where one is asked for, and begin the next cycle with its hires if that is, too.

        Other tasks run in between, for to cut a part takes a while, and the first ones are made meanwhile.
        """
        selection, hires = Selection() if request is None else request.selection, list[str]()
        try:
            async for part in self._parts(selection, files):
                while request is not None and not await self._queued(replace(request, selection=part)):
                    await self._clock.sleep(AGAIN_SECONDS)
                await self._clock.sleep(0)
                hires += part.hires or ()
            if cycle:
                await self._cut(hires)
        except Stopped:
            pass
        finally:
            self._cutting -= cycle
            if request is not None:
                self._queueing.remove(selection)

    async def read_listing(self, integration: str) -> None:
        """Read the listing of an integration again, and compare it with git."""
        everybody = self._everybody or [*self._runtime.active.desired.hires]
        await self._survey.take(Listings(self._clock.now()), everybody, only=integration)

    async def _cut(self, hires: Sequence[str]) -> None:
        """Cut all hires into the slices of the cycle that was begun, and take its survey."""
        most = max(1, int(self._runtime.active.settings.interval / SHORTEST_SLICE))
        count = min(most, max(MIN_SLICES, len(hires) // MAX_HIRES))
        slices: list[list[str]] = [[] for _ in range(count)]
        async for some in self._runtime.context.yielder.over(hires):
            for hire in some:
                slices[crc32(hire.encode()) % count].append(hire)
        self._slices, self._sliced, self._everybody = slices, 0, hires
        self._runtime.spawn(self._survey.take(self._listings, hires))
        self._runtime.spawn(asyncio.to_thread(self._runtime.context.reader.keep))

    async def _parts(self, selection: Selection, files: Hires) -> AsyncIterator[Selection]:
        """Cut a selection into parts of as many hires as one pass takes. Raises Stopped.

        Everybody is who git or the ledger has. They come in the order in which the ledger has their rows, and last
        those that only the ledger has.
        """
        if selection.hires is not None:
            for part in selection.parts(MAX_HIRES):
                yield part
            return
        pieces, stems = list[list[str]](), iter(files.index)
        while some := list(islice(stems, NAMES_AT_A_TIME)):
            pieces.append(sorted(some))
            await self._runtime.context.yielder.pause()
        ordered = merge(*pieces)
        while some := list(islice(ordered, MAX_HIRES)):
            yield replace(selection, hires=frozenset(some))
        while some := await self._hires_after(some[-1] if some else ""):
            gone = frozenset(hire for hire in some if hire not in files.index)
            for part in replace(selection, hires=gone).parts(MAX_HIRES):
                yield part

    async def _hires_after(self, hire: str) -> list[str]:
        """Read the hires that the ledger has after this one, once it can be read. Raises Stopped."""
        while True:
            try:
                return await self._ledger.run(lambda ledger: ledger.grants.hires_after(hire, NAMES_AT_A_TIME))
            except LedgerError as error:
                self._health.stuck("ledger", str(error))
                await self._clock.sleep(AGAIN_SECONDS)

    async def _queued(self, request: PassRequest) -> bool:
        """Queue a part; False if the ledger or this clone failed."""
        try:
            await self._dispatcher.start(request, Lane.INTERVAL, listings=self._listings)
        except (LedgerError, RepositoryError) as error:
            self._health.stuck("ledger" if isinstance(error, LedgerError) else "files", str(error))
            return False
        return True


def _recounted(ledger: LedgerWriter, found: Sequence[Problem], now: datetime) -> None:
    if found or any(problem.file == POLICY for problem, _ in LastPass.read(ledger.notes.get(LAST)).joined):
        ledger.notes.put(LAST, lambda noted: LastPass.read(noted).recounted(POLICY, found, now).written())


def _is_counted(ledger: LedgerReader, integration: str, since: datetime) -> bool:
    """Whether all of an integration was checked since a sweep over it, or the resync, began."""
    if ledger.guard.lacks_check(integration, since):
        return False
    counted = RevisionCount.read(ledger)
    return counted is None or not unanswered(ledger, counted, integration)


def _left_uncounted(ledger: LedgerWriter) -> dict[str, set[Key]]:
    """Return what still waits for a count at a resync's end: nothing waits for more than that."""
    counted = RevisionCount.read(ledger)
    if counted is not None and counted.arriving:
        ledger.notes.put(NOTE, replace(counted, arriving={}).written())
    return ledger.guard.uncounted()
