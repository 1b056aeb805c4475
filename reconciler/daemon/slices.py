"""Slices: what one pass goes over, a part of one service; and where they are made.

The dispatcher cuts what is due into slices and puts them somewhere: into queues of this process, where it has the state
alone, or as jobs before all members of a fleet. Where they are made, they are made by the same dispatcher.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from reconciler.engine.everybody import Listings
from reconciler.engine.state import OpenState
from reconciler.model.grant import Key
from reconciler.model.selection import Selection

__all__ = ["Lane", "Make", "PassRequest", "Slice", "Spawn", "Workplace"]

Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Starts a task, and awaits its end before the daemon ends."""


class Lane(StrEnum):
    """What slices of a service wait for each other: those of one call, of due retries, of the interval."""

    NOW = "now"
    DUE = "due"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True)
class PassRequest:
    """A pass to be made: over what, and why. `released` lets through what a guard holds."""

    selection: Selection
    why: str
    released: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """One pass over a part of a service; `listings` are those that several slices share."""

    service: str
    request: PassRequest
    lane: Lane
    queued_at: datetime
    listings: Listings | None = None


Make = Callable[[Slice], Awaitable[bool]]
"""Makes a slice; False where the ledger ended it, and it has to be made again."""


class Workplace(Protocol):
    """Where slices are made, and by whose leave."""

    @property
    def alone(self) -> bool:
        """Whether this process has every service."""

    @property
    def away(self) -> str | None:
        """Why the state cannot be reached; None where it can, or where that shows with the next write."""

    @property
    def leads(self) -> bool:
        """Whether this process decides what is due."""

    @property
    def waiting(self) -> frozenset[Key]:
        """The single grants that are known to wait for their slice, or to be in one."""

    def put(self, slices: Sequence[Slice], *, at_most: int | None = None) -> None:
        """Have slices of one service made, each after the ones before it in its lane; none where `at_most` wait."""

    def clear(self) -> None:
        """Drop what waits for its turn in the interval's lane: a sweep includes it."""

    def tick(self, now: datetime) -> None:
        """Do what is due: make again what the ledger ended, see to who leads."""

    async def finish(self) -> None:
        """Make nothing new, and await what is under way, for a while."""

    def holding(self, *services: str) -> AbstractAsyncContextManager[OpenState]:
        """Have services for as long as the block runs, and give the state to write to for them.

        Waits for those who have one of them. Raises Stopped.
        """
