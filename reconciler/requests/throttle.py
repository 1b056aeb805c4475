"""The limits of requests: places for all of them, places for each host, a rate, and the pauses that a host asks for.

One throttle serves all clients of the process. A request takes its places in one order: its host's place, the host's
gate, then a shared place, once it has nothing else to wait for. So a host that hangs, is slow or asked for a pause
delays only its own lane, and no two requests can wait for each other.

The shared places are distributed so that such hosts cannot take all of them (`shares`).

With a rate, the gate stays shut until the previous request has really left, so that requests arrive at the server with
their distance however long connecting takes.

In a fleet the limits hold over all members, and this process's places change all the time (`shares`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from reconciler.model.clock import Clock, Stopped
from reconciler.model.errors import ReconcilerError, TransportError
from reconciler.model.log import event_log
from reconciler.model.settings import Limits
from reconciler.requests.shares import EVERYONE, Ask, Granted, HostPlaces, Share, Shared, SharedPlaces

LONGEST = timedelta(seconds=60)
"""The longest pause that a host may ask for (docs/design/rules.md, "Execute")."""

MARGIN = 1.05
"""The network shifts requests against each other: a twentieth of a second in every second is left free for that.

A request that leaves late, as its intent is written first, is followed that much sooner, by no more than the margin.
"""

TENTH = timedelta(seconds=0.1)
"""So much of a rate is taken at once in a fleet."""

SHARED_MARGIN = 1.15
"""The same where several machines send: each is late by itself."""

LATE = timedelta(seconds=0.05)
"""Who comes so late to a moment at which a request may leave takes another one, `DEPARTURES` times at most."""

DEPARTURES = 4

ROUNDED = timedelta(seconds=1)
"""What a host may leave out where it says in whole seconds until when its limit counts."""

SOON = 10
"""A host that takes longer to answer than this part of the timeout keeps others waiting."""

INTERVAL_SECONDS = 0.4
"""Between two exchanges with other members: they know of a pause within a second."""

GAP_SECONDS = 0.05
"""Between two exchanges for which somebody waits."""

_NONE = timedelta()
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class _Lane:
    """One host's: its places, its gate, when the last request was to leave, and until when it asked for a pause.

    Until `allowed_until` it said that it takes `allowed` requests more.

    In a fleet `departures` are how many requests may leave from `departure` on, each so much later than the one before.
    """

    def __init__(self, limits: Limits, wake: asyncio.Event | None, share: Share) -> None:
        self.places = HostPlaces(limits.per_host, wake)
        self.share = share
        self.gate = asyncio.Lock()
        margin = MARGIN if wake is None else SHARED_MARGIN
        self.spacing = timedelta(seconds=margin / limits.rate) if limits.rate else _NONE
        self.slack = timedelta(seconds=(MARGIN - 1) / limits.rate) if limits.rate else _NONE
        self.last = self.paused_until = self.departure = self.allowed_until = _LONG_AGO
        self.departures = 0
        self.allowed = 0

    def delay(self, now: datetime) -> float:
        """Return the seconds to wait. A wall clock that was set back does not block a lane for hours."""
        if not self.spacing and self.paused_until <= now:  # nearly always: there is neither a rate nor a pause
            return 0.0
        self.last = min(self.last, now)
        self.paused_until = min(self.paused_until, now + LONGEST)
        return max(self.last + self.spacing - now, self.paused_until - now, self.departure - now, _NONE).total_seconds()

    def late(self, now: datetime) -> bool:
        """Whether the time at which a request was to leave is past."""
        return self.departure + LATE < now

    def left(self, now: datetime) -> None:
        """Note that a request left."""
        self.last = max(self.last + self.spacing, now - self.slack)


class Throttle:
    """Enforce the limits of docs/settings.md over all services, and over a fleet if they are shared."""

    def __init__(self, limits: Limits, clock: Clock, shared: Shared | None = None) -> None:
        self._limits = limits
        self._clock = clock
        self._shared = shared
        self._wake = asyncio.Event()
        self._woken = self._wake if shared is not None else None
        self._everyone = SharedPlaces(limits.concurrency, self._woken, clock)
        self._soon = limits.timeout / SOON
        self._lanes: dict[str, _Lane] = {}
        self._pauses: dict[str, timedelta] = {}
        self._sharing: asyncio.Task[None] | None = None

    def hold(self, host: str, pause: timedelta) -> None:
        """Pause a host, for at most a minute: no request leaves for it."""
        pause = min(pause, LONGEST)
        self._hold(host, pause)
        if self._shared is not None:
            self._pauses[host] = pause
            self._wake.set()

    def allow(self, host: str, left: int, pause: timedelta) -> None:
        """Let only so many requests more leave for a host until a pause is over, if that is within a minute.

        Those that are under way may or may not be counted already, and answers may come in another order.
        """
        if pause > LONGEST:
            return
        lane, now = self._lane(host), self._clock.now()
        left = max(0, left - lane.share.under_way)
        lane.allowed = min(left, lane.allowed) if now < lane.allowed_until else left
        lane.allowed_until = now + pause + ROUNDED
        self._use_up(host, lane, 0)

    def _use_up(self, host: str, lane: _Lane, requests: int) -> None:
        """Count requests of those that a host said that it takes."""
        lane.allowed -= requests
        left = lane.allowed_until - self._clock.now()
        if not lane.allowed and left > _NONE:
            self.hold(host, left)

    def _hold(self, host: str, pause: timedelta) -> None:
        lane = self._lane(host)
        lane.paused_until = max(lane.paused_until, self._clock.now() + pause)

    # What members share

    async def _keep_sharing(self, shared: Shared) -> None:
        """Exchange until cancelled. While the exchange cannot be reached, members keep what they have."""
        fails = False
        while True:
            asks, pauses = self._asks(), self._pauses
            self._pauses = {}
            problem: str | None = None
            try:
                self._apply(await shared.exchange(asks, pauses))
            except ReconcilerError as error:
                self._pauses = {**pauses, **self._pauses}  # to be reported again
                problem = str(error)
            if fails != (problem is not None):
                fails = not fails
                _log(problem)
            await asyncio.sleep(GAP_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), INTERVAL_SECONDS - GAP_SECONDS)
            self._wake.clear()

    def _asks(self) -> list[Ask]:
        """Return what this process has and could use of each limit."""
        each, lanes = self._limits.per_host, {host: lane.places for host, lane in self._lanes.items()}
        asks = [Ask(host, each, max(part.places, part.used), part.wanted) for host, part in lanes.items()]
        # Whoever waits for a place at a host will then want one of everybody's.
        wanted = sum(min(each, part.wanted) for part in lanes.values())
        everyone = self._everyone
        asks.append(Ask(EVERYONE, self._limits.concurrency, max(everyone.places, everyone.used), wanted))
        return [ask for ask in asks if ask.has or ask.wants]

    def _apply(self, granted: Granted) -> None:
        for host, pause in granted.pauses.items():
            self._hold(host, pause)
        for name, places in granted.places.items():
            part = self._everyone if name == EVERYONE else self._lane(name).places
            if places < part.places:
                self._wake.set()  # somebody waits for what is let go of
            part.resize(places)

    def close(self) -> None:
        """Stop sharing."""
        if self._sharing is not None:
            self._sharing.cancel()

    @asynccontextmanager
    async def turn(self, host: str, *, behind: bool = False) -> AsyncIterator[Callable[[], None]]:
        """Hold a place for one request while the block runs; it yields what to call when the request left.

        It is waited for `behind` all who are not to wait behind others, who came later included.

        The host has answered where the block ends without an error. Raises TransportError (nothing left) where the
        shutdown is requested during a wait.
        """
        if self._shared is not None and (self._sharing is None or self._sharing.done()):
            self._sharing = asyncio.create_task(self._keep_sharing(self._shared))
        lane, shut = self._lane(host), False

        def departed() -> None:
            nonlocal shut
            if shut:
                shut = False
                if lane.spacing:
                    lane.left(self._clock.now())
                lane.gate.release()

        await lane.places.take(behind=behind)
        try:
            shut = await lane.gate.acquire()
            began = await self._take_place(host, lane)
            lane.share.sent(departed, began)
            if lane.allowed:
                self._use_up(host, lane, 1)
            if not lane.spacing:
                departed()
            answered = False
            try:
                yield departed
                answered = True
            finally:
                took = self._clock.now() - began
                lane.share.ended(departed, took, soon=answered and took <= self._soon)
                self._everyone.give_back(lane.share)
        finally:
            departed()  # it may have left without a word, or not at all
            lane.places.give_back()

    async def _take_place(self, host: str, lane: _Lane) -> datetime:
        """Wait until the host may get a request, take one of the shared places, and return the time."""
        shared, taken = self._shared if lane.spacing else None, 0
        while True:
            if shared is not None and (not taken or (taken < DEPARTURES and lane.late(self._clock.now()))):
                await self._take_departure(shared, host, lane)
                taken += 1
            while delay := lane.delay(self._clock.now()):
                try:
                    await self._clock.sleep(delay)
                except Stopped:
                    raise TransportError(f"{host}: stopped while waiting until it may be asked", left=False) from None
            await self._everyone.take(lane.share)
            now = self._clock.now()
            if not lane.delay(now) and not (0 < taken < DEPARTURES and lane.late(now)):
                return now
            self._everyone.give_back(lane.share)  # meanwhile the host asked for a pause, or another's turn has come

    async def _take_departure(self, shared: Shared, host: str, lane: _Lane) -> None:
        """Reserve the next moment at which a request may leave for the host, over all members."""
        now = self._clock.now()
        if lane.departures and lane.departure + lane.spacing >= now:
            lane.departures -= 1
            lane.departure += lane.spacing
            return
        count = max(1, TENTH // lane.spacing)
        wait = await shared.departures(host, lane.spacing, count)
        lane.departures = count - 1
        lane.departure = self._clock.now() + wait

    def _lane(self, host: str) -> _Lane:
        if host not in self._lanes:
            self._lanes[host] = _Lane(self._limits, self._woken, self._everyone.share())
        return self._lanes[host]


def _log(problem: str | None) -> None:
    """Log why the exchange begins to fail, or that it works again."""
    if problem is None:
        event_log().info("limits.shared")
    else:
        event_log().warning("limits.not_shared", problem=problem)
