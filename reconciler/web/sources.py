"""Where pages get what they show from, and what is common to all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from reconciler.ledger.reader import LedgerReader
from reconciler.review.reviews import ReviewProgress
from reconciler.web.filters import Filters, filters_of
from reconciler.web.seen import FromGit, Live

__all__ = ["NoSuchPage", "Sources", "asked"]


class NoSuchPage(Exception):
    """There is no page of that address; the text says what is missing."""


class Sources(Protocol):
    """The daemon, its ledger and its repository, for threads that make pages; `reconciler.web.seen` has them."""

    def now(self) -> Live:
        """What the daemon knows now."""

    def git(self, hires: Collection[str] = ()) -> FromGit:
        """What the revision in force says of the integrations, and of these hires."""

    def reviews(self, ledger: LedgerReader) -> list[ReviewProgress]:
        """How far each access review is."""

    def ledger(self) -> AbstractContextManager[LedgerReader]:
        """A reader of the caller's own."""


def asked(
    query: Iterable[tuple[str, str]], allowed: Collection[str], live: Live, integrations: Collection[str]
) -> Filters:
    """The filters of a page's URL. Raises BadFilter."""
    timezone = live.settings.timezone
    return filters_of(query, allowed, integrations=integrations, now=live.now, timezone=timezone)
