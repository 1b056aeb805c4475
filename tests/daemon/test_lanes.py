"""Passes cut by service, and the queue that each service has."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from reconciler.daemon.lanes import AT_ONCE, REST, Lane, cut
from reconciler.engine.observed import Selection
from reconciler.model.grant import Key
from reconciler.repository.desired import Service

SERVICES = {
    "suite": Service("suite", {"mail": ("manifests/mail.yaml", None), "chat": ("manifests/chat.yaml", None)}),  # type: ignore[dict-item]
    "tool": Service("tool", {"tool": ("manifests/tool.yaml", None)}),  # type: ignore[dict-item]
}
ADA = frozenset({"ada"})


@pytest.mark.parametrize(
    ("selection", "involved", "lanes"),
    [
        pytest.param(Selection(), None, {"suite", "tool", REST}, id="everything"),
        pytest.param(Selection(ADA), {"tool"}, {"tool"}, id="a hire of one service"),
        pytest.param(Selection(ADA), {"mail", "tool"}, {"suite", "tool"}, id="a hire of two"),
        pytest.param(Selection(ADA), {"mail", "gone"}, {"suite", REST}, id="an entry that names no service"),
        pytest.param(Selection(integrations=frozenset({"chat"})), None, {"suite"}, id="an integration"),
        pytest.param(Selection(integrations=frozenset({"broken"})), None, {REST}, id="a manifest that is broken"),
        pytest.param(Selection(ADA), set(), set(), id="a hire without anything"),
    ],
)
def test_cut(selection: Selection, involved: set[str] | None, lanes: set[str]) -> None:
    parts = cut(selection, SERVICES, involved)
    assert set(parts) == lanes
    for integration in ("mail", "chat", "tool", "gone", "broken"):
        key = Key("ada", integration)
        if selection.covers(key, integration) and (involved is None or integration in involved):
            assert [name for name, part in parts.items() if part.covers(key, integration)] == [home(integration)]


def home(integration: str) -> str:
    return {"mail": "suite", "chat": "suite", "tool": "tool"}.get(integration, REST)


def test_a_lane_does_a_few_at_a_time_and_all_in_turn() -> None:
    async def walk() -> None:
        tasks: set[asyncio.Task[None]] = set()
        done: list[int] = []
        most = under_way = 0

        def spawn(work: Coroutine[Any, Any, None]) -> None:
            tasks.add(asyncio.create_task(work))

        async def work(number: int) -> None:
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            done.append(number)

        lane = Lane(spawn)
        for number in range(20):
            lane.put(lambda number=number: work(number))  # type: ignore[misc]
        assert len(lane) == 20
        await asyncio.gather(*tasks)
        assert (sorted(done), done[:AT_ONCE], most, len(lane)) == (list(range(20)), list(range(AT_ONCE)), AT_ONCE, 0)
        lane.put(lambda: work(20))
        lane.put(lambda: work(21))
        lane.clear()
        await asyncio.gather(*tasks)
        assert done[20:] == []

    asyncio.run(walk())
