"""Passes are cut by service: one that hangs keeps its own grants waiting, and nobody else's.

A `Lane` is a service's queue for passes that can wait, those of the interval and those over everything. A few run at a
time; what people, commits and due retries ask for does not queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from reconciler.engine.observed import Selection
from reconciler.repository.desired import Service

__all__ = ["REST", "Lane", "cut"]

AT_ONCE = 4
"""So many of a lane's passes run side by side."""

REST = ""
"""The lane of what belongs to no service that can be read: broken manifests, entries that name none, what was left."""

Work = Callable[[], Awaitable[None]]


def cut(
    selection: Selection, services: Mapping[str, Service], involved: Collection[str] | None = None
) -> dict[str, Selection]:
    """A selection, cut into those of single services; what it has of none is the `REST`.

    `involved` are the integrations that it can meet, where that is known: there are no others' lanes then.
    """
    manifests = {name: frozenset(service.manifests) for name, service in services.items()}
    known = frozenset().union(*manifests.values())
    wanted = selection.integrations
    if involved is not None:
        wanted = frozenset(involved) if wanted is None else wanted & frozenset(involved)
    found = {
        name: replace(selection, integrations=own if selection.integrations is None else own & selection.integrations)
        for name, own in manifests.items()
        if wanted is None or own & wanted
    }
    if wanted is None or not wanted <= known:
        found[REST] = replace(selection, without=known)
    return found


class Lane:
    """Work that waits for its turn. `spawn` starts a task and sees to its end."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._spawn = spawn
        self._waiting: deque[Work] = deque()
        self._workers = 0

    def __len__(self) -> int:
        """How much waits."""
        return len(self._waiting)

    def put(self, work: Work) -> None:
        """Do this when its turn comes."""
        self._waiting.append(work)
        if self._workers < AT_ONCE:
            self._workers += 1
            self._spawn(self._work())

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._waiting.popleft()()
        finally:
            self._workers -= 1
