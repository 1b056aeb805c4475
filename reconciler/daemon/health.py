"""The daemon's health and readiness, and the log of its problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

import structlog

__all__ = ["Health", "ProblemLog"]

log = structlog.get_logger()

MAX_IDLE_INTERVALS = 3
"""Intervals without a recorded check or request, while work is due, after which the daemon is not healthy."""


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
