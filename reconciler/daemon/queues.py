"""Slices made in this process, which has the state to itself: a queue for each service and lane.

A service that hangs delays its own passes and no others. Passes for people, commits and due retries do not wait behind
the interval's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from reconciler.daemon.slices import Lane, Make, Slice, Spawn
from reconciler.engine.context import SystemClock
from reconciler.engine.run.runner import LockedState
from reconciler.engine.state import OpenState
from reconciler.model.grant import Key
from reconciler.model.selection import PassRequest

__all__ = ["Queues", "ServiceQueue"]

MAX_RUNNING = 2
"""The most passes of one queue that run at a time."""

FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=1), timedelta(minutes=1)
"""After how long a pass is made again when the ledger or the clone failed; the wait doubles with each failure."""


Item = TypeVar("Item")


class ServiceQueue(Generic[Item]):
    """A queue of items, of which `MAX_RUNNING` are worked on at a time, in tasks that `spawn` starts."""

    def __init__(self, spawn: Spawn, work: Callable[[Item], Awaitable[None]]) -> None:
        self._spawn = spawn
        self._work_on = work
        self._waiting: deque[Item] = deque()
        self._workers = 0

    def __len__(self) -> int:
        """The number of items that wait."""
        return len(self._waiting)

    def put(self, item: Item) -> None:
        """Add an item to the queue."""
        self._waiting.append(item)
        if self._workers < MAX_RUNNING:
            self._workers += 1
            self._spawn(self._work())

    def clear(self) -> list[Item]:
        """Drop everything that waits, and return it."""
        dropped = [*self._waiting]
        self._waiting.clear()
        return dropped

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._work_on(self._waiting.popleft())
        finally:
            self._workers -= 1


class Queues(LockedState):
    """The queues of every service, over a state that only this process writes to."""

    alone = leads = True
    away = None

    def __init__(self, clock: SystemClock, state: OpenState, make: Make, spawn: Spawn) -> None:
        super().__init__(state)
        self._clock = clock
        self._make = make
        self._spawn = spawn
        self._queues: dict[tuple[Lane, str, bool], ServiceQueue[Slice]] = {}
        self._released = 0
        """The number of slices that override the guard and are not made yet."""
        self._waiting: Counter[Key] = Counter()
        self._retries: dict[tuple[str, PassRequest], Slice] = {}
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
        queue: ServiceQueue[Slice] | None = None
        for item in slices:
            if queue is None:
                queue = ServiceQueue(self._spawn, self._made)
                if item.lane is not Lane.NOW:  # these slices wait only for each other
                    queue = self._queues.setdefault((item.lane, item.service, item.request.released), queue)
            if at_most is None or len(queue) < at_most:
                self._released += item.request.released
                self._waiting.update(item.request.selection.grants or ())
                queue.put(item)

    def clear(self, services: Collection[str]) -> None:
        """Drop what waits in the interval's queues of services, but for what overrides the guard."""
        for (lane, service, released), queue in self._queues.items():
            if lane is Lane.INTERVAL and not released and service in services:
                for item in queue.clear():
                    self._settle(item)
                    self._waiting -= Counter(item.request.selection.grants or ())

    def tick(self, now: datetime) -> None:
        """Make failed slices again, once they are due or the clock was set back."""
        if timedelta() < self._retries_at - now <= LONGEST_RETRY:
            return
        retries, self._retries = self._retries, {}
        for item in retries.values():
            self._spawn(self._again(item))

    async def finish(self) -> None:
        """Do nothing: the dispatcher awaits the tasks."""

    async def _made(self, item: Slice) -> None:
        try:
            await self._again(item)
        finally:
            self._waiting -= Counter(item.request.selection.grants or ())

    async def _again(self, item: Slice) -> None:
        if await self._make(item):
            self._settle(item)
            self._retry_delay = FIRST_RETRY
            return
        if self._retries.setdefault((item.service, item.request), item) is not item:
            self._settle(item)  # the same one waits already
        self._retries_at = self._clock.now() + self._retry_delay
        self._retry_delay = min(2 * self._retry_delay, LONGEST_RETRY)

    def _settle(self, item: Slice) -> None:
        """Note that a slice does not have to be made any more."""
        self._released -= item.request.released
