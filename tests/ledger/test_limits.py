"""The limits over all members, as rows on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.ledger.opening import StateLocation
from reconciler.ledger.postgres.limits import SharedLimits
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.settings import Limits
from reconciler.model.value import replace
from reconciler.requests.shares import Ask
from reconciler.requests.throttle import Throttle
from tests.ledger.states import change
from tests.postgres import Databases, Wire
from tests.requests.test_sharing import SECOND, _Clock, _crowd

HOST = "a.example.com"


def member(name: str) -> str:
    return f"insert into members (name, owner, since, seen, daemon) values ('{name}', '{name}', 0, 0, true)"


@pytest.fixture
def location(databases: Databases, tmp_path: Path) -> Iterator[StateLocation]:
    with databases.made() as url:
        made = StateLocation(url, tmp_path)
        change(made, *(member(name) for name in "abc"))
        yield made


@pytest.fixture
def ledger(location: StateLocation) -> Iterator[LedgerWriter]:
    with closing(location.writer()) as opened:
        yield opened


def test_members_places_never_exceed_the_limit(ledger: LedgerWriter, location: StateLocation) -> None:
    one, other = SharedLimits(ledger.backend, "a"), SharedLimits(ledger.backend, "b")

    def ask(side: SharedLimits, has: int, wants: int) -> int:
        return asyncio.run(side.exchange([Ask(HOST, 10, has, wants)], {})).places[HOST]

    assert ask(one, 0, 1) == 10, "who is alone has all"
    assert ask(other, 0, 20) == 0, "until another lets go of some"
    assert ask(one, 10, 20) == 5
    assert ask(other, 0, 20) == 0
    assert ask(one, 7, 20) == 5, "two requests are still under way"
    assert ask(other, 0, 20) == 3
    assert ask(one, 5, 20) == 5
    assert ask(other, 3, 20) == 5
    change(location, "delete from members where owner = 'a'")
    assert ask(other, 5, 20) == 10, "what the dead had is free"
    asyncio.run(other.exchange([], {}))
    change(location, member("a"))
    assert ask(one, 0, 20) == 10, "what nobody asks for is kept by nobody"


def test_exchange_reads_what_was_written_before_it_whatever_the_default_is(
    databases: Databases, location: StateLocation
) -> None:
    """At another isolation, it would read what was there before it waited for its turn."""
    name = location.url.partition("@/")[2].partition("?")[0]
    databases.execute(f"alter database {name} set default_transaction_isolation to 'repeatable read'")
    with closing(location.writer()) as ledger, ledger.backend.reading() as reading:
        assert reading.value("SHOW transaction_isolation") == "read committed"


def test_pause_is_shared_by_all_and_ends(ledger: LedgerWriter) -> None:
    one, other = SharedLimits(ledger.backend, "a"), SharedLimits(ledger.backend, "b")
    asyncio.run(one.exchange([], {HOST: 30 * SECOND, "b.example.com": timedelta(milliseconds=1)}))
    asyncio.run(one.exchange([], {HOST: 2 * SECOND}))
    time.sleep(0.01)
    pauses = asyncio.run(other.exchange([], {})).pauses
    assert pauses.keys() == {HOST}
    assert 20 * SECOND < pauses[HOST] <= 30 * SECOND


def test_rate_is_kept_over_all_members(ledger: LedgerWriter) -> None:
    """Three members on one host: no second has more requests than the rate."""
    left: list[float] = []

    async def go() -> None:
        throttles = [Throttle(Limits(rate=20), _Clock(), SharedLimits(ledger.backend, name)) for name in "abc"]

        async def send(throttle: Throttle) -> None:
            async with throttle.turn(HOST) as departed:
                left.append(time.monotonic())
                departed()

        await asyncio.gather(*(send(throttle) for throttle in throttles for _ in range(10)))
        for throttle in throttles:
            throttle.close()

    asyncio.run(go())
    left.sort()
    assert left[-1] - left[0] >= 29 / 20
    assert min(later - sooner for sooner, later in zip(left, left[20:], strict=False)) >= 1


@pytest.mark.parametrize("limits", [Limits(per_host=4), Limits(concurrency=3)])
def test_places_are_kept_over_all_members(ledger: LedgerWriter, limits: Limits) -> None:
    async def go() -> int:
        throttles = [Throttle(limits, _Clock(), SharedLimits(ledger.backend, name)) for name in "abc"]
        try:
            return await _crowd(throttles, HOST, 8)
        finally:
            for throttle in throttles:
                throttle.close()

    assert asyncio.run(go()) <= min(limits.per_host, limits.concurrency)


@pytest.mark.parametrize(
    ("asks", "pauses", "most"),
    [
        ([Ask("new{turn}", 10, 0, 5), Ask("newer{turn}", 10, 0, 5)], {"new{turn}": SECOND, "newer{turn}": SECOND}, 3),
        ([Ask(HOST, 10, 5, 5)], {}, 3),
        ([], {}, 2),
    ],
    ids=["what is new", "what is known", "nothing"],
)
def test_exchange_takes_few_round_trips(
    databases: Databases, location: StateLocation, tmp_path: Path, asks: list[Ask], pauses: Any, most: int
) -> None:
    """Of which the last two are under the lock for which every other member waits; the first tests the connection."""
    exchanges, departures = [], []
    with Wire(databases) as wire:
        url = wire.url(location.url.partition("@/")[2].partition("?")[0])
        with closing(StateLocation(url, tmp_path).writer()) as ledger:
            side = SharedLimits(ledger.backend, "a")
            for turn in range(3):  # an answer that comes in two pieces counts as two
                before = wire.round_trips
                these = [replace(ask, name=ask.name.format(turn=turn)) for ask in asks]
                asyncio.run(side.exchange(these, {name.format(turn=turn): each for name, each in pauses.items()}))
                exchanges.append(wire.round_trips - before)
                before = wire.round_trips
                asyncio.run(side.departures(HOST, SECOND, 2))
                departures.append(wire.round_trips - before)
    assert min(exchanges) <= most
    assert min(departures) <= 2
