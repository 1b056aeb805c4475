"""Slices, how they are cut, and what runs them. A slice is what one pass covers: a part of one service.

The dispatcher cuts what is due into slices and gives them to a runner: the queues of this process, which has the state
to itself, or the jobs of a fleet. Either one calls a dispatcher back to make each slice.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

from reconciler.daemon.runtime import Runtime
from reconciler.engine.observe.listings import Listings
from reconciler.engine.run.runner import LockedState
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.reader import LedgerReader
from reconciler.model.grant import Key
from reconciler.model.revision_status import Stale
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.value import Frozen, replace
from reconciler.repository.desired import NO_SERVICE, Desired, Service
from reconciler.requests.tasks import FEW, Yielder

Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Starts a task, which is awaited before the daemon ends."""


class Outdated(Exception):
    """Others acted on a newer revision while a pass waited for its service: the slice is for a member that has it."""


class Lane(StrEnum):
    """Which slices of a service wait for each other: those of one call, of due retries, of the interval."""

    NOW = "now"
    DUE = "due"
    INTERVAL = "interval"


class Slice(Frozen):
    """One pass over a part of a service; several slices may share their `listings`."""

    service: str
    request: PassRequest
    lane: Lane
    queued_at: datetime
    listings: Listings | None = None


Make = Callable[[Slice], Awaitable[bool]]
"""Makes a slice; returns False if the ledger or this clone failed, and it has to be made again."""


async def by_service(
    selection: Selection, desired: Desired, ledger: Ledger[LedgerReader], yielder: Yielder
) -> dict[str, Selection]:
    """Cut a selection by service; each part has only the hires and the single grants that use its service.

    All grants of a service that was down may be due at once, so single grants are looked through a few hires at a time.
    """
    if selection.hires is None:
        return cut(selection, desired.services)
    if selection.grants is None:
        hires = selection.hires
        noted = await ledger.run(lambda reader: list(reader.grants.integrations(hires)))
        wanted = ((hire, integration) for hire in hires for integration in desired.integrations(hire))
        uses = chain(wanted, noted)
        return cut(selection, desired.services, [use for use in uses if selection.covers_some_of(use[1])])
    found = list[tuple[Key, str]]()
    for some in selection.parts(FEW):
        await yielder.pause()
        named = some.hires or frozenset()
        found += await ledger.run(partial(_noted, named=named, grants=selection.grants))
        grants = chain.from_iterable(map(desired.grants, named))
        found += [(each.key, each.integration) for each in grants if selection.covers(each.key, each.integration)]
    own: dict[str, set[Key]] = {}
    for key, integration in found:
        own.setdefault(desired.service_of(integration), set()).add(key)
    parts = cut(selection, desired.services, [(key.hire, integration) for key, integration in found])
    return {name: replace(part, grants=frozenset(own.get(name, ()))) for name, part in parts.items()}


def _noted(ledger: LedgerReader, named: Collection[str], grants: Collection[Key]) -> list[tuple[Key, str]]:
    """Return the integrations of some grants, as the ledger has them."""
    return [(record.key, record.integration) for record in ledger.grants.records(named) if record.key in grants]


def cut(
    selection: Selection, services: Mapping[str, Service], uses: Iterable[tuple[str, str]] | None = None
) -> dict[str, Selection]:
    """Cut a selection into one for each service; what belongs to no service is in the part of `NO_SERVICE`.

    `uses` are pairs of a hire and an integration that it uses, if known: each part then has only the hires that use the
    service. Hires that use none are in the part of `NO_SERVICE`, unless only some integrations are selected.
    """
    manifests = {name: frozenset(service.manifests) for name, service in services.items()}
    service_of = {integration: name for name, own in manifests.items() for integration in own}
    if uses is None:
        names = {service_of.get(item, NO_SERVICE) for item in selection.integrations or ()} or {*manifests, NO_SERVICE}
        return {name: _part(selection, name, manifests, selection.hires) for name in names}
    hires: dict[str, set[str]] = {}
    for hire, integration in uses:
        hires.setdefault(service_of.get(integration, NO_SERVICE), set()).add(hire)
    if selection.integrations is None and (idle := (selection.hires or frozenset()).difference(*hires.values())):
        hires.setdefault(NO_SERVICE, set()).update(idle)
    # Parts that all hires use share one set: thousands of parts may wait in queues.
    all_hires = selection.hires or frozenset()
    return {
        name: _part(selection, name, manifests, all_hires if users == all_hires else frozenset(users))
        for name, users in hires.items()
    }


def _part(
    selection: Selection, name: str, manifests: Mapping[str, frozenset[str]], hires: frozenset[str] | None
) -> Selection:
    if name == NO_SERVICE:
        return replace(selection, hires=hires, without=frozenset().union(*manifests.values()))
    own = manifests[name]
    return replace(
        selection, hires=hires, integrations=own if selection.integrations is None else own & selection.integrations
    )


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

    exclusive = leads = True
    """It has every service to itself, and decides what is due."""
    unreachable = None
    """The state can be reached, as far as is known: only the next write will show it."""
    stale: Mapping[str, Stale | None] = {}
    """There is no other member."""

    def __init__(self, runtime: Runtime, make: Make) -> None:
        super().__init__(runtime.state)
        self._clock = runtime.clock
        self._make = make
        self._spawn = runtime.spawn
        self._queues: dict[tuple[Lane, str, str | None], ServiceQueue[Slice]] = {}
        self._released = 0
        """The number of slices that override the guard and are not made yet."""
        self._waiting: Counter[Key] = Counter()
        self._retries: dict[tuple[str, PassRequest], Slice] = {}
        self._retries_at = self._clock.now()
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
        """Queue slices of one service, each after those before it in its lane; none where `at_most` wait."""
        queue: ServiceQueue[Slice] | None = None
        for item in slices:
            if queue is None:
                queue = ServiceQueue(self._spawn, self._made)
                if item.lane is not Lane.NOW:  # these slices wait only for each other
                    queue = self._queues.setdefault((item.lane, item.service, item.request.released), queue)
            if at_most is None or len(queue) < at_most:
                self._released += item.request.released is not None
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
        self._released -= item.request.released is not None
