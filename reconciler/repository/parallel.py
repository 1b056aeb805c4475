"""Spread work over several processes.

Only for a command that ends afterwards: processes are forked, which a program with threads must not do, and they have
to open a state anew. What starts them is imported then: a tenth of the commands' start would go into it, and few have
so much to do.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MANY = 2_000
"""From this many on it is worth the processes: a tenth of a second each."""

AT_A_TIME = 250

T = TypeVar("T")
R = TypeVar("R")


def spread(work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
    """Return what `work` returns for each item, in order.

    What a process does not deliver, because it was killed or because `work` raised, is worked on here.
    """
    parts = [items[at : at + AT_A_TIME] for at in range(0, len(items), AT_A_TIME)]
    done: dict[int, Sequence[R]] = {}
    if len(items) >= MANY and (count := processes()) > 1:
        done = _delivered(work, parts, count)
    return [result for at, part in enumerate(parts) for result in (done[at] if at in done else work(part))]


def processes() -> int:
    """Return how many processes to use: one for each processor, or one if it is not safe to fork."""
    import multiprocessing

    forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    if not forks or threading.active_count() > 1:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _delivered(work: Callable[[Sequence[T]], Sequence[R]], parts: Sequence[Sequence[T]], count: int) -> dict[int, Any]:
    from multiprocessing.connection import wait

    done: dict[int, Any] = {}
    with forked(work, parts, count) as receivers:
        waiting = list(receivers)
        while waiting:
            ready = wait(waiting)
            for receiver in [each for each in waiting if each in ready]:
                try:
                    at, results = receiver.recv()
                except (EOFError, OSError):
                    waiting.remove(receiver)
                else:
                    done[at] = results
    return done


@contextmanager
def forked(work: Callable[[T], R], parts: Sequence[T], count: int) -> Iterator[list[Connection]]:
    """Fork so many processes, which end with the block; each works on every `count`th part.

    Each sends the places of its parts and what `work` returns for them, in order, until it raises or is killed.
    """
    import multiprocessing

    context = multiprocessing.get_context("fork")
    receivers: list[Connection] = []
    started = []
    try:
        for rank in range(count):
            receiver, sender = context.Pipe(duplex=False)
            receivers.append(receiver)
            ours = range(rank, len(parts), count)
            process = context.Process(target=_work_off, args=(work, parts, ours, sender, receivers), daemon=True)
            process.start()
            started.append(process)
            sender.close()
        yield receivers
    finally:
        for process in started:
            process.terminate()
            process.join()
        for receiver in receivers:
            receiver.close()


def _work_off(
    work: Callable[[T], R],
    parts: Sequence[T],
    ours: range,
    sender: Connection,
    receivers: Sequence[Connection],
) -> None:
    """Send the results of our parts; end if nobody receives them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for receiver in receivers:
        receiver.close()  # else a pipe would outlive the process that reads it
    with suppress(Exception):
        for at in ours:
            sender.send((at, work(parts[at])))
