"""What the parts of one daemon share: the revision in force, the state, the health, and the tasks under way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Any

import structlog

from reconciler.daemon.freshness import Freshness
from reconciler.engine.context import SystemClock
from reconciler.engine.run.accepted import InForce
from reconciler.engine.state import OpenState
from reconciler.engine.trust import reopened

log = structlog.get_logger()

MAX_IDLE_INTERVALS = 3
"""Intervals without a recorded check or request, while work is due, after which the daemon is not healthy."""

GRACE_SECONDS = 30.0
"""How long attempts in flight may take to finish after SIGTERM (docs/operations.md)."""


class ActiveRevision(InForce):
    """The revision in force, which passes act on once it is `taken_over`.

    It is replaced as a whole when a commit has been taken over. `head_ignored` says what else HEAD is on. `refused` and
    `fault` say why the newest commit is not in force: it is not trusted, or it cannot be read, or this program failed
    while it took it over.
    """

    taken_over: bool = False
    head_ignored: str | None = None
    fault: str | None = None

    @property
    def acted_on(self) -> str | None:
        """The id of the commit that passes act on; None before the first one was taken over."""
        return self.tree.revision if self.taken_over else None


class ProblemLog:
    """Logs a problem when it begins and when it is over, and not every time in between."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}

    def update(self, about: str, problem: str | None, level: str = "error") -> None:
        """Log a problem if it is new, or the recovery if `problem` is None and there was one."""
        before = self._open.get(about)
        if problem is None:
            if self._open.pop(about, None) is not None:
                log.info("daemon.recovered", about=about)
        elif problem != before:
            self._open[about] = problem
            getattr(log, level)("daemon.problem", about=about, problem=problem)


@dataclass(slots=True)
class Health:
    """What health and readiness are derived from; times are seconds of `time.monotonic`.

    `ticked_at` is when the loop last determined what is due: if it does not tick, due work goes unnoticed.
    `overrun` is by how much the slowest part of a resync exceeded the interval, from being queued until it was done.
    """

    ticked_at: float
    ready: bool = False
    progressed_at: float | None = None
    due_since: float | None = None
    problem: str | None = None
    overrun: timedelta = timedelta()
    problems: ProblemLog = field(default_factory=ProblemLog)

    def healthy(self, now: float, interval: timedelta) -> bool:
        """Whether work that is due gets done (docs/design/rules.md, "Faults and load")."""
        due_since = self.due_since
        since = self.ticked_at if due_since is None else max(due_since, self.progressed_at or due_since)
        return now - since <= MAX_IDLE_INTERVALS * interval.total_seconds()

    def due(self) -> None:
        """Note that work is due; if some was due before, it stays due since then."""
        self.due_since = self.due_since or monotonic()

    def progressed(self) -> None:
        """Note that a check, a request or a pass is done."""
        self.progressed_at = monotonic()

    def stuck(self, about: str, problem: str) -> None:
        """Note and log that due work cannot begin."""
        self.problem = problem
        self.due()
        self.problems.update(about, problem)

    def idle(self) -> None:
        """Note that no work is left, unless a problem keeps some due."""
        if self.problem is None:
            self.due_since = None


class Runtime:
    """What the parts of one daemon share. `active` is replaced when a commit was taken over."""

    def __init__(self, clock: SystemClock, state: OpenState, active: ActiveRevision) -> None:
        self.context = active.context
        self.clock = clock
        self.state = state
        self.ledger = state.ledger
        self.active = active
        self.health = Health(monotonic())
        self.context.progressed = self.health.progressed
        self.problems = self.health.problems
        self.freshness = Freshness(clock.now())
        """How new the revision in force is."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()

    async def reopen(self) -> None:
        """Open the state's key again where it could not be: it may be back, or the agent unlocked."""
        if self.state.vault.fault is not None and self.active.taken_over:
            self.state.vault = await reopened(self.active, self.ledger)
            self.problems.update("sealed", self.state.vault.fault)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task, which `finish` awaits."""
        _start(work, self._tasks)

    def tell(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that sends alerts, which no work waits for, and `have_told` does."""
        _start(work, self._telling)

    @property
    def only_this_task(self) -> bool:
        """Whether no other task is under way than the one that asks."""
        return not self._tasks - {asyncio.current_task()}

    async def finish(self) -> None:
        """Await the tasks under way for up to `GRACE_SECONDS`, then cancel them."""
        if self._tasks:
            log.info("daemon.stopping", passes=len(self._tasks))
            await _end(self._tasks, GRACE_SECONDS)

    async def have_told(self, seconds: float) -> None:
        """Await the alerts that are being sent for so long, then give them up."""
        if self._telling:
            await _end(self._telling, seconds)


def _start(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _end(tasks: set[asyncio.Task[None]], seconds: float) -> None:
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
