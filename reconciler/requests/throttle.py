"""What services are spared: places for all requests, places for each host, a rate, and the waits that a host asks for.

One throttle serves all clients of the process. A request takes its places in one order: its host's, then the host's
gate, then one of everybody's, which it takes only when nothing is left to wait for. So a host that hangs, is slow or
asked for a pause fills its own lane and no other, and no two requests can wait for each other.

Everybody's places are given out so that those hosts cannot have all of them (`_Places`): a host that was asked and has
not answered soon gets few, whoever answers gets what is free.

Where a rate is set, the gate stays shut until the request before has really left: requests then keep their distance at
the server, however long a connection took to open.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from reconciler.model.clock import Clock, Stopped
from reconciler.model.errors import TransportError
from reconciler.model.settings import Limits

__all__ = ["LONGEST", "Throttle"]

LONGEST = timedelta(seconds=60)
"""The longest pause that a host may ask for (docs/design/rules.md, "Execute")."""

MARGIN = 1.05
"""The network shifts requests against each other: a twentieth of a second in every second is left free for that."""

SOON = 10
"""A host that takes longer to answer than this part of the timeout keeps others waiting."""

_NONE = timedelta()
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class _Lane:
    """One host's: its places, its gate, when the last request left, and until when it asked for a pause.

    `under_way` counts its requests at this moment, `unheard` those that it was sent since it last answered soon.
    """

    def __init__(self, limits: Limits) -> None:
        self.places = asyncio.Semaphore(limits.per_host)
        self.gate = asyncio.Lock()
        self.spacing = timedelta(seconds=MARGIN / limits.rate) if limits.rate else _NONE
        self.last = self.held = _LONG_AGO
        self.under_way = self.unheard = 0

    def delay(self, now: datetime) -> float:
        """Seconds to wait from now on. A wall clock that was set back does not hold a lane for hours."""
        self.last = min(self.last, now)
        self.held = min(self.held, now + LONGEST)
        return max(self.last + self.spacing - now, self.held - now, _NONE).total_seconds()


class _Places:
    """Everybody's places.

    A host that has nothing under way gets one as soon as one is free. Another it gets while more are free than it has
    requests unheard of: of one that begins to hang this leaves others some, however many hang; one that answers has it
    all. Half of the places at most are held against it, so that hosts that hang for long share half of them, and one
    each, and a host that recovers is soon heard again.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._enough = (places - 1) // 2
        self._waiting: deque[tuple[_Lane, asyncio.Future[None]]] = deque()

    async def take(self, lane: _Lane) -> None:
        """Wait for a place; first come, first served among those that may have one."""
        if self._open_to(lane):
            self._give(lane)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((lane, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove((lane, turn))
            else:  # it was given one just before
                self.give_back(lane)
            raise

    def give_back(self, lane: _Lane) -> None:
        """Let go of a place; who waits is served."""
        self._free += 1
        lane.under_way -= 1
        for waiting in list(self._waiting):
            if not self._free:
                return
            if self._open_to(waiting[0]) and not waiting[1].done():
                self._waiting.remove(waiting)
                self._give(waiting[0])
                waiting[1].set_result(None)

    def _open_to(self, lane: _Lane) -> bool:
        return self._free > (min(lane.unheard, self._enough) if lane.under_way else 0)

    def _give(self, lane: _Lane) -> None:
        self._free -= 1
        lane.under_way += 1


class Throttle:
    """The limits of docs/settings.md, kept over all services."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._everyone = _Places(limits.concurrency)
        self._soon = limits.timeout / SOON
        self._lanes: dict[str, _Lane] = {}

    def hold(self, host: str, pause: timedelta) -> None:
        """Nothing leaves for the host until the pause, at most a minute, is over."""
        lane = self._lane(host)
        lane.held = max(lane.held, self._clock.now() + min(pause, LONGEST))

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[Callable[[], None]]:
        """A place in which one request may be under way; what it gives is to be called when the request has left.

        The host has answered where the block ends without an error. Raises TransportError (nothing left) where the
        program is told to stop during a wait.
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
                lane.unheard += 1
                began = self._clock.now()
                try:
                    if not lane.spacing:
                        departed()
                    yield departed
                    if self._clock.now() - began <= self._soon:
                        lane.unheard = 0
                finally:
                    self._everyone.give_back(lane)
            finally:
                departed()  # it may have left without a word, or not at all

    async def _take_place(self, host: str, lane: _Lane) -> None:
        """Waits until the host may be asked, and comes back with one of everybody's places."""
        while True:
            while delay := lane.delay(self._clock.now()):
                try:
                    await self._clock.sleep(delay)
                except Stopped:
                    raise TransportError(f"{host}: stopped while waiting until it may be asked", left=False) from None
            await self._everyone.take(lane)
            if not lane.delay(self._clock.now()):
                return
            self._everyone.give_back(lane)  # the host asked for a pause while this waited for its place

    def _lane(self, host: str) -> _Lane:
        if host not in self._lanes:
            self._lanes[host] = _Lane(self._limits)
        return self._lanes[host]
