"""Everybody's places: whatever some hosts do, the others are asked.

What the limits come to at a real server is in `test_client`, and beside services that hang in `tests/journeys`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest

from reconciler.model.errors import TransportError
from reconciler.model.settings import Limits
from reconciler.requests.throttle import Throttle
from tests.engine.harness import Hands

LIMITS = Limits()


class Site:
    """A throttle, and requests of hosts to it that end when they are told to."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.clock = Hands()
        self.throttle = Throttle(limits, self.clock)
        self.under_way: dict[str, list[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def wants(self, host: str, count: int) -> None:
        """The host would take so many requests more."""
        for _ in range(count):
            task = asyncio.create_task(self._request(host))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await settled()

    async def _request(self, host: str) -> None:
        with suppress(TransportError):
            async with self.throttle.turn(host):
                end = asyncio.get_running_loop().create_future()
                self.under_way.setdefault(host, []).append(end)
                await end

    def count(self, *hosts: str) -> int:
        """How many requests are under way, at these hosts or in all."""
        return sum(len(self.under_way.get(host, ())) for host in hosts or self.under_way)

    async def answers(self, host: str, count: int) -> None:
        """The host answers the oldest of its requests, one after the other."""
        for _ in range(count):
            self.under_way[host].pop(0).set_result(None)
            await settled()

    async def times_out(self, hosts: Iterable[str]) -> None:
        """Whatever is under way at these hosts fails, all at once."""
        for host in hosts:
            for end in self.under_way.pop(host, []):
                end.set_exception(TransportError("no whole answer in time", left=True))
        await settled()

    async def leave(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def settled() -> None:
    """Until everybody has got as far as they get."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def site(limits: Limits = LIMITS) -> AsyncIterator[Site]:
    made = Site(limits)
    try:
        yield made
    finally:
        await made.leave()


def test_request_behind_others_goes_last() -> None:
    asyncio.run(_in_order())


async def _in_order() -> None:
    throttle, order = Throttle(Limits(per_host=1), Hands()), []

    async def request(name: str, *, behind: bool) -> None:
        async with throttle.turn("a.example", behind=behind):
            order.append(name)
            await settled()

    late = [request(f"mass {number}", behind=True) for number in range(4)]
    tasks = [asyncio.create_task(one) for one in late]
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks.append(asyncio.create_task(request("commit", behind=False)))
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["mass 0", "commit", "mass 2", "mass 3"]
    async with throttle.turn("a.example"):
        pass  # the place of who was cancelled is not lost


@pytest.mark.parametrize("count", [1, 3, 5, 8])
def test_hosts_that_begin_to_hang_leave_places(count: int) -> None:
    """At the default limits; five of them could take every place."""

    async def walk() -> None:
        async with site() as here:
            hung = [f"hung{number}" for number in range(count)]
            for host in hung:
                await here.wants(host, 100)
            assert here.count(hung[0]) == LIMITS.per_host
            await here.wants("good", 100)
            for _ in range(50):
                assert here.count("good") >= 1
                await here.answers("good", 1)

    asyncio.run(walk())


@pytest.mark.parametrize("count", [5, 20, 40])
def test_hosts_that_hang_for_long_share_half_of_the_places_and_one_each(count: int) -> None:
    async def walk() -> None:
        async with site() as here:
            hung = [f"hung{number}" for number in range(count)]
            for host in hung:
                await here.wants(host, 300)
            for _ in range(10):
                await here.times_out(hung)
            assert here.count(*hung) <= LIMITS.concurrency / 2 + count
            assert all(here.count(host) >= 1 for host in hung)
            await here.wants("good", 100)
            await here.answers("good", 1)
            assert here.count("good") >= min(LIMITS.per_host, LIMITS.concurrency / 2 - count)

    asyncio.run(walk())


def test_a_host_that_answers_has_all_that_is_free() -> None:
    async def walk() -> None:
        async with site(Limits(concurrency=12, per_host=20)) as here:
            await here.wants("good", 100)
            for _ in range(20):
                await here.answers("good", 1)
            assert here.count() >= 11

    asyncio.run(walk())


def test_a_host_that_recovers_has_its_places_again() -> None:
    async def walk() -> None:
        async with site(Limits(concurrency=20, per_host=10)) as here:
            await here.wants("bad", 100)
            await here.wants("busy", 100)
            for _ in range(5):
                await here.times_out(["bad"])
                await here.answers("busy", 10)
            low = here.count("bad")
            assert low <= 10
            assert here.count("busy") == 10, "there is nothing to recover from"
            for _ in range(5):
                await here.answers("bad", 1)
            assert here.count("bad") >= 9

    asyncio.run(walk())


def test_a_host_that_answers_late_is_as_one_that_hangs() -> None:
    async def walk() -> None:
        async with site(Limits(concurrency=20, per_host=20, timeout=timedelta(seconds=30))) as here:
            await here.wants("late", 500)
            for _ in range(100):
                here.clock.turn(seconds=20)
                await here.answers("late", 1)
            assert here.count() <= 11

    asyncio.run(walk())


def test_cancelled_wait_keeps_no_place() -> None:
    async def walk() -> None:
        async with site(Limits(concurrency=1)) as here:
            await here.wants("a", 1)
            for host in "bc":
                waiting = asyncio.create_task(here._request(host))
                await settled()
                waiting.cancel()
                if host == "c":  # its turn has come at the same moment
                    here.under_way["a"].pop().set_result(None)
                await settled()
            assert here.count() == 0
            await here.wants("d", 1)
            assert here.count("d") == 1

    asyncio.run(walk())


def test_a_host_that_answers_as_usual_has_every_place() -> None:
    async def walk() -> None:
        async with site(Limits(concurrency=50, per_host=50)) as here:
            await here.wants("good", 1000)
            for _ in range(10):
                here.clock.turn(seconds=0.1)
                await here.answers("good", here.count())
            assert here.count() == 50
            here.clock.turn(seconds=0.4)
            assert here.count() == 50
            await here.answers("good", 25)
            assert here.count() == 50, "four times the usual is not late"

    asyncio.run(walk())


def test_six_hosts_that_answer_as_usual_share_every_place() -> None:
    async def walk() -> None:
        async with site() as here:
            hosts = [f"good{number}" for number in range(6)]
            for host in hosts:
                await here.wants(host, 500)
            for _ in range(10):
                here.clock.turn(seconds=0.1)
                for host in hosts:
                    await here.answers(host, here.count(host))
            assert here.count() == LIMITS.concurrency

    asyncio.run(walk())


@pytest.mark.parametrize("count", [5, 8])
def test_hosts_that_hang_all_at_once_after_they_answered_leave_places(count: int) -> None:
    """Nothing tells yet that they hang: a place is kept for whoever is known, and later they get no more."""

    async def walk() -> None:
        async with site() as here:
            hosts = [f"hung{number}" for number in range(count)]
            for host in [*hosts, "good"]:
                await here.wants(host, 500)
            for _ in range(5):
                here.clock.turn(seconds=0.1)
                for host in [*hosts, "good"]:
                    await here.answers(host, here.count(host))
            for _ in range(50):
                assert here.count("good") >= 1
                await here.answers("good", 1)
            here.clock.turn(seconds=5)
            for _ in range(3):
                await here.times_out(hosts)
                here.clock.turn(seconds=30)
            assert here.count(*hosts) <= LIMITS.concurrency / 2 + count
            await here.answers("good", 1)
            assert here.count("good") >= 5

    asyncio.run(walk())


def test_a_host_whose_requests_become_late_gets_no_more() -> None:
    async def walk() -> None:
        async with site(Limits(concurrency=20, per_host=20)) as here:
            await here.wants("bad", 8)
            here.clock.turn(seconds=0.1)
            await here.answers("bad", 8)
            await here.wants("bad", 8)
            here.clock.turn(seconds=1)
            await here.wants("bad", 20)
            assert here.count("bad") == 11, "half of the places are left"

    asyncio.run(walk())
