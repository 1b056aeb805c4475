"""The full resync, as slices of hires spread over the interval; and sweeps over many hires at once.

Together the slices cover every hire once an interval. They share the listings of services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from zlib import crc32

from reconciler.daemon.acting import Acting
from reconciler.daemon.cutting import in_parts
from reconciler.daemon.dispatcher import MAX_HIRES, Dispatcher
from reconciler.daemon.health import Health
from reconciler.daemon.slices import PassRequest
from reconciler.daemon.survey import Survey
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.listings import Listings
from reconciler.engine.planner import listed_grants
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.clock import Stopped
from reconciler.model.errors import LedgerError, RepositoryError
from reconciler.model.selection import Selection

__all__ = ["Schedule"]

MIN_SLICES = 60
SHORTEST_SLICE = timedelta(seconds=1)

QUEUE_AGAIN_SECONDS = 1.0
"""After how long queueing a sweep continues when the ledger or this clone failed."""


class Schedule:
    """Which hires the interval makes due, and the listings that their passes share."""

    def __init__(
        self,
        context: Context,
        clock: SystemClock,
        ledger: LedgerWriter,
        dispatcher: Dispatcher,
        health: Health,
        *,
        survey: Survey,
    ) -> None:
        self._context = context
        self._clock = clock
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._health = health
        self._survey = survey
        self._listings = Listings()
        self._slices: list[list[str]] = []
        self._sliced = 0
        """The number of this cycle's slices that were queued."""
        self._sliced_at: datetime | None = None
        self._queueing = 0
        """The number of sweeps of which not every slice is queued yet."""

    def sweep(self, request: PassRequest, acting: Acting | None = None) -> None:
        """Make passes over everything, over some integrations of all hires, or over some hires.

        `acting` is given while a revision is being taken over.
        """
        acting, selection = acting or self._dispatcher.acting, request.selection
        hires = self._hires(acting) if selection.hires is None else selection.hires
        if selection.everything:
            self._ledger.begin_resync()
            self._sliced_at = self._clock.now()
            self._slices = []
            self._dispatcher.runner.clear()  # the sweep includes everything that waits
        whole = replace(selection, hires=frozenset(hires))
        if len(hires) <= MAX_HIRES:
            self._dispatcher.start(replace(request, selection=whole), acting=acting)
            return
        self._read_listings_anew(acting)
        parts = [replace(request, selection=part) for part in in_parts(whole, MAX_HIRES)]
        self._queueing += 1
        self._dispatcher.run(self._queue_all(parts))

    async def let_through(self) -> None:
        """Wait until no pass that overrides the guard would be lost with this process. Raises Stopped."""
        while self._queueing or self._dispatcher.at_risk:
            await self._clock.sleep(QUEUE_AGAIN_SECONDS)

    def queue_due(self, now: datetime) -> None:
        """Queue the slices that are due."""
        if self._sliced_at is None or self._sliced_at > now:  # the first of all, or the clock was set back
            self._sliced_at = now
        interval = self._dispatcher.acting.settings.interval
        while True:
            if not self._slices:
                self._begin_cycle()
            count = len(self._slices) + self._sliced
            wait = interval / count
            if now - self._sliced_at < wait:
                return
            self._sliced_at = max(self._sliced_at + wait, now - 2 * wait)
            hires = self._slices.pop()
            self._sliced += 1
            if hires:
                request = PassRequest(Selection(hires=frozenset(hires)), "interval")
                self._dispatcher.queue(request, self._listings, at_most=count)

    def _hires(self, acting: Acting) -> set[str]:
        """Return every hire that git or the ledger has."""
        assert acting.tree is not None
        return self._context.reader.load(acting.tree).hires.stems() | self._ledger.hires()

    def _begin_cycle(self) -> None:
        """Cut all hires into the slices of the next interval."""
        acting = self._dispatcher.acting
        hires = self._hires(acting)
        most = max(1, int(acting.settings.interval / SHORTEST_SLICE))
        count = min(most, max(MIN_SLICES, len(hires) // MAX_HIRES))
        self._slices = [[] for _ in range(count)]
        for hire in hires:
            self._slices[crc32(hire.encode()) % count].append(hire)
        self._sliced = 0
        self._read_listings_anew(acting)
        self._dispatcher.run(self._survey.take(acting, self._dispatcher.desired(acting), self._listings))
        self._dispatcher.run(asyncio.to_thread(self._context.reader.keep))
        self._ledger.begin_resync()

    def _read_listings_anew(self, acting: Acting) -> None:
        """Begin with unread listings; one is read only if it serves more than a few grants."""
        self._listings = Listings()
        self._listings.expect(listed_grants(self._dispatcher.desired(acting)))

    async def _queue_all(self, requests: Iterable[PassRequest]) -> None:
        """Queue the requests, and let other tasks run in between: to cut one takes a while."""
        with suppress(Stopped):
            for request in requests:
                while not self._queued(request):
                    await self._clock.sleep(QUEUE_AGAIN_SECONDS)
                await self._clock.sleep(0)
            self._queueing -= 1

    def _queued(self, request: PassRequest) -> bool:
        try:
            self._dispatcher.queue(request, self._listings)
        except (LedgerError, RepositoryError) as error:
            self._health.stuck("ledger" if isinstance(error, LedgerError) else "files", str(error))
            return False
        return True
