"""Whom a review leaves out: who had a grant at the revision that was reviewed, and has no line in what was started.

A digest can be made anew by whoever takes a line out before the file is first committed; git's history cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache

from reconciler.model.errors import Problem, ReconcilerError
from reconciler.repository.desired import Desired
from reconciler.repository.files import Files
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import Tree
from reconciler.repository.reviews import ReviewFile

__all__ = ["LeftOut"]

A_DAY = timedelta(days=1)
"""What dates are known to: which day it was depends on the time zone of the settings in force then."""


class LeftOut:
    """Compares reviews with the revisions that they say they are of, each of which is loaded once."""

    def __init__(self, checkout: Checkout, load: Callable[[Tree], Files]) -> None:
        self._checkout = checkout
        self._load = load
        self._wanted = cache(self._read)

    def of(self, started: ReviewFile) -> list[Problem]:
        """A problem for each grant that is left out; none where git does not have the revision."""
        try:
            day = datetime.fromisoformat(started.text("read_at") or "").date()
        except ValueError:
            return []
        there = {str(line) for line in started.lines}
        revision = started.text("revision") or ""
        return [
            Problem(
                started.path, None, f"{grant} is left out, which {revision[:12]} had: it was edited, or is of no start"
            )
            for integration, grant in self._wanted(revision, day)
            if integration == started.integration and grant not in there
        ]

    def _read(self, revision: str, day: date) -> list[tuple[str, str]]:
        """What everybody had for certain: as `hire/access`, with the integration."""
        try:
            files = self._load(self._checkout.at(revision))
        except ReconcilerError:
            return []
        days = [Desired(files, each) for each in (day - A_DAY, day + A_DAY)]
        found = [
            {(grant.integration, str(grant.key)) for hire in each.hires for grant in each.grants(hire)} for each in days
        ]
        return sorted(found[0] & found[1])
