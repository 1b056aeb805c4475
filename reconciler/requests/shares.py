"""The places of requests: those of each host, and those that all hosts share; and what speaks for a host's hanging.

The shared places are distributed so that hosts that hang cannot take all of them: a host that does not answer as it
usually does gets few, one that does gets what is free.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta

from reconciler.model.clock import Clock

__all__ = ["HostPlaces", "Share", "SharedPlaces"]

USUAL = 8
"""The time that a host usually takes is an average over about so many answers."""

PATIENCE = 4
"""A request that takes so many times as long as its host usually does is late."""

AT_LEAST = timedelta(seconds=0.25)
"""No request is late before this."""

KEPT = 10
"""This part of the shared places is kept for hosts that have nothing under way, one for each at most."""


class HostPlaces:
    """One host's places, first come, first served; but who is to wait `behind` others lets all go first who are not.

    There may be more or fewer of them from one moment to the next.
    """

    def __init__(self, limit: int, wake: asyncio.Event | None) -> None:
        self.places = limit if wake is None else 0
        self.used = 0
        self._limit = limit
        self._wake = wake
        self._waiting: dict[bool, deque[asyncio.Future[None]]] = {False: deque(), True: deque()}

    @property
    def wanted(self) -> int:
        """Return how many places could be used."""
        return self.used + sum(map(len, self._waiting.values()))

    async def take(self, *, behind: bool) -> None:
        """Wait for a place."""
        if self.used < self.places:  # then nobody waits
            self.used += 1
            return
        waiting = self._waiting[behind]
        if self._wake is not None and self.places < self._limit:  # else there are no others to hear of
            self._wake.set()
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # another task may have removed it already
                    waiting.remove(turn)
            else:  # it was given one just before
                self.give_back()
            raise

    def give_back(self) -> None:
        """Return a place, to the first that waits for one."""
        self.used -= 1
        self.resize(self.places)

    def resize(self, places: int) -> None:
        """Change the number of places; requests in flight keep theirs."""
        self.places = places
        for waiting in self._waiting.values():
            while waiting and self.used < places:
                turn = waiting.popleft()
                if not turn.done():
                    self.used += 1
                    turn.set_result(None)


class Share:
    """What one host has of the shared places, and what speaks for its hanging.

    `under_way` counts its requests at this moment. `unheard` counts, since it last answered soon, those that are late
    or failed; and while it never answered, or there is such a one, all that it is sent.
    """

    def __init__(self) -> None:
        self.under_way = self.unheard = 0
        self._usual: timedelta | None = None
        self._trusted: dict[object, datetime] = {}
        """Its requests under way that are not late, and when each began, oldest first."""

    def sent(self, request: object, now: datetime) -> None:
        """Count a request that the host is sent."""
        if self._usual is None or self.unheard:
            self.unheard += 1
        else:
            self._trusted[request] = now

    def ended(self, request: object, took: timedelta, *, soon: bool) -> None:
        """Count a request's end: an answer that came soon, or another end."""
        trusted = self._trusted.pop(request, None) is not None
        if soon:
            self.unheard = 0
            self._usual = took if self._usual is None else self._usual + (took - self._usual) / USUAL
        elif trusted:
            self.unheard += 1

    def held_against(self, now: datetime) -> int:
        """Return how many requests speak for the host's hanging."""
        patience = AT_LEAST if self._usual is None else max(AT_LEAST, PATIENCE * self._usual)
        while self._trusted:
            oldest = next(iter(self._trusted))
            if now - self._trusted[oldest] <= patience:
                break
            del self._trusted[oldest]
            self.unheard += 1
        return self.unheard


class SharedPlaces:
    """The places that all hosts share.

    A host that has nothing under way gets one as soon as one is free, and some are kept for the known hosts that have
    nothing under way. Another it gets while more are free than requests speak for its hanging: of one that begins to
    hang this leaves others some, however many hang; one that answers as it usually does has all the rest. Half of the
    places at most are held against it, so that hosts that hang for long share half of them, and one each, and a host
    that recovers soon gets its places back.
    """

    def __init__(self, limit: int, wake: asyncio.Event | None, clock: Clock) -> None:
        self.places = self._free = limit if wake is None else 0
        self._idle = 0
        """How many known hosts have nothing under way."""
        self._clock = clock
        self._limit = limit
        self._wake = wake
        self._waiting: deque[tuple[Share, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        """Return how many are taken."""
        return self.places - self._free

    def resize(self, places: int) -> None:
        """Change the number of places; requests in flight keep theirs."""
        self._free += places - self.places
        self.places = places
        self._serve()

    def share(self) -> Share:
        """Make the share of a host that is known from now on."""
        self._idle += 1
        return Share()

    async def take(self, share: Share) -> None:
        """Wait for a place; first come, first served among the hosts that may have one."""
        if self._open_to(share):
            self._give(share)
            return
        if self._wake is not None and self.places < self._limit:
            self._wake.set()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((share, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove((share, turn))
            else:  # it was given one just before
                self.give_back(share)
            raise

    def give_back(self, share: Share) -> None:
        """Return a place, to the first that waits for one."""
        self._free += 1
        share.under_way -= 1
        self._idle += not share.under_way
        self._serve()

    def _serve(self) -> None:
        for waiting in list(self._waiting):
            if self._free <= 0:
                return
            if self._open_to(waiting[0]) and not waiting[1].done():
                self._waiting.remove(waiting)
                self._give(waiting[0])
                waiting[1].set_result(None)

    def _open_to(self, share: Share) -> bool:
        if not share.under_way or self._free <= 0:
            return self._free > 0
        kept = min(self._idle, -(-self.places // KEPT))
        return self._free > min(max(kept, share.held_against(self._clock.now())), (self.places - 1) // 2)

    def _give(self, share: Share) -> None:
        self._free -= 1
        self._idle -= not share.under_way
        share.under_way += 1
