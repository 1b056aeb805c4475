"""Slices made in this process, which has the state to itself: a queue for each service and lane.

A service that hangs delays its own passes and no others. Passes for people, commits and due retries do not wait behind
the interval's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from reconciler.daemon.slices import Counting, Lane, Make, PassRequest, Slice, Spawn
from reconciler.engine.context import SystemClock
from reconciler.engine.state import OpenState
from reconciler.model.grant import Key

__all__ = ["Queues", "ServiceQueue"]

MAX_RUNNING = 2
"""The most passes of one queue that run at a time."""

FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=1), timedelta(minutes=1)
"""After how long a pass is made again when the ledger or the clone failed; the wait doubles with each failure."""


Work = Callable[[], Awaitable[None]]


class ServiceQueue:
    """A queue of work, of which `MAX_RUNNING` run at a time, in tasks that `spawn` starts."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._waiting: deque[tuple[Work, bool]] = deque()
        self._workers = 0

    def __len__(self) -> int:
        """The number of items that wait."""
        return len(self._waiting)

    def put(self, work: Work, *, alone: bool = False) -> None:
        """Add work to the queue; with `alone`, it begins when all before it has ended."""
        self._waiting.append((work, alone))
        if self._workers < MAX_RUNNING:
            self._workers += 1
            self._spawn(self._work())

    def clear(self) -> None:
        """Drop everything that waits."""
        self._waiting.clear()

    async def _work(self) -> None:
        try:
            while self._waiting:
                work, alone = self._waiting[0]
                if alone and self._workers > 1:
                    return  # who ends last makes it
                self._waiting.popleft()
                await work()
        finally:
            self._workers -= 1


class Queues:
    """The queues of every service, over a state that only this process writes to."""

    alone = leads = True
    away = None

    def __init__(self, clock: SystemClock, state: OpenState, make: Make, spawn: Spawn) -> None:
        self._clock = clock
        self._state = state
        self._make = make
        self._spawn = spawn
        self._queues: dict[tuple[Lane, str, bool], ServiceQueue] = {}
        self._released = 0
        """The number of slices that override the guard and are not made yet."""
        self._waiting: Counter[Key] = Counter()
        self._retries: dict[tuple[str, PassRequest], Slice] = {}
        self._failed_parts: set[tuple[str, PassRequest]] = set()
        """The parts of passes that have to be made again."""
        self._retries_at = clock.now()
        self._retry_delay = FIRST_RETRY

    @property
    def waiting(self) -> frozenset[Key]:
        """The single grants that are in a queue or in a pass."""
        return frozenset(self._waiting)

    @property
    def at_risk(self) -> bool:
        """Whether a slice that overrides the guard is not made yet."""
        return self._released > 0

    def put(self, slices: Sequence[Slice], *, at_most: int | None = None) -> None:
        """Queue slices of one service; none where `at_most` wait."""
        queue: ServiceQueue | None = None
        for item in slices:
            if queue is None:
                queue = ServiceQueue(self._spawn)
                if item.lane is not Lane.NOW:  # these slices wait only for each other
                    queue = self._queues.setdefault((item.lane, item.service, item.request.released), queue)
            if at_most is None or len(queue) < at_most:
                self._released += item.request.released
                self._waiting.update(item.request.selection.grants or ())
                queue.put(partial(self._made, item), alone=item.request.counting is Counting.END)

    def clear(self, services: Collection[str] | None = None) -> None:
        """Drop what waits in the interval's queues of services, or of all, but for what overrides the guard."""
        for (lane, service, released), queue in self._queues.items():
            if lane is Lane.INTERVAL and not released and (services is None or service in services):
                queue.clear()

    def tick(self, now: datetime) -> None:
        """Make failed slices again, once they are due or the clock was set back."""
        if timedelta() < self._retries_at - now <= LONGEST_RETRY:
            return
        retries, self._retries = self._retries, {}
        for item in retries.values():
            self._spawn(self._again(item))

    async def finish(self) -> None:
        """Do nothing: the dispatcher awaits the tasks."""

    @asynccontextmanager
    async def leased(self, *services: str) -> AsyncIterator[OpenState]:  # noqa: ARG002
        """Return the state: this process has every service."""
        yield self._state

    def refuse_outdated(self) -> None:
        """Nobody else acts."""

    async def _made(self, item: Slice) -> None:
        try:
            await self._again(item)
        finally:
            self._waiting -= Counter(item.request.selection.grants or ())

    async def _again(self, item: Slice) -> None:
        if not self._lacks_parts(item) and await self._make(item):
            self._released -= item.request.released
            self._failed_parts.discard((item.service, item.request))
            self._retry_delay = FIRST_RETRY
            return
        if item.request.counting is Counting.PART:
            self._failed_parts.add((item.service, item.request))
        self._retries[item.service, item.request] = item
        self._retries_at = self._clock.now() + self._retry_delay
        self._retry_delay = min(2 * self._retry_delay, LONGEST_RETRY)

    def _lacks_parts(self, item: Slice) -> bool:
        """Whether it ends a pass of which a part failed and is not made again yet."""
        ends = item.request.counting is Counting.END
        return ends and any(service == item.service for service, _ in self._failed_parts)
