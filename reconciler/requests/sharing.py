"""What members of a fleet leave one another of the limits, so that these hold over all of them.

A member tells how many places it has of each limit and how many it could use, and hears how many it may use from now
on. It never has more than it told last: it first lets go of places, then tells so, and only then another gets them. A
member that is alone has them all. Pauses that hosts asked for are told in the same way. With a `rate`, the moments at
which requests may leave for a host are given out one by one, or a tenth of a second's worth at a time.

The other side is a `Shared`: rows of the state that the members share. On one machine there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from reconciler.model.errors import ReconcilerError

__all__ = ["EVERYONE", "Ask", "Granted", "Shared", "Sharer", "fair", "keep_sharing"]

EVERYONE = "*"
"""The name of the limit over all hosts; that of a host's is the host."""

INTERVAL_SECONDS = 0.4
"""Between two tellings: others know of a pause within a second."""

GAP_SECONDS = 0.05
"""Between two tellings for which somebody waits."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a member has of one limit, and how much it could use."""

    name: str
    limit: int
    has: int
    wants: int


@dataclass(frozen=True, slots=True)
class Granted:
    """How many places of each limit a member may use, and for how long hosts are not to be asked."""

    places: Mapping[str, int]
    pauses: Mapping[str, timedelta]


class Shared(Protocol):
    """What the members of a fleet share. Raises LedgerError while it is out of reach."""

    async def exchange(self, asks: Sequence[Ask], pauses: Mapping[str, timedelta]) -> Granted:
        """Tell and hear."""

    async def departures(self, host: str, spacing: timedelta, count: int) -> timedelta:
        """Take the next moments at which so many requests may leave; in how long the first of them is."""

    def close(self) -> None:
        """Share no more: the state is about to be closed."""


class Sharer(Protocol):
    """Who tells and hears: a process's throttle."""

    wake: asyncio.Event
    """Set where somebody waits for a place, or a host asked for a pause."""

    def asks(self) -> list[Ask]:
        """What it has and could use."""

    def new_pauses(self) -> dict[str, timedelta]:
        """The pauses that were asked for since the last call."""

    def take_over(self, granted: Granted) -> None:
        """Go by what is granted."""


async def keep_sharing(throttle: Sharer, shared: Shared) -> None:
    """Tell and hear for ever. What is out of reach is tried again: until then everybody keeps what they have."""
    while True:
        asks, pauses = throttle.asks(), throttle.new_pauses()
        try:
            throttle.take_over(await shared.exchange(asks, pauses))
        except ReconcilerError:
            throttle.take_over(Granted({}, pauses))  # to be told again
        await asyncio.sleep(GAP_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(throttle.wake.wait(), INTERVAL_SECONDS - GAP_SECONDS)
        throttle.wake.clear()


def fair(limit: int, wanted: Mapping[str, int], turn: int) -> dict[str, int]:
    """Who gets how many of the places: nobody more than they want while others lack some.

    Those that are left over one by one go round with `turn`, and what nobody wants is for whoever wants some next.
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
