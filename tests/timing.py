"""Time that other programs on the machine do not lengthen."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from time import process_time
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail where the block takes more of this process's own time."""
    began = process_time()
    yield
    assert (took := process_time() - began) < seconds, f"{took:.1f} s of processor time"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on a loop whose time passes only where nothing is left but to wait, and then at once.

    It is for work that waits for nothing but time: not for sockets, nor for threads.
    """
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._selector_of_time = _Selector()
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        return self._selector_of_time.now


class _Selector(selectors.DefaultSelector):
    """Instead of waiting, it is later."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)
