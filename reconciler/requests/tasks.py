"""Run tasks concurrently: a failure cancels no other task, and long work yields to other tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""What cancelled tasks get to put down what they hold."""

# How much of long work is done before the loop's other tasks run.
SLICE_SECONDS = 0.005
"""Seconds that work over many hires takes, side by side or not, before the loop's other tasks run."""

PIECES = 8
"""Pieces of that work that are begun in a turn of the loop: all at once would keep answers waiting, and one at a time
would send requests one by one, each of which wakes a service that has just gone to sleep."""

FEW = 20
"""Hires that are read, parsed or cut in one go. Work over no more is what somebody waits for, and lets nobody go first.
"""

NAMES_AT_A_TIME = 2000
"""Hires whose names are sorted, or read from the ledger, in one go."""

LINES_AT_A_TIME = 128
"""Rows of who gave a grant, of hires of whom that is to be found out, or of a listing's accounts written in one go."""

ROWS_AT_A_TIME = 512
"""Rows of which only the time of the check is written that are written in one go."""

CHANGED_ROW = 8
"""As many of those are written in the time of a row that is new, or has changed."""

MAX_HIRES = 250
"""The most hires that a daemon's pass covers, or a dry run plans at a time: it bounds their memory."""


class Yielder:
    """Yields the event loop regularly during long work; shared by all of that work on one loop.

    It goes on for a slice at most, and a few pieces of it are begun in a turn of the loop, first come, first served. So
    what a service answers is heard soon, and whoever waits for a commit, a command or a page waits for these at each of
    its steps, and not for all hires that happen to be answered at once.
    """

    def __init__(self, *, yields: bool = True) -> None:
        self.yields = yields
        """Whether others go first."""
        self._until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def among(self, hires: int) -> Yielder:
        """Return what yields in work on so many hires."""
        return self if hires > FEW else NO_YIELD

    async def pause(self) -> None:
        """Continue within the time slice, or wait for a turn."""
        if monotonic() >= self._until:
            await self.turn()

    async def turn(self) -> None:
        """Yield to the loop's other tasks, and to those that waited here before."""
        if not self.yields:
            return
        if not self._waiting:
            self._after_answers(self._next)
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            with suppress(ValueError):  # another task may have removed it already
                self._waiting.remove(mine)
            raise

    def _next(self) -> None:
        """Begin a slice for the first that still wait."""
        self._until = monotonic() + SLICE_SECONDS
        for _ in range(min(PIECES, len(self._waiting))):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
        if self._waiting:
            self._after_answers(self._next)

    @staticmethod
    def _after_answers(call: Callable[[], None]) -> None:
        """Call it in the loop's next turn, behind what comes of the network in it: `call_soon` would put it before."""
        asyncio.get_running_loop().call_later(0, call)

    async def over(self, items: Iterable[T]) -> AsyncIterator[tuple[T, ...]]:
        """Yield the items in batches, with pauses between them."""
        left = iter(items)
        while some := tuple(islice(left, PIECES)):
            await self.pause()
            yield some


NO_YIELD = Yielder(yields=False)
"""Work that waits for nobody."""


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
