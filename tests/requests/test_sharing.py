"""What members of a fleet leave one another of the limits (docs/settings.md): pure, and throttles on one table."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from reconciler.model.errors import LedgerError
from reconciler.model.settings import Limits
from reconciler.requests.shares import Ask, Granted, fair
from reconciler.requests.throttle import INTERVAL_SECONDS, Throttle
from tests.timing import run

SECOND = timedelta(seconds=1)
BEGIN = datetime(2026, 12, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("limit", "wanted", "got"),
    [
        (100, {"a": 1}, {"a": 100}),
        (100, {"a": 5, "b": 3}, {"a": 51, "b": 49}),
        (10, {"a": 50, "b": 50}, {"a": 5, "b": 5}),
        (10, {"a": 2, "b": 50}, {"a": 2, "b": 8}),
        (3, {"a": 9, "b": 9}, {"a": 2, "b": 1}),
        (1, {"a": 9, "b": 9, "c": 9}, {"a": 1, "b": 0, "c": 0}),
    ],
)
def test_places_are_fairly_given(limit: int, wanted: dict[str, int], got: dict[str, int]) -> None:
    assert fair(limit, wanted, 0) == got


def test_single_place_goes_round() -> None:
    wanted = {"a": 9, "b": 9, "c": 9}
    assert [max(got, key=got.__getitem__) for turn in range(4) if (got := fair(1, wanted, turn))] == [
        "a",
        "b",
        "c",
        "a",
    ]


@given(
    limit=st.integers(1, 200),
    wanted=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 300), min_size=1),
    turn=st.integers(0, 99),
)
def test_members_share_all_places_and_never_more(limit: int, wanted: dict[str, int], turn: int) -> None:
    got = fair(limit, wanted, turn)
    assert sum(got.values()) <= limit
    short = [name for name in wanted if got[name] < wanted[name]]
    assert not short or limit - sum(got.values()) == 0
    assert all(got[name] >= min(wanted[name], limit // len(wanted)) for name in wanted)


class Table:
    """A `Shared` in this process that follows the contract, for members that are named by themselves."""

    def __init__(self) -> None:
        self.has: dict[str, dict[str, Ask]] = {}
        self.pauses: dict[str, float] = {}
        self.exchanges = 0

    def of(self, member: str) -> _Side:
        return _Side(self, member)


class _Side:
    def __init__(self, table: Table, member: str) -> None:
        self._table, self._member = table, member

    async def exchange(self, asks: Sequence[Ask], pauses: Mapping[str, timedelta]) -> Granted:
        now = asyncio.get_running_loop().time()
        self._table.exchanges += 1
        self._table.pauses |= {host: now + pause.total_seconds() for host, pause in pauses.items()}
        places = {}
        self._table.has[self._member] = {}
        for ask in asks:
            others = {who: its[ask.name] for who, its in self._table.has.items() if ask.name in its}
            wanted = {who: its.wants for who, its in others.items()} | {self._member: ask.wants}
            goal = fair(ask.limit, wanted, 0)[self._member]
            has = max(ask.has, min(goal, ask.limit - sum(its.has for its in others.values())))
            places[ask.name] = min(has, goal)
            self._table.has[self._member][ask.name] = Ask(ask.name, ask.limit, has, ask.wants)
        left = {host: timedelta(seconds=until - now) for host, until in self._table.pauses.items() if until > now}
        return Granted(places, left)

    async def departures(self, host: str, spacing: timedelta, count: int) -> timedelta:
        raise NotImplementedError

    def close(self) -> None: ...


class _Clock:
    """The loop's time: what members tell one another takes place in it."""

    def now(self):
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _crowd(throttles: list[Throttle], host: str, number: int) -> int:
    """Send so many requests through each, all at once; gives how many were under way together at most."""
    under_way = most = 0

    async def send(throttle: Throttle) -> None:
        nonlocal under_way, most
        async with throttle.turn(host):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.005)
            under_way -= 1

    await asyncio.gather(*(send(throttle) for throttle in throttles for _ in range(number)))
    return most


@pytest.mark.parametrize("limits", [Limits(per_host=4), Limits(concurrency=4), Limits(concurrency=1, per_host=1)])
def test_limits_hold_over_all_members(limits: Limits) -> None:
    async def go() -> int:
        table = Table()
        throttles = [Throttle(limits, _Clock(), table.of(str(number))) for number in range(3)]
        try:
            return await _crowd(throttles, "a.example.com", 10)
        finally:
            for throttle in throttles:
                throttle.close()

    assert run(go()) <= min(limits.per_host, limits.concurrency)


def test_member_that_has_all_places_asks_for_no_more() -> None:
    async def go() -> float:
        table, loop = Table(), asyncio.get_running_loop()
        throttle, began = Throttle(Limits(per_host=2), _Clock(), table.of("a")), loop.time()
        try:
            for _ in range(20):  # requests wait all the time
                await _crowd([throttle], "a.example.com", 15)
        finally:
            throttle.close()
        return table.exchanges - (loop.time() - began) / INTERVAL_SECONDS

    assert run(go()) <= 4


def test_pause_is_known_to_others_within_a_second() -> None:
    async def go() -> float:
        table = Table()
        one, other = (Throttle(Limits(), _Clock(), table.of(name)) for name in "ab")
        loop = asyncio.get_running_loop()
        for throttle in (one, other):
            async with throttle.turn("a.example.com"):
                pass
        one.hold("a.example.com", 2 * SECOND)
        began = loop.time()
        await asyncio.sleep(0.9)
        async with other.turn("a.example.com"):
            waited = loop.time() - began
        one.close()
        other.close()
        return waited

    assert run(go()) >= 2


def test_exchange_that_fails_is_logged_once_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the pauses that it was to tell others of are told them by the next one that works."""

    class Away(_Side):
        fails = 3

        async def exchange(self, asks: Sequence[Ask], pauses: Mapping[str, timedelta]) -> Granted:
            self.fails -= 1
            if self.fails >= 0:
                raise LedgerError("the server is away")
            return await super().exchange(asks, pauses)

    monkeypatch.setattr("reconciler.requests.throttle.INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr("reconciler.requests.throttle.GAP_SECONDS", 0.001)

    async def go() -> None:
        throttle = Throttle(Limits(), _Clock(), Away(table, "a"))
        throttle.hold("b.example.com", 9 * SECOND)
        async with throttle.turn("a.example.com"):
            pass
        throttle.close()

    table = Table()
    with capture_logs() as logs:
        run(go())
    assert [(line["event"], line.get("problem")) for line in logs] == [
        ("limits.not_shared", "the server is away"),
        ("limits.shared", None),
    ]
    assert table.pauses.keys() == {"b.example.com"}
