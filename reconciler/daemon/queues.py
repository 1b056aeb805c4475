"""Passes are cut by service: one that hangs keeps its own grants waiting, and nobody else's.

A `ServiceQueue` holds passes that can wait, those of the interval and those over everything. A few run at a time; what
people, commits and due retries ask for does not queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from reconciler.model.grant import Key
from reconciler.model.selection import Selection
from reconciler.repository.desired import Service

__all__ = ["REST", "ServiceQueue", "cut", "in_parts"]

AT_ONCE = 2
"""So many of a lane's passes run side by side."""

REST = ""
"""The lane of what belongs to no service that can be read: broken manifests, entries that name none, what was left."""

Dispatcher = Callable[[], Awaitable[None]]


def cut(
    selection: Selection, services: Mapping[str, Service], met: Iterable[tuple[str, str]] | None = None
) -> dict[str, Selection]:
    """A selection, cut into those of single services; what it has of none is the `REST`.

    `met` says which hire has to do with which integration, where that is known: each part then has its own hires only,
    and whoever has to do with none is in the rest.
    """
    manifests = {name: frozenset(service.manifests) for name, service in services.items()}
    home = {integration: name for name, own in manifests.items() for integration in own}
    if met is None:
        names = {home.get(item, REST) for item in selection.integrations or ()} if selection.integrations else None
        return {name: _part(selection, name, manifests, selection.hires) for name in names or {*manifests, REST}}
    hires: dict[str, set[str]] = {}
    for hire, integration in met:
        hires.setdefault(home.get(integration, REST), set()).add(hire)
    idle = (selection.hires or frozenset()).difference(*hires.values())
    if idle:
        hires.setdefault(REST, set()).update(idle)
    # Where everybody has to do with a service, the parts share one set: thousands of them may wait in their lanes.
    everybody = selection.hires or frozenset()
    return {
        name: _part(selection, name, manifests, everybody if theirs == everybody else frozenset(theirs))
        for name, theirs in hires.items()
    }


def _part(
    selection: Selection, name: str, manifests: Mapping[str, frozenset[str]], hires: frozenset[str] | None
) -> Selection:
    if name == REST:
        return replace(selection, hires=hires, without=frozenset().union(*manifests.values()))
    own = manifests[name]
    return replace(
        selection, hires=hires, integrations=own if selection.integrations is None else own & selection.integrations
    )


def in_parts(selection: Selection, most: int) -> Iterator[Selection]:
    """A selection of hires as several, each of so many hires at most and of their grants."""
    hires = sorted(selection.hires or ())
    grants: dict[str, list[Key]] = {}
    for key in selection.grants or ():
        grants.setdefault(key.hire, []).append(key)
    for place in range(0, len(hires), most):
        some = hires[place : place + most]
        theirs = None if selection.grants is None else frozenset(key for hire in some for key in grants.get(hire, ()))
        yield replace(selection, hires=frozenset(some), grants=theirs)


class ServiceQueue:
    """Work that waits for its turn. `spawn` starts a task and sees to its end."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._spawn = spawn
        self._waiting: deque[Dispatcher] = deque()
        self._workers = 0

    def __len__(self) -> int:
        """How much waits."""
        return len(self._waiting)

    def put(self, work: Dispatcher) -> None:
        """Do this when its turn comes."""
        self._waiting.append(work)
        if self._workers < AT_ONCE:
            self._workers += 1
            self._spawn(self._dispatcher())

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    async def _dispatcher(self) -> None:
        try:
            while self._waiting:
                await self._waiting.popleft()()
        finally:
            self._workers -= 1
