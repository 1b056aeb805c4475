"""What passes found wrong where files meet: entries that do not fit, rules of the policy that are broken.

A daemon's passes go over some hires each, and none tells of all. What one found holds until a pass over the same files
no longer finds it, or two intervals are over: by then a resync has come past everybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from reconciler.model.errors import Problem
from reconciler.model.report import Report

__all__ = ["ProblemsFound"]


class ProblemsFound:
    """The problems that the passes of a daemon found, beside those of single files."""

    def __init__(self) -> None:
        self._found: dict[Problem, datetime] = {}

    def passed(self, report: Report, of_files: Iterable[Problem], now: datetime, interval: timedelta) -> None:
        """Take note of a pass; `of_files` are the problems of its revision's files, which any pass tells."""
        sources = (row.source.rpartition(":")[0] for row in report.rows)
        looked_at = {file for file in sources if file.startswith("hires/")}  # a sequence's file is many hires'
        self._found = {
            problem: at
            for problem, at in self._found.items()
            if problem.file not in looked_at and now - at <= 2 * interval
        } | dict.fromkeys(set(report.problems).difference(of_files), now)

    def __call__(self) -> tuple[Problem, ...]:
        """The problems as far as they are known."""
        return tuple(self._found)
