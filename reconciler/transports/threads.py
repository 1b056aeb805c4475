"""Drivers that block, each call in a thread of its own: none that hangs can take another's place.

How many there are at a time is the throttle's to bound, for each host. They are daemon threads: one that hangs keeps
nobody from ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(work: Callable[[], T], abort: Callable[[], None]) -> T:
    """Return what the work returns, or raise what it raises. Where this is cancelled, `abort` has to end it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, fault = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  it is raised where the work is awaited
            fault = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, fault)

    Thread(target=run, daemon=True, name="transport").start()
    try:
        return await future
    except asyncio.CancelledError:
        abort()
        raise
