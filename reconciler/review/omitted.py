"""Grants that a review omits: they existed at the revision that was reviewed, and have no line in its first commit.

A person who removes a line before the first commit can also make a new digest; git's history shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import date, datetime, timedelta
from functools import cache

from reconciler.model.errors import Problem, ReconcilerError
from reconciler.repository.desired import Desired
from reconciler.repository.files import Files
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import Tree
from reconciler.repository.reviews import ReviewFile

__all__ = ["OmittedGrants"]

A_DAY = timedelta(days=1)
"""The uncertainty of a date: which day it was depends on the time zone in force then."""


class OmittedGrants:
    """Compares reviews with the revisions that they name, each of which is loaded once."""

    def __init__(self, checkout: Checkout, load: Callable[[Tree], Files]) -> None:
        self._checkout = checkout
        self._load = load
        self._wanted = cache(self._read)

    def of(self, started: ReviewFile, beside: Collection[str] = ()) -> list[Problem]:
        """Report each grant that is omitted; none if git does not have the revision.

        `beside` are the lines that the integration's other files of the period had.
        """
        try:
            day = datetime.fromisoformat(started.text("read_at") or "").date()
        except ValueError:
            return []
        there = {*beside, *(str(line) for line in started.lines)}
        revision = started.text("revision") or ""
        return [
            Problem(
                started.path, None, f"{grant} is left out, which {revision[:12]} had: it was edited, or is of no start"
            )
            for integration, grant in self._wanted(revision, day)
            if integration == started.integration and grant not in there
        ]

    def _read(self, revision: str, day: date) -> list[tuple[str, str]]:
        """List the grants that certainly existed, as integration and `hire/access`."""
        try:
            files = self._load(self._checkout.at(revision))
        except ReconcilerError:
            return []
        days = [Desired(files, each) for each in (day - A_DAY, day + A_DAY)]
        found = [
            {(grant.integration, str(grant.key)) for hire in each.hires for grant in each.grants(hire)} for each in days
        ]
        return sorted(found[0] & found[1])
