"""Passes cut by service, and the queue that each service has."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reconciler.daemon.slices import (
    LONGEST_RETRY,
    MAX_RUNNING,
    Lane,
    Queues,
    ServiceQueue,
    Slice,
    cut,
)
from reconciler.engine.context import SystemClock
from reconciler.model.grant import Key
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.value import replace
from reconciler.repository.desired import NO_SERVICE, Service

SERVICES = {
    "suite": Service("suite", {"mail": ("manifests/mail.yaml", None), "chat": ("manifests/chat.yaml", None)}),  # type: ignore[dict-item]
    "tool": Service("tool", {"tool": ("manifests/tool.yaml", None)}),  # type: ignore[dict-item]
}
ADA = frozenset({"ada"})


BOTH = frozenset({"ada", "bob"})


class Spawned:
    """The tasks that queues start."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def settle(self) -> None:
        """Wait until all of them are over."""
        await asyncio.gather(*self._tasks)


@pytest.mark.parametrize(
    ("selection", "uses", "expected"),
    [
        pytest.param(Selection(), None, {"suite": None, "tool": None, NO_SERVICE: None}, id="everything"),
        pytest.param(Selection(ADA), [("ada", "tool")], {"tool": ADA}, id="a hire of one service"),
        pytest.param(
            Selection(ADA), [("ada", "mail"), ("ada", "tool")], {"suite": ADA, "tool": ADA}, id="a hire of two"
        ),
        pytest.param(
            Selection(BOTH), [("ada", "mail"), ("bob", "tool")], {"suite": ADA, "tool": {"bob"}}, id="each has another"
        ),
        pytest.param(
            Selection(ADA),
            [("ada", "mail"), ("ada", "gone")],
            {"suite": ADA, NO_SERVICE: ADA},
            id="an entry of none",
        ),
        pytest.param(Selection(integrations=frozenset({"chat"})), None, {"suite": None}, id="an integration"),
        pytest.param(
            Selection(integrations=frozenset({"broken"})), None, {NO_SERVICE: None}, id="a manifest that is broken"
        ),
        pytest.param(
            Selection(BOTH), [("bob", "tool")], {"tool": {"bob"}, NO_SERVICE: ADA}, id="a hire without anything"
        ),
        pytest.param(
            Selection(BOTH, frozenset({"tool"})),
            [("bob", "tool")],
            {"tool": {"bob"}},
            id="a hire without the integration",
        ),
        pytest.param(Selection(frozenset()), [], {}, id="nobody"),
    ],
)
def test_cut(selection: Selection, uses: list[tuple[str, str]] | None, expected: dict[str, Any]) -> None:
    parts = cut(selection, SERVICES, uses)
    assert {name: part.hires for name, part in parts.items()} == expected
    for hire, integration in uses or [
        (hire, item) for hire in BOTH for item in ("mail", "chat", "tool", "gone", "broken")
    ]:
        key = Key(hire, integration)
        if selection.covers(key, integration):
            assert [name for name, part in parts.items() if part.covers(key, integration)] == [home(integration)]


def home(integration: str) -> str:
    return {"mail": "suite", "chat": "suite", "tool": "tool"}.get(integration, NO_SERVICE)


def test_parts_are_the_whole_a_few_hires_at_a_time() -> None:
    hires = [f"h{number}" for number in range(7)]
    keys = {Key(hire, access) for hire in hires for access in ("mail", "chat")}
    whole = replace(Selection.of(keys), integrations=frozenset({"mail", "chat"}))
    parts = list(whole.parts(3))
    assert [len(part.hires or ()) for part in parts] == [3, 3, 1]
    assert all(frozenset(key.hire for key in part.grants or ()) == part.hires for part in parts)
    assert {key for part in parts for key in part.grants or ()} == keys
    assert {part.integrations for part in parts} == {whole.integrations}
    assert [part.grants for part in Selection(frozenset(hires)).parts(4)] == [None, None]
    assert list(Selection(frozenset()).parts(4)) == []


def test_a_queue_runs_a_few_at_a_time_in_order() -> None:
    async def walk() -> None:
        spawned = Spawned()
        done: list[int] = []
        most = under_way = 0

        async def work(number: int) -> None:
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            done.append(number)

        queue = ServiceQueue(spawned.spawn, work)
        for number in range(20):
            queue.put(number)
        assert len(queue) == 20
        await spawned.settle()
        assert (sorted(done), done[:MAX_RUNNING], most, len(queue)) == (
            list(range(20)),
            list(range(MAX_RUNNING)),
            MAX_RUNNING,
            0,
        )
        queue.put(20)
        queue.put(21)
        assert queue.clear() == [20, 21]
        await spawned.settle()
        assert done[20:] == []

    asyncio.run(walk())


def test_a_released_pass_that_the_ledger_ended_is_made_again_as_such() -> None:
    """One over the same grants that is not released, and that the ledger ended later, does not take its place."""

    async def walk() -> None:
        spawned = Spawned()
        made: list[str | None] = []

        async def make(item: Slice) -> bool:
            made.append(item.request.released)
            return len(made) > 2

        clock = SystemClock()
        queues = Queues(cast("Any", SimpleNamespace(clock=clock, state=None, spawn=spawned.spawn)), make)
        for released in ("ida@here", None):
            request = PassRequest(Selection(), "released" if released else "interval", released=released)
            queues.put([Slice("tool", request, Lane.NOW, clock.now())])
            await spawned.settle()
        queues.tick(clock.now() + LONGEST_RETRY)
        await spawned.settle()
        assert {*made[2:]} == {None, "ida@here"}

    asyncio.run(walk())


def test_passes_that_override_the_guard_are_over_though_the_ledger_failed_for_two_alike() -> None:
    async def walk() -> None:
        spawned = Spawned()
        fails = True

        async def make(_item: Slice) -> bool:
            return not fails

        clock = SystemClock()
        queues = Queues(cast("Any", SimpleNamespace(clock=clock, state=None, spawn=spawned.spawn)), make)
        request = PassRequest(Selection(), "released", released="ida@here")
        for _ in range(2):
            queues.put([Slice("tool", request, Lane.NOW, clock.now())])
            await spawned.settle()
        fails = False
        queues.tick(clock.now() + LONGEST_RETRY)
        await spawned.settle()
        assert not queues.at_risk

    asyncio.run(walk())


def test_sweep_drops_what_waits_but_for_what_overrides_the_guard() -> None:
    async def walk() -> None:
        spawned = Spawned()
        made: list[str] = []

        async def make(item: Slice) -> bool:
            made.append(item.request.why)
            return True

        clock = SystemClock()
        queues = Queues(cast("Any", SimpleNamespace(clock=clock, state=None, spawn=spawned.spawn)), make)
        for released, why in ((None, "interval"), ("ida@here", "released")):
            request = PassRequest(Selection(), why, released=released)
            queues.put([Slice("tool", request, Lane.INTERVAL, clock.now())] * (MAX_RUNNING + 1))
        queues.clear({"tool"})
        assert queues.at_risk
        await spawned.settle()
        assert made == ["released"] * (MAX_RUNNING + 1)
        assert not queues.at_risk

    asyncio.run(walk())
