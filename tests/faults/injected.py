"""The child's side: the program with a fault at one of the points that it tells of (`reconciler/model/failpoints.py`).

Every fault is a real one. The process is killed; files cannot grow any further, or only by a few bytes, which the
kernel holds it to and SQLite learns in the middle of its write; the disk is full.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from reconciler.cli.commands.acting import act
from reconciler.engine.context import Context, SystemClock
from reconciler.engine.run.accepted import in_force
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sealing import Trust, open_vault
from reconciler.ledger.sqlite.lock import StateLock
from reconciler.model.errors import ReconcilerError
from reconciler.model.failpoints import Failpoint
from reconciler.model.secret import Redactor
from reconciler.model.selection import PassRequest
from reconciler.repository.git.branches import fetch
from reconciler.secrets.gpg import Gnupg

BESIDE = frozenset({Failpoint.LOCK, Failpoint.CACHE, Failpoint.CHECKOUT, Failpoint.ACCEPTED})
"""What is written beside the ledger: where it cannot be, the pass goes on."""

FILLER = "filler"
"""What takes up all room of the disk that the repository stands on, beside it."""

MARK = "point\t"
"""How a line begins that tells of a point."""


class Fault(StrEnum):
    """What happens."""

    KILL = "SIGKILL"
    ERROR = "I/O error"
    TORN = "torn write"
    FULL = "full disk"
    POWER = "power cut"


class Action(StrEnum):
    """What the program is doing meanwhile."""

    PASS = "a pass"
    FETCH = "a fetch, then a pass"
    ENQUEUE = "enqueueing"
    FORGET = "forgetting ada"


class Injector:
    """Tells of every point on standard output, and brings the fault about at one of them."""

    def __init__(self, state: Path, at: int, fault: Fault | None, room: int) -> None:
        self._state = state
        self._at = at
        self._fault = fault
        self._room = room
        self._count = 0

    def __call__(self, point: Failpoint, *, done: bool) -> None:
        log = size(self._state)
        # Not through a buffer: a kill leaves the line where it is.
        os.write(1, f"{MARK}{self._count}\t{point.name}\t{int(done)}\t{log}\n".encode())
        if self._count == self._at and self._fault is not None:
            self._break(point, log)
        self._count += 1

    def _break(self, point: Failpoint, log: int) -> None:
        match self._fault:
            case Fault.KILL | Fault.POWER:
                os.kill(os.getpid(), signal.SIGKILL)
            case Fault.ERROR | Fault.TORN:
                limit = self._room if point in BESIDE else log + self._room
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            case _:
                fill(self._state.parents[2] / FILLER)


def size(state: Path) -> int:
    """How long the state's write-ahead log is."""
    with suppress(FileNotFoundError):
        return state.with_name(f"{state.name}-wal").stat().st_size
    return 0


def fill(filler: Path) -> None:
    """Take up all room there is."""
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(descriptor, bytes(1 << 16))
    except OSError:
        pass
    finally:
        os.close(descriptor)


def play(action: str, times: int = 1, at: int = -1, fault: str | None = None, room: int = 0) -> int:
    """Do something as the program does it, so many times; gives its exit code.

    `room` is how many bytes can still be written, where the fault is that files cannot grow.
    """
    root = Path.cwd()
    injector = Injector(root / ".reconciler" / "state.db", at, None if fault is None else Fault(fault), room)
    try:
        for _ in range(times):
            asyncio.run(_act(Action(action), root, injector))
    except ReconcilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _act(action: Action, root: Path, reached: Injector) -> None:
    clock = SystemClock()
    context = Context(root, clock, Redactor(), reached)
    try:
        settings = in_force(context).settings
        match action:
            case Action.FETCH:
                if (problem := fetch(context.checkout, settings.git.remote, "main")) is not None:
                    print(f"not fetched: {problem}", file=sys.stderr)
                await act(clock, in_force(context), PassRequest(), None)
            case Action.PASS:
                await act(clock, in_force(context), PassRequest(), None)
            case Action.ENQUEUE | Action.FORGET:
                state = root / ".reconciler" / "state.db"
                with StateLock(state).acquire("test", clock.now(), reached):
                    ledger = StateLocation(settings.state, root).writer(reached)
                    try:
                        if action is Action.FORGET:
                            ledger.forget("ada", clock.now(), by="ida@here")
                            return
                        # Who has the state's key, so that the command counts.
                        open_vault(ledger, Gnupg(settings.gnupg_home), Trust())
                        if not ledger.commands.waiting():
                            ledger.commands.enqueue("run", now=clock.now(), by="ida@here", hire="ada", access="hook")
                    finally:
                        ledger.close()
    finally:
        await context.aclose()
