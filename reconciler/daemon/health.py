"""How the daemon is: what health and readiness are told from, and what its log says of things that go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import structlog

__all__ = ["Health", "ProblemLog"]

log = structlog.get_logger()

STALE = 3
"""Intervals without a recorded check or request, while work is due, after which the daemon is not healthy."""


@dataclass(slots=True)
class Health:
    """What health and readiness are told from; moments are seconds of a clock that nobody sets, `time.monotonic`.

    `looked` is when the loop last looked at what is due. While it does not look, nobody knows that nothing is.
    `overrun` is by how much the slowest part of a resync overran the interval, from its turn until it was done.
    """

    looked: float
    ready: bool = False
    progress: float | None = None
    due_since: float | None = None
    problem: str | None = None
    overrun: timedelta = timedelta()

    def healthy(self, now: float, interval: timedelta) -> bool:
        """Whether work that is due gets done (docs/design/rules.md, "Faults and load")."""
        since = self.looked if self.due_since is None else max(self.due_since, self.progress or self.due_since)
        return now - since <= STALE * interval.total_seconds()

    def due(self) -> None:
        """There is work, from now on if there was none before."""
        self.due_since = self.due_since or monotonic()

    def stuck(self, problem: str) -> None:
        """Dispatcher that is due cannot even be begun."""
        self.problem = problem
        self.due()

    def idle(self) -> None:
        """There is no work left; what could not be done stays due."""
        if self.problem is None:
            self.due_since = None


class ProblemLog:
    """Says what is wrong when it begins, and when it is over; not every time in between."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, about: str, problem: str | None) -> None:
        """What is wrong with something now; None where nothing is."""
        before = self._told.get(about)
        if problem is None:
            if self._told.pop(about, None) is not None:
                log.info("daemon.recovered", about=about)
        elif problem != before:
            self._told[about] = problem
            log.error("daemon.problem", about=about, problem=problem)
