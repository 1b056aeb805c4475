"""The interface through which pages read everything that they show."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from reconciler.ledger.reader import LedgerReader
from reconciler.repository.git.checkout import Checkout
from reconciler.review.reviews import ReviewProgress
from reconciler.web.daemon_view import GitView, Live
from reconciler.web.filters import Filters, filters_of

__all__ = ["NoSuchPage", "Sources", "page_filters"]


class NoSuchPage(Exception):
    """There is no page of that address; the text says what is missing."""


class Sources(Protocol):
    """The daemon, its ledger and its repository, for threads that make pages; `DaemonView` implements it."""

    def now(self) -> Live:
        """Read what the daemon knows now."""

    def git(self, hires: Collection[str] = ()) -> GitView:
        """Read the integrations and these hires of the revision in force."""

    def reviews(self, ledger: LedgerReader) -> list[ReviewProgress]:
        """Compute how far each access review is."""

    def checkout(self) -> Checkout:
        """Open the repository for the caller alone."""

    def ledger(self) -> AbstractContextManager[LedgerReader]:
        """Open a reader for the caller alone."""


def page_filters(
    query: Iterable[tuple[str, str]], allowed: Collection[str], live: Live, integrations: Collection[str]
) -> Filters:
    """Read the filters of a page's URL. Raises BadFilter."""
    timezone = live.settings.timezone
    return filters_of(query, allowed, integrations=integrations, now=live.now, timezone=timezone)
