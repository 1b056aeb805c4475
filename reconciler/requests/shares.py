"""The places of requests: those of each host, and those that all hosts share; and what speaks for a host's hanging.

The shared places are distributed so that hosts that hang cannot take all of them: a host that does not answer as it
usually does gets few, one that does gets what is free.

The members of a fleet share the limits, so that they hold for all of them together. A member reports how many places it
has of each limit and how many it could use, and learns how many it may use from now on. It never has more than it
reported last: it first releases places, then reports, and only then another member gets them. A member that is alone
has them all. Pauses that hosts asked for are shared in the same way. With a `rate`, the moments at which requests may
leave for a host are reserved one by one, or a tenth of a second's worth at a time. The other side is a `Shared`: rows
of the state that the members share. On one machine there is none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from reconciler.model.clock import Clock
from reconciler.model.value import Frozen

T = TypeVar("T")
Waiting = deque[tuple[T, asyncio.Future[None]]]
"""Who waits for a place, first come, first served."""

USUAL = 8
"""The time that a host usually takes is an average over about so many answers."""

PATIENCE = 4
"""A request that takes so many times as long as its host usually does is late."""

AT_LEAST = timedelta(seconds=0.25)
"""No request is late before this."""

KEPT = 10
"""This part of the shared places is kept for hosts that have nothing under way, one for each at most."""


class _Places:
    """Places, of which there may be more or fewer from one moment to the next."""

    def __init__(self, limit: int, wake: asyncio.Event | None) -> None:
        self.places = limit if wake is None else 0
        self.used = 0
        self._limit = limit
        self._wake = wake

    async def _wait(self, waiting: Waiting[T], who: T, give_back: Callable[[], None]) -> None:
        """Wait in a queue until a place is given, which is given back where this is cancelled just then."""
        if self._wake is not None and self.places < self._limit:  # else there are no others to hear of
            self._wake.set()
        turn = asyncio.get_running_loop().create_future()
        waiting.append((who, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # another task may have removed it already
                    waiting.remove((who, turn))
            else:
                give_back()
            raise


class HostPlaces(_Places):
    """One host's places, first come, first served; but who is to wait `behind` others lets all go first who are not."""

    def __init__(self, limit: int, wake: asyncio.Event | None) -> None:
        super().__init__(limit, wake)
        self._waiting: tuple[Waiting[None], Waiting[None]] = deque(), deque()

    @property
    def wanted(self) -> int:
        """Return how many places could be used."""
        return self.used + sum(map(len, self._waiting))

    async def take(self, *, behind: bool) -> None:
        """Wait for a place."""
        if self.used < self.places:  # then nobody waits
            self.used += 1
        else:
            await self._wait(self._waiting[behind], None, self.give_back)

    def give_back(self) -> None:
        """Return a place, to the first that waits for one."""
        self.used -= 1
        self.resize(self.places)

    def resize(self, places: int) -> None:
        """Change the number of places; requests in flight keep theirs."""
        self.places = places
        for waiting in self._waiting:
            while waiting and self.used < places:
                _, turn = waiting.popleft()
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


class SharedPlaces(_Places):
    """The places that all hosts share.

    A host that has nothing under way gets one as soon as one is free, and some are kept for the known hosts that have
    nothing under way. Another it gets while more are free than requests speak for its hanging: of one that begins to
    hang this leaves others some, however many hang; one that answers as it usually does has all the rest. Half of the
    places at most are held against it, so that hosts that hang for long share half of them, and one each, and a host
    that recovers soon gets its places back.
    """

    def __init__(self, limit: int, wake: asyncio.Event | None, clock: Clock) -> None:
        super().__init__(limit, wake)
        self._idle = 0
        """How many known hosts have nothing under way."""
        self._clock = clock
        self._waiting: Waiting[Share] = deque()

    def resize(self, places: int) -> None:
        """Change the number of places; requests in flight keep theirs."""
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
        else:
            await self._wait(self._waiting, share, lambda: self.give_back(share))

    def give_back(self, share: Share) -> None:
        """Return a place, to the first that waits for one."""
        self.used -= 1
        share.under_way -= 1
        self._idle += not share.under_way
        self._serve()

    def _serve(self) -> None:
        for waiting in list(self._waiting):
            if self.used >= self.places:
                return
            if self._open_to(waiting[0]) and not waiting[1].done():
                self._waiting.remove(waiting)
                self._give(waiting[0])
                waiting[1].set_result(None)

    def _open_to(self, share: Share) -> bool:
        free = self.places - self.used
        if not share.under_way or free <= 0:
            return free > 0
        kept = min(self._idle, -(-self.places // KEPT))
        return free > min(max(kept, share.held_against(self._clock.now())), (self.places - 1) // 2)

    def _give(self, share: Share) -> None:
        self.used += 1
        self._idle -= not share.under_way
        share.under_way += 1


# What members exchange


EVERYONE = "*"
"""The name of the limit over all hosts; that of a host's is the host."""


class Ask(Frozen):
    """What a member has of one limit, and how much it could use."""

    name: str
    limit: int
    has: int
    wants: int


class Granted(Frozen):
    """How many places of each limit a member may use, and how long each paused host must wait."""

    places: Mapping[str, int]
    pauses: Mapping[str, timedelta]


class Shared(Protocol):
    """The exchange between members. Raises LedgerError while it cannot be reached."""

    async def exchange(self, asks: Sequence[Ask], pauses: Mapping[str, timedelta]) -> Granted:
        """Report what this member has and could use, and learn what it may use."""

    async def departures(self, host: str, spacing: timedelta, count: int) -> timedelta:
        """Reserve the next moments at which requests may leave; return the time until the first."""

    def close(self) -> None:
        """Stop sharing: the state is about to be closed."""


def fair(limit: int, wanted: Mapping[str, int], turn: int) -> dict[str, int]:
    """Divide the places: no member gets more than it wants while others lack some.

    Those that are left over one by one go round with `turn`, and what no member wants is for the next one that does.
    """
    names = sorted(wanted)
    start = turn % len(names) if names else 0
    names = [*names[start:], *names[:start]]
    got, left = dict.fromkeys(names, 0), limit
    while left and (short := [name for name in names if got[name] < wanted[name]]):
        each = max(1, left // len(short))
        for name in short[:left]:
            more = min(each, wanted[name] - got[name], left)
            got[name] += more
            left -= more
    spare = left // len(names) if names else 0
    return {name: places + spare for name, places in got.items()}
