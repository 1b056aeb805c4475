"""Share the limits among the members of a fleet, so that they hold for all of them together.

A member reports how many places it has of each limit and how many it could use, and learns how many it may use from
now on. It never has more than it reported last: it first releases places, then reports, and only then another member
gets them. A member that is alone has them all. Pauses that hosts asked for are shared in the same way. With a `rate`,
the moments at which requests may leave for a host are reserved one by one, or a tenth of a second's worth at a time.

The other side is a `Shared`: rows of the state that the members share. On one machine there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

from reconciler.model.errors import ReconcilerError
from reconciler.model.value import Frozen

__all__ = ["EVERYONE", "Ask", "Granted", "Shared", "Sharer", "fair", "keep_sharing"]

EVERYONE = "*"
"""The name of the limit over all hosts; that of a host's is the host."""

INTERVAL_SECONDS = 0.4
"""Between two tellings: others know of a pause within a second."""

GAP_SECONDS = 0.05
"""Between two tellings for which somebody waits."""


class Ask(Frozen):
    """What a member has of one limit, and how much it could use."""

    name: str
    limit: int
    has: int
    wants: int


class Granted(Frozen):
    """How many places of each limit a member may use, and how long each paused host must wait."""

    places: Mapping[str, int]
    pauses: Mapping[str, timedelta]


class Shared(Protocol):
    """The exchange between members. Raises LedgerError while it cannot be reached."""

    async def exchange(self, asks: Sequence[Ask], pauses: Mapping[str, timedelta]) -> Granted:
        """Report what this member has and could use, and learn what it may use."""

    async def departures(self, host: str, spacing: timedelta, count: int) -> timedelta:
        """Reserve the next moments at which requests may leave; return the time until the first."""

    def close(self) -> None:
        """Stop sharing: the state is about to be closed."""


class Sharer(Protocol):
    """The throttle of a process, as sharing sees it."""

    wake: asyncio.Event
    """Set where somebody waits for a place, or a host asked for a pause."""

    def asks(self) -> list[Ask]:
        """Return what it has and could use."""

    def new_pauses(self) -> dict[str, timedelta]:
        """Return the pauses that hosts asked for since the last call."""

    def take_over(self, granted: Granted) -> None:
        """Apply what is granted."""


async def keep_sharing(throttle: Sharer, shared: Shared) -> None:
    """Exchange until cancelled. While the exchange cannot be reached, members keep what they have."""
    fails = False
    while True:
        asks, pauses = throttle.asks(), throttle.new_pauses()
        problem: str | None = None
        try:
            throttle.take_over(await shared.exchange(asks, pauses))
        except ReconcilerError as error:
            throttle.take_over(Granted({}, pauses))  # to be reported again
            problem = str(error)
        if fails != (problem is not None):
            fails = not fails
            _log(problem)
        await asyncio.sleep(GAP_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(throttle.wake.wait(), INTERVAL_SECONDS - GAP_SECONDS)
        throttle.wake.clear()


def _log(problem: str | None) -> None:
    """Log why the exchange begins to fail, or that it works again."""
    import structlog  # a dry run, which exchanges nothing, does without

    log = structlog.get_logger()
    if problem is None:
        log.info("limits.shared")
    else:
        log.warning("limits.not_shared", problem=problem)


def fair(limit: int, wanted: Mapping[str, int], turn: int) -> dict[str, int]:
    """Divide the places: no member gets more than it wants while others lack some.

    Those that are left over one by one go round with `turn`, and what no member wants is for the next one that does.
    """
    names = sorted(wanted)
    start = turn % len(names) if names else 0
    names = [*names[start:], *names[:start]]
    got, left = dict.fromkeys(names, 0), limit
    while left and (short := [name for name in names if got[name] < wanted[name]]):
        each = max(1, left // len(short))
        for name in short[:left]:
            more = min(each, wanted[name] - got[name], left)
            got[name] += more
            left -= more
    spare = left // len(names) if names else 0
    return {name: places + spare for name, places in got.items()}
