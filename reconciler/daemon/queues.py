"""Slices made in this process, which has the state alone: a queue for those that can wait for each other.

A service that hangs keeps its own passes waiting, and no other's. What people, commits and due retries ask for is not
queued behind the interval's passes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from reconciler.daemon.slices import Lane, Make, Slice, Spawn
from reconciler.engine.context import SystemClock
from reconciler.engine.state import OpenState
from reconciler.model.grant import Key
from reconciler.model.selection import Selection

__all__ = ["Queues", "ServiceQueue"]

MAX_RUNNING = 2
"""How many passes of one queue run side by side."""

FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=1), timedelta(minutes=1)
"""After how long a pass that the ledger ended is made again; the wait doubles with each failure."""


Work = Callable[[], Awaitable[None]]


class ServiceQueue:
    """Work that waits for its turn. `spawn` starts a task and awaits its end."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._waiting: deque[Work] = deque()
        self._workers = 0

    def __len__(self) -> int:
        """How much waits."""
        return len(self._waiting)

    def put(self, work: Work) -> None:
        """Do the work when its turn comes."""
        self._waiting.append(work)
        if self._workers < MAX_RUNNING:
            self._workers += 1
            self._spawn(self._work())

    def clear(self) -> None:
        """Drop what waits."""
        self._waiting.clear()

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._waiting.popleft()()
        finally:
            self._workers -= 1


class Queues:
    """The queues of every service, over a state that this process has alone."""

    alone = leads = True
    away = None

    def __init__(self, clock: SystemClock, state: OpenState, make: Make, spawn: Spawn) -> None:
        self._clock = clock
        self._state = state
        self._make = make
        self._spawn = spawn
        self._queues: dict[tuple[Lane, str], ServiceQueue] = {}
        self._waiting: Counter[Key] = Counter()
        self._retries: dict[tuple[Selection, bool], Slice] = {}
        self._retries_at = clock.now()
        self._retry_delay = FIRST_RETRY

    @property
    def waiting(self) -> frozenset[Key]:
        """The single grants that are in a queue or in a pass."""
        return frozenset(self._waiting)

    def put(self, slices: Sequence[Slice], *, at_most: int | None = None) -> None:
        """Queue slices of one service; none where `at_most` wait."""
        queue: ServiceQueue | None = None
        for item in slices:
            if queue is None:
                queue = ServiceQueue(self._spawn)
                if item.lane is not Lane.NOW:  # what is asked for now waits for its own parts only
                    queue = self._queues.setdefault((item.lane, item.service), queue)
            if at_most is None or len(queue) < at_most:
                self._waiting.update(item.request.selection.grants or ())
                queue.put(partial(self._made, item))

    def clear(self) -> None:
        """Drop what waits in the interval's queues."""
        for (lane, _), queue in self._queues.items():
            if lane is Lane.INTERVAL:
                queue.clear()

    def tick(self, now: datetime) -> None:
        """Make the slices that the ledger ended again, once their time has come or the clock was set back."""
        if timedelta() < self._retries_at - now <= LONGEST_RETRY:
            return
        retries, self._retries = self._retries, {}
        for item in retries.values():
            self._spawn(self._again(item))

    async def finish(self) -> None:
        """The dispatcher awaits its own tasks."""

    @asynccontextmanager
    async def holding(self, *services: str) -> AsyncIterator[OpenState]:  # noqa: ARG002
        """The state: this process has every service."""
        yield self._state

    async def _made(self, item: Slice) -> None:
        try:
            await self._again(item)
        finally:
            self._waiting -= Counter(item.request.selection.grants or ())

    async def _again(self, item: Slice) -> None:
        if await self._make(item):
            self._retry_delay = FIRST_RETRY
            return
        self._retries[item.request.selection, item.request.released] = item
        self._retries_at = self._clock.now() + self._retry_delay
        self._retry_delay = min(2 * self._retry_delay, LONGEST_RETRY)
