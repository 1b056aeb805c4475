"""What services are spared: places for all requests, places for each host, a rate, and the waits that a host asks for.

One throttle serves all clients of the process. A request takes its places in one order: its host's, then the host's
gate, then one of everybody's, which it takes only when nothing is left to wait for. So a host that hangs, is slow or
asked for a pause fills its own lane and no other, and no two requests can wait for each other.

Where a rate is set, the gate stays shut until the request before has really left: requests then keep their distance at
the server, however long a connection took to open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from reconciler.model.clock import Clock, Stopped
from reconciler.model.errors import RequestFailed
from reconciler.model.settings import Limits

__all__ = ["LONGEST", "Throttle"]

LONGEST = timedelta(seconds=60)
"""The longest pause that a host may ask for (DESIGN section 3, Execute)."""

MARGIN = 1.05
"""The network shifts requests against each other: a twentieth of a second in every second is left free for that."""

_NONE = timedelta()
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class _Lane:
    """One host's: its places, its gate, when the last request left, and until when it asked for a pause."""

    def __init__(self, limits: Limits) -> None:
        self.places = asyncio.Semaphore(limits.per_host)
        self.gate = asyncio.Lock()
        self.spacing = timedelta(seconds=MARGIN / limits.rate) if limits.rate else _NONE
        self.last = self.held = _LONG_AGO

    def delay(self, now: datetime) -> float:
        """Seconds to wait from now on. A wall clock that was set back does not hold a lane for hours."""
        self.last = min(self.last, now)
        self.held = min(self.held, now + LONGEST)
        return max(self.last + self.spacing - now, self.held - now, _NONE).total_seconds()


class Throttle:
    """The limits of DESIGN section 2.4, kept over all services."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._everyone = asyncio.Semaphore(limits.concurrency)
        self._lanes: dict[str, _Lane] = {}

    def hold(self, host: str, pause: timedelta) -> None:
        """Nothing leaves for the host until the pause, at most a minute, is over."""
        lane = self._lane(host)
        lane.held = max(lane.held, self._clock.now() + min(pause, LONGEST))

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[Callable[[], None]]:
        """A place in which one request may be under way; what it gives is to be called when the request has left.

        Raises RequestFailed (nothing left) where the program is told to stop during a wait.
        """
        lane = self._lane(host)
        async with lane.places:
            await lane.gate.acquire()
            shut = True

            def departed() -> None:
                nonlocal shut
                if shut:
                    shut = False
                    lane.last = self._clock.now()
                    lane.gate.release()

            try:
                await self._take_place(host, lane)
                try:
                    if not lane.spacing:
                        departed()
                    yield departed
                finally:
                    self._everyone.release()
            finally:
                departed()  # it may have left without a word, or not at all

    async def _take_place(self, host: str, lane: _Lane) -> None:
        """Waits until the host may be asked, and comes back with one of everybody's places."""
        while True:
            while delay := lane.delay(self._clock.now()):
                try:
                    await self._clock.sleep(delay)
                except Stopped:
                    raise RequestFailed(f"{host}: stopped while waiting until it may be asked", left=False) from None
            await self._everyone.acquire()
            if not lane.delay(self._clock.now()):
                return
            self._everyone.release()  # the host asked for a pause while this waited for its place

    def _lane(self, host: str) -> _Lane:
        if host not in self._lanes:
            self._lanes[host] = _Lane(self._limits)
        return self._lanes[host]
