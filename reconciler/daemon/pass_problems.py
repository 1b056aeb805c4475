"""Problems that show only when files are joined: entries that do not match, broken rules of the policy.

A daemon's pass covers some hires, so no single report has all problems. One that was found is kept until a pass over
the same file no longer finds it, or for two intervals: by then a resync has covered everybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from reconciler.model.errors import Problem
from reconciler.model.report import Report

__all__ = ["PassProblems"]


class PassProblems:
    """The problems that a daemon's passes found, without those of single files."""

    def __init__(self) -> None:
        self._found: dict[Problem, datetime] = {}

    def record(self, report: Report, of_files: Iterable[Problem], now: datetime, interval: timedelta) -> None:
        """Record a pass; `of_files` are the problems of its revision's files, which every report has."""
        sources = (row.source.rpartition(":")[0] for row in report.rows)
        covered = {file for file in sources if file.startswith("hires/")}  # a sequence's file serves many hires
        self._found = {
            problem: at
            for problem, at in self._found.items()
            if problem.file not in covered and now - at <= 2 * interval
        } | dict.fromkeys(set(report.problems).difference(of_files), now)

    def __call__(self) -> tuple[Problem, ...]:
        """Return the problems that are known now."""
        return tuple(self._found)
