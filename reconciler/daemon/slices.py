"""Slices, and what runs them. A slice is what one pass covers: a part of one service.

The dispatcher cuts what is due into slices and gives them to a runner: the queues of this process, which has the state
to itself, or the jobs of a fleet. Either one calls a dispatcher back to make each slice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from reconciler.engine.observe.listings import Listings
from reconciler.engine.run.runner import Leases
from reconciler.model.grant import Key
from reconciler.model.selection import PassRequest
from reconciler.model.value import value_class

__all__ = ["Lane", "Make", "Outdated", "Slice", "SliceRunner", "Spawn"]

Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Starts a task, which is awaited before the daemon ends."""


class Outdated(Exception):
    """Others acted on a newer revision while a pass waited for its service: the slice is for a member that has it."""


class Lane(StrEnum):
    """Which slices of a service wait for each other: those of one call, of due retries, of the interval."""

    NOW = "now"
    DUE = "due"
    INTERVAL = "interval"


@value_class
class Slice:
    """One pass over a part of a service; several slices may share their `listings`."""

    service: str
    request: PassRequest
    lane: Lane
    queued_at: datetime
    listings: Listings | None = None


Make = Callable[[Slice], Awaitable[bool]]
"""Makes a slice; returns False if the ledger or this clone failed, and it has to be made again."""


class SliceRunner(Leases, Protocol):
    """Queues slices, and has each one made when its service is free."""

    @property
    def alone(self) -> bool:
        """Whether this process has every service to itself."""

    @property
    def away(self) -> str | None:
        """Why the state cannot be reached; None if it can, or if only the next write will show it."""

    @property
    def leads(self) -> bool:
        """Whether this process decides what is due."""

    @property
    def at_risk(self) -> bool:
        """Whether slices that override the guard are in this process's memory alone, and would be lost with it."""

    @property
    def waiting(self) -> frozenset[Key]:
        """The single grants whose slice is known to wait or to be under way."""

    def put(self, slices: Sequence[Slice], *, at_most: int | None = None) -> None:
        """Queue slices of one service, each after those before it in its lane; none if `at_most` wait."""

    def clear(self, services: Collection[str]) -> None:
        """Drop what waits in the interval's lane of services, and does not override the guard.

        A sweep includes it.
        """

    def tick(self, now: datetime) -> None:
        """Do what is due: make slices again that the ledger failed for, determine who leads."""

    async def finish(self) -> None:
        """Begin nothing new, and await what is under way for a limited time."""
