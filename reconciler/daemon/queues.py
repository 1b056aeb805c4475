"""The queue of one service: passes that can wait for each other.

A service that hangs keeps its own passes waiting, and no other's. What people, commits and due retries ask for is not
queued behind the interval's passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

__all__ = ["ServiceQueue"]

MAX_RUNNING = 2
"""How many passes of one queue run side by side."""

Work = Callable[[], Awaitable[None]]


class ServiceQueue:
    """Work that waits for its turn. `spawn` starts a task and awaits its end."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
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
