"""Running things side by side: the failure of one cuts none short, and long work lets others have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from math import inf
from time import monotonic
from typing import Any, TypeVar

__all__ = ["Pace", "run_all"]

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""What cancelled tasks get to put down what they hold."""

SLICE_SECONDS = 0.005
"""Seconds that work over many hires takes, side by side or not, before the loop's other tasks run."""

FEW = 20
"""Hires: work over no more is what somebody waits for, and lets nobody go first."""


class Pace:
    """A pace that long work keeps, shared by all that do it on one loop: no turn of the loop is longer than a slice.

    Whoever waits for a commit, a command or a page waits for a slice at each of its steps, and not for all hires that
    happen to be answered at once.
    """

    def __init__(self, until: float = 0.0) -> None:
        self._until = until
        self._slice = 0

    def among(self, hires: int) -> Pace:
        """The pace of work over so many hires."""
        return self if hires > FEW else _FREE

    async def keep(self) -> None:
        """Go on within the slice; else let the other tasks run first."""
        while monotonic() >= self._until:
            over = self._slice
            await asyncio.sleep(0)
            if self._slice == over:  # the first to go on after that begins the next
                self._slice += 1
                self._until = monotonic() + SLICE_SECONDS

    async def over(self, items: Iterable[T]) -> AsyncIterator[T]:
        """The items, at this pace."""
        for item in items:
            await self.keep()
            yield item


_FREE = Pace(inf)


async def run_all(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Run all to their end, then raise the first failure, if any.

    A TaskGroup would cancel the rest at the first failure: an attempt that is under way must be seen to its end.
    """
    tasks = [asyncio.create_task(one) for one in work]
    try:
        results = await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError:
        # They are cancelled with this; a moment to put down what they hold, and not for ever.
        await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        raise
    for result in results:
        if isinstance(result, BaseException):
            raise result
