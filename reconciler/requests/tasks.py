"""Running things side by side so that the failure of one cuts none of the others short."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

__all__ = ["run_all"]

GRACE_SECONDS = 5.0
"""Seconds."""


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
