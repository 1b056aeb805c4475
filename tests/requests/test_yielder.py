"""Long work yields the loop: others have their turn after a slice, whatever there is to do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count

import pytest

from reconciler.requests.tasks import FEW, PIECES, Yielder


def order_of(yielder: Yielder, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two tasks of long work (w), a millisecond at each look at the time, and one that waits for turns (o)."""
    ticks = count()
    monkeypatch.setattr("reconciler.requests.tasks.monotonic", lambda: next(ticks) / 1000)
    order: list[str] = []

    async def work() -> None:
        for _ in range(30):
            await yielder.pause()
            order.append("w")

    async def other() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
            order.append("o")

    async def all_of_them() -> None:
        await asyncio.gather(work(), work(), other())

    asyncio.run(all_of_them())
    return "".join(order)


def test_others_have_their_turn_after_each_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_of(Yielder(), monkeypatch)
    assert order.count("w") == 60
    assert max(map(len, order.rpartition("o")[0].split("o"))) <= 6


def test_work_over_few_hires_does_not_yield(monkeypatch: pytest.MonkeyPatch) -> None:
    assert order_of(Yielder().among(FEW), monkeypatch).startswith("w" * 60)


def test_a_few_pieces_of_work_are_begun_in_a_turn_of_the_loop() -> None:
    """Fifty answers that come together keep nobody waiting for all that is made of them."""
    yielder, order = Yielder(), list[str]()

    async def judged() -> None:
        await yielder.turn()
        order.append("w")

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(judged()) for _ in range(3 * PIECES)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        while not all(task.done() for task in tasks):
            order.append(".")
            await asyncio.sleep(0)

    asyncio.run(all_of_them())
    pieces = [len(part) for part in "".join(order).split(".") if part]
    assert (max(pieces), sum(pieces), len(pieces)) == (PIECES, 3 * PIECES - 1, 3)


def test_cancelled_waiter_does_not_disturb_the_pace() -> None:
    yielder, done = Yielder(), list[str]()

    async def given_up() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await yielder.turn()

    async def goes_on() -> None:
        await yielder.turn()
        done.append("done")

    asyncio.run(given_up())
    asyncio.run(goes_on())
    assert done == ["done"]
